"""Average precision of found boxes: at several thresholds, of each class and size class.

Matching is that of FROC (see `compute_froc`), but a duplicate is false, as
in COCO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from softoverlap.measures.detection import _curves
from softoverlap.measures.detection._cells import cells_of
from softoverlap.measures.detection.matching import Matching, Thresholds
from softoverlap.measures.detection.measure import BoxMeasure
from softoverlap.measures.detection.outcomes import Outcomes
from softoverlap.measures.detection.sizes import ALL, SizeClasses
from softoverlap.measures.hit import AnyHit, Scan
from softoverlap.measures.inputs import Spacing


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of each class that occurs.

    Args:
        mean: Mean over the classes and thresholds in [0, 1], NaN without lesions.
        per_class: Average precision in [0, 1] of each label (or name) that some lesion has, the
            mean over thresholds; others are absent, since their recall is not defined.
        lesions: Number of lesions counted.
        scans: Number of scans counted.
        boxes: Number of found boxes counted.
        per_threshold: The mean over classes at each threshold.
        per_size: The mean over classes and thresholds of each size class that some lesion has.
        scores: Every single one, by (class, threshold, size class); the size class of all lesions
            is "all".

    Examples:
        >>> AveragePrecision(mean=0.5, per_class={0: 0.25, 1: 0.75}, lesions=9).per_class[1]
        0.75
    """

    mean: float
    per_class: dict[int | str, float] = field(default_factory=dict)
    lesions: int = 0
    scans: int = 0
    boxes: int = 0
    per_threshold: dict[float, float] = field(default_factory=dict)
    per_size: dict[str, float] = field(default_factory=dict)
    scores: dict[tuple[int | str, float, str], float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BoxAP(BoxMeasure):
    """Average precision of found boxes as a measure.

    `score` gives the mean over the classes that occur and the thresholds, `details` each of them.
    The settings are the options of `compute_average_precision`.

    Raises:
        TypeError: As in `compute_average_precision`.
        ValueError: As in `compute_average_precision`.

    Examples:
        >>> import torch
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.zeros(1)}
        >>> BoxAP(thresholds="coco")([{**target, "label_scores": torch.ones(1)}], [target])
        tensor(1., dtype=torch.float64)
    """

    hit: AnyHit | None = None
    threshold: float | None = None
    thresholds: Thresholds | None = None
    size_edges: Sequence[float] = ()
    spacing: Spacing | str | None = None
    size_of: str = "box"
    class_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _curves.checked_names(self.class_names)
        super().__post_init__()

    def _matching(self) -> Matching:
        sizes = SizeClasses.checked(self.size_edges, self.spacing, self.size_of)
        return Matching.of(self.hit, self.threshold, self.thresholds, sizes=sizes)

    def details(self, outcomes: Outcomes | Sequence[Outcomes]) -> AveragePrecision:
        """Average precision of each class, threshold and size class, and its means."""
        pooled = self.pooled(outcomes)
        scores: dict[Any, float] = {
            (cell.label, cell.threshold, cell.size): _curves.precision_area(
                cell.scores, cell.hits, cell.found, cell.lesions
            )
            for cell in cells_of(pooled, self.class_names)
        }
        everywhere = {key: value for key, value in scores.items() if key[2] == ALL}
        sized = {key: value for key, value in scores.items() if key[2] != ALL}
        return AveragePrecision(
            mean=_curves.mean(everywhere.values()),
            per_class=_curves.means_by(everywhere, 0),
            lesions=int((~pooled.ignored).sum()),
            scans=len(pooled.scans),
            boxes=len(pooled.boxes),
            per_threshold=_curves.means_by(everywhere, 1),
            per_size=_curves.means_by(sized, 2),
            scores=scores,
        )

    def value(self, outcomes: Outcomes | Sequence[Outcomes]) -> float:
        """The mean over the classes that occur and the thresholds."""
        return self.details(outcomes).mean


def compute_average_precision(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: AnyHit | None = None,
    threshold: float | None = None,
    thresholds: Thresholds | None = None,
    size_edges: Sequence[float] = (),
    spacing: Spacing | str | None = None,
    size_of: str = "box",
    class_names: Sequence[str] | None = None,
) -> AveragePrecision:
    """Area under the precision envelope over recall, a class at a time.

    Precision at a recall is the highest one reached at that recall or above, and the area is
    summed over every step of recall (the all-point form of Pascal VOC 2010). Boxes of equal score
    make one operating point. A duplicate is false, and so is every box in a scan without lesions.
    Every lesion counts 1, whatever its existence, unless it is ignored.

    Size classes follow COCO: a lesion of another size is ignored, and so are a box that takes such
    a lesion and an unmatched box whose own size lies outside the class. A box takes an ignored
    lesion only if it hits no free one that counts.

    Args:
        predictions: As in `compute_froc`.
        targets: As in `compute_froc`.
        hit: As in `compute_froc`; by default the IoU of the boxes.
        threshold: The lowest score that hits, for AP@0.5 pass 0.5; by default the criterion's own.
        thresholds: In place of `threshold`, not beside it: a number, several, or `"coco"` for 0.5
            to 0.95, or `"nndetection"` for 0.1 to 0.5, both in steps of 0.05.
        size_edges: Edges between size classes, rising, in mm³ with `spacing`, else in voxels; a
            class is half-open, `[low, high)`.
        spacing: Edges of a voxel in mm, one number for cubes, or the key under which each target
            has them.
        size_of: The size of a lesion: `"box"`, the volume of its box, or `"mask"`, Σ probability;
            a found box has the volume of its box.
        class_names: Names of the labels 0, 1, ...; without, results stand under the label.

    Returns:
        Average precision in [0, 1] of each label that some lesion has, and their mean, NaN where
        there is no lesion at all. Classes that only predictions have are absent, and so are size
        classes without lesions. Size classes are named with their unit: "<10 mm³",
        "10–100 mm³", "≥100 mm³", or "<10 voxels".

    Raises:
        TypeError: If an item is not a dict of tensors, `hit` is none of what it may be or
            returns neither booleans nor scores, or a list is a single value.
        ValueError: If there is no scan, keys or shapes are wrong, a value is not finite, a label
            is not whole, "lesions" are not those of the boxes in their order, or an option is out
            of range.

    References:
        Everingham et al., The Pascal Visual Object Classes Challenge: A Retrospective,
        https://doi.org/10.1007/s11263-014-0733-5
        Lin et al., Microsoft COCO, https://arxiv.org/abs/1405.0312 (thresholds and size classes)

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> prediction = {
        ...     "box": torch.tensor([[0.0, 0.0, 4.0, 3.0]]), "label": torch.tensor([0]),
        ...     "label_scores": torch.tensor([0.9]),
        ... }
        >>> target = {"box": box, "label": torch.tensor([0])}
        >>> compute_average_precision([prediction], [target], threshold=0.5).per_class
        {0: 1.0}
        >>> several = compute_average_precision(
        ...     [prediction], [target], thresholds="coco", class_names=["nodule"]
        ... )
        >>> several.per_class, several.per_threshold[0.75], several.per_threshold[0.8]
        ({'nodule': 0.6}, 1.0, 0.0)
    """
    measure = BoxAP(
        hit=hit,
        threshold=threshold,
        thresholds=thresholds,
        size_edges=size_edges,
        spacing=spacing,
        size_of=size_of,
        class_names=class_names,
    )
    return measure.details(measure.statistics(predictions, targets))
