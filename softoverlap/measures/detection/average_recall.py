"""Average recall of found boxes when a scan may show only so many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from softoverlap.measures.detection import _curves
from softoverlap.measures.detection._cells import Cell, cells_of
from softoverlap.measures.detection.matching import Matching, Thresholds
from softoverlap.measures.detection.measure import BoxMeasure
from softoverlap.measures.detection.outcomes import Outcomes
from softoverlap.measures.detection.scans import several
from softoverlap.measures.detection.sizes import ALL, SizeClasses
from softoverlap.measures.hit import AnyHit, Scan
from softoverlap.measures.inputs import Spacing

MAX_DETECTIONS = (1, 10, 100)


@dataclass(frozen=True)
class AverageRecall:
    """Recall of each class that occurs, averaged over thresholds.

    Args:
        mean: Mean over the classes and thresholds in [0, 1] at the largest number of detections,
            NaN without lesions.
        per_detections: The mean over classes and thresholds at each number of detections a scan.
        per_class: Mean over thresholds of each label (or name) that some lesion has, at the
            largest number of detections.
        per_threshold: The mean over classes at each threshold, at the largest number.
        per_size: The mean over classes and thresholds of each size class that some lesion has, at
            the largest number.
        scores: Every single one, by (class, threshold, size class, number of detections); the size
            class of all lesions is "all".
        lesions: Number of lesions counted.
        scans: Number of scans counted.
        boxes: Number of found boxes counted.

    Examples:
        >>> AverageRecall(mean=0.5, per_detections={1: 0.25, 10: 0.5}).per_detections[1]
        0.25
    """

    mean: float
    per_detections: dict[int, float] = field(default_factory=dict)
    per_class: dict[int | str, float] = field(default_factory=dict)
    per_threshold: dict[float, float] = field(default_factory=dict)
    per_size: dict[str, float] = field(default_factory=dict)
    scores: dict[tuple[int | str, float, str, int], float] = field(default_factory=dict)
    lesions: int = 0
    scans: int = 0
    boxes: int = 0


@dataclass(frozen=True, kw_only=True)
class BoxAR(BoxMeasure):
    """Average recall of found boxes as a measure.

    `score` gives the mean at the largest number of detections, `details` all of them. The settings
    are the options of `compute_average_recall`.

    Raises:
        TypeError: As in `compute_average_recall`.
        ValueError: As in `compute_average_recall`.

    Examples:
        >>> import torch
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.zeros(1)}
        >>> BoxAR()([{**target, "label_scores": torch.ones(1)}], [target])
        tensor(1., dtype=torch.float64)
    """

    hit: AnyHit | None = None
    thresholds: Thresholds = "coco"
    max_detections: Sequence[int] = MAX_DETECTIONS
    size_edges: Sequence[float] = ()
    spacing: Spacing | str | None = None
    size_of: str = "box"
    class_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _checked_limits(self.max_detections)
        _curves.checked_names(self.class_names)
        super().__post_init__()

    def _matching(self) -> Matching:
        sizes = SizeClasses.checked(self.size_edges, self.spacing, self.size_of)
        return Matching.of(self.hit, None, self.thresholds, sizes=sizes)

    def details(self, outcomes: Outcomes | Sequence[Outcomes]) -> AverageRecall:
        """Recall of each class, threshold, size class and number of boxes, and its means."""
        pooled, limits = self.pooled(outcomes), _checked_limits(self.max_detections)
        scores: dict[Any, float] = {
            (cell.label, cell.threshold, cell.size, limit): _recall(cell, limit)
            for cell in cells_of(pooled, self.class_names)
            for limit in limits
        }
        everywhere = {key: value for key, value in scores.items() if key[2] == ALL}
        last = {key: value for key, value in scores.items() if key[3] == limits[-1]}
        top = {key: value for key, value in last.items() if key[2] == ALL}
        sized = {key: value for key, value in last.items() if key[2] != ALL}
        return AverageRecall(
            mean=_curves.mean(top.values()),
            per_detections=_curves.means_by(everywhere, 3),
            per_class=_curves.means_by(top, 0),
            per_threshold=_curves.means_by(top, 1),
            per_size=_curves.means_by(sized, 2),
            scores=scores,
            lesions=int((~pooled.ignored).sum()),
            scans=len(pooled.scans),
            boxes=len(pooled.boxes),
        )

    def value(self, outcomes: Outcomes | Sequence[Outcomes]) -> float:
        """The mean at the largest number of detections."""
        return self.details(outcomes).mean


def compute_average_recall(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: AnyHit | None = None,
    thresholds: Thresholds = "coco",
    max_detections: Sequence[int] = MAX_DETECTIONS,
    size_edges: Sequence[float] = (),
    spacing: Spacing | str | None = None,
    size_of: str = "box",
    class_names: Sequence[str] | None = None,
) -> AverageRecall:
    """COCO's AR: the share of lesions found by the best 1, 10, 100 boxes of each scan and class.

    Of each scan and class the boxes with the highest scores count, and recall is averaged over the
    thresholds and the classes that occur. Where the cut falls between boxes of equal score, each of
    them counts the share that fits, as on average over their orders. Matching and size classes are
    those of `compute_average_precision`.

    Args:
        predictions: As in `compute_froc`.
        targets: As in `compute_froc`.
        hit: As in `compute_froc`; by default the IoU of the boxes.
        thresholds: The lowest scores that hit: a number, several, or `"coco"` for 0.5 to 0.95, or
            `"nndetection"` for 0.1 to 0.5, both in steps of 0.05.
        max_detections: How many boxes of a class a scan may show, each at least 1.
        size_edges: As in `compute_average_precision`.
        spacing: As in `compute_average_precision`.
        size_of: As in `compute_average_precision`.
        class_names: Names of the labels 0, 1, ...; without, results stand under the label.

    Returns:
        Recall in [0, 1], NaN where there is no lesion at all. Classes that only predictions have
        are absent, and so are size classes without lesions.

    Raises:
        TypeError: As in `compute_average_precision`.
        ValueError: As in `compute_average_precision`, and if a number of detections is below 1.

    References:
        Lin et al., Microsoft COCO, https://arxiv.org/abs/1405.0312
        Hosang et al., What makes for effective detection proposals?,
        https://arxiv.org/abs/1502.05082

    Examples:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 12.0, 12.0]])
        >>> target = {"box": boxes, "label": torch.tensor([0, 0])}
        >>> prediction = {**target, "label_scores": torch.tensor([0.9, 0.8])}
        >>> compute_average_recall([prediction], [target]).per_detections
        {1: 0.5, 10: 1.0, 100: 1.0}
    """
    measure = BoxAR(
        hit=hit,
        thresholds=thresholds,
        max_detections=max_detections,
        size_edges=size_edges,
        spacing=spacing,
        size_of=size_of,
        class_names=class_names,
    )
    return measure.details(measure.statistics(predictions, targets))


def _recall(cell: Cell, limit: int) -> float:
    fits = ((limit - cell.above) / cell.equal).clamp(0, 1)
    return (cell.found * fits).sum().item() / cell.lesions


def _checked_limits(max_detections: Sequence[int]) -> tuple[int, ...]:
    limits = tuple(sorted(set(several("max_detections", max_detections))))
    if not all(isinstance(limit, Integral) for limit in limits):
        raise TypeError(f"max_detections must hold integers, got {max_detections}")
    if not limits or limits[0] < 1:
        raise ValueError(f"max_detections must hold numbers of at least 1, got {max_detections}")
    return limits
