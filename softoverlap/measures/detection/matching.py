"""Which found box hits which lesion: the matching that FROC, AP, AR and the cohort share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._types import plain
from softoverlap.measures.criteria import centred_in
from softoverlap.measures.detection._assignment import greedy, shared as match_shared
from softoverlap.measures.detection.outcomes import IGNORED, Outcomes
from softoverlap.measures.detection.scans import (
    checked_scan,
    checked_scans,
    column,
    existence_of,
    ignored_of,
    several,
)
from softoverlap.measures.detection.sizes import ANY_SIZE, SizeClasses
from softoverlap.measures.hit import AnyHit, BoxKind, Hit, Scan, hit_of
from softoverlap.overlaps import box_iou, rotated_box_iou, soft_box_iou
from softoverlap.soft_box import is_soft, soft_box_faces

Thresholds = float | Sequence[float] | str

PRESETS = {
    "coco": tuple(round(0.05 * step, 2) for step in range(10, 20)),
    "nndetection": tuple(round(0.05 * step, 2) for step in range(2, 11)),
}
"""IoU thresholds by name: 0.5 to 0.95, and 0.1 to 0.5."""

_IOU = {"upright": box_iou, "oriented": rotated_box_iou, "soft": soft_box_iou}

_TIE = 1e-9
"""What the IoU of boxes adds to how well they meet: of equals, the nearer lesion is taken. A box
within two lesions has an IoF of 1 with both, and a criterion of booleans ranks nothing."""


@dataclass(frozen=True)
class Matching:
    """How scans are matched: once for each size class and threshold.

    A lesion counts 1, or with `weight="existence"` its existence: then one of existence 0 is not
    there. `needs_existence` refuses lesions whose existence nobody knows.
    """

    hits: tuple[Hit, ...]
    sizes: SizeClasses = ANY_SIZE
    weight: str | None = None
    needs_existence: bool = False

    @classmethod
    def of(
        cls,
        hit: AnyHit | None,
        threshold: float | None = None,
        thresholds: Thresholds | None = None,
        **options: Any,
    ) -> Matching:
        """That of a hit in any of its forms, at its threshold, at another, or at several."""
        if thresholds is None:
            return cls((hit_of(hit, threshold),), **options)
        if threshold is not None:
            raise ValueError(f"threshold must be None where thresholds are given, got {threshold}")
        levels = _several(thresholds)
        first = hit if isinstance(hit, Hit) else hit_of(hit, levels[0])
        return cls(tuple(first.at(level) for level in levels), **options)

    def __post_init__(self) -> None:
        check_choice("weight", self.weight, ("existence", None))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The lowest scores that hit."""
        return tuple(hit.threshold for hit in self.hits)

    @property
    def kind(self) -> BoxKind:
        """What boxes are matched."""
        return self.hits[0].kind

    def outcomes(self, predictions: Sequence[Scan], targets: Sequence[Scan]) -> Outcomes:
        """What hit what in all of the scans."""
        scans = checked_scans(predictions, targets, kind=self.kind)
        return Outcomes.joined(
            [
                self.of_scan(prediction, target, name=f"targets[{number}]")
                for number, (prediction, target) in enumerate(scans)
            ]
        )

    def of_scan(self, prediction: Scan, target: Scan, *, name: str) -> Outcomes:
        """What hit what in a scan that has been checked."""
        existence = torch.ones(len(target["label"]), dtype=torch.float64)
        if self.weight is not None:
            existence = existence_of(target, name, required=self.needs_existence)
        mean_boxes = self._mean(prediction["box"])
        means = {**target, "box": self._mean(target["box"])}
        sizes, scores = self.sizes.lesion_sizes(means), column(prediction["label_scores"])
        ignored, boxes = ignored_of(target, name), column(prediction["box"])
        quality, hits, same = self._hits(prediction, target)
        counted = hits & ((existence > 0) & ~ignored)[:, None]
        outcome, lesion = greedy(quality, counted, self.sizes.outside(sizes), scores, boxes)
        none = lesion < 0
        if ignored.any():
            met = hits | (same & centred_in(mean_boxes, means))
            outcome[none & _meeting(met, ignored)] = IGNORED
        if self.sizes.edges:
            outside = self.sizes.outside(self.sizes.box_sizes(mean_boxes, means))
            outcome[outside.mT[:, :, None] & none] = IGNORED
        return Outcomes(
            boxes=boxes,
            labels=column(prediction["label"]),
            scores=scores,
            outcome=outcome,
            lesion=lesion,
            lesion_boxes=column(target["box"]),
            lesion_labels=column(target["label"]),
            existence=existence,
            sizes=sizes,
            ignored=ignored,
            scans=torch.tensor([hits.shape[:0:-1]]),
            thresholds=self.thresholds,
            size_classes=self.sizes,
            soft=self.kind == "soft",
        )

    def _mean(self, boxes: Tensor) -> Tensor:
        """The mean of each soft box, which says where it lies and how large it is."""
        if self.kind != "soft" or not is_soft(boxes):
            return boxes
        return soft_box_faces(column(boxes), validate=False)[0]

    def _hits(
        self, prediction: Scan, target: Scan
    ) -> tuple[
        Float[Tensor, "lesions boxes"],
        Bool[Tensor, "thresholds lesions boxes"],
        Bool[Tensor, "lesions boxes"],
    ]:
        """How well each box meets each lesion, whether it hits, and whether labels agree."""
        lesions, boxes = column(target["label"]), column(prediction["label"])
        if not len(lesions) or not len(boxes):
            nothing = torch.zeros(len(self.hits), len(lesions), len(boxes))
            return nothing[0].double(), nothing.bool(), nothing[0].bool()
        same = lesions[:, None] == boxes[None]
        quality = self.hits[0].quality(plain(prediction["box"]), target)
        hits = torch.stack([hit.reached(quality) for hit in self.hits])
        pair = column(prediction["box"]), column(target["box"])
        nearness = _TIE * _IOU[self.kind](*pair, validate=False).mT
        return quality.double() + nearness, hits & same, same


def match_scan(
    prediction: Scan,
    target: Scan,
    *,
    hit: AnyHit | None = None,
    threshold: float | None = None,
    weight: str | None = None,
) -> Outcomes:
    """Which box of a scan took which lesion, as FROC and average precision count them.

    Args:
        prediction: As one item of `compute_froc`.
        target: As one item of `compute_froc`.
        hit: As in `compute_froc`.
        threshold: The lowest score that hits, by default the criterion's own; None for a `Hit`.
        weight: None, so that every lesion counts 1, or `"existence"`.

    Returns:
        The record of the scan: the outcome of each box and the lesion that it took.

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_froc`: keys or shapes are wrong, a value is not finite, an option
            is out of range, or `hit` returns another shape or NaN.

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 4.0]])
        >>> found = {"box": torch.tensor([[0.0, 3.0], [0.0, 4.0], [8.0, 9.0]])}
        >>> found |= {"label": torch.zeros(3), "label_scores": torch.tensor([0.9, 0.8, 0.7])}
        >>> outcomes = match_scan(found, {"box": box, "label": torch.zeros(1)})
        >>> outcomes.outcome.flatten(), outcomes.lesion.flatten()
        (tensor([ 1,  0, -1]), tensor([ 0, -1, -1]))
    """
    matching = Matching.of(hit, threshold, weight=weight)
    scan = checked_scan(prediction, target, "prediction", "target", kind=matching.kind)
    prediction, target = scan
    return matching.of_scan(prediction, target, name="target")


def match_quality(
    quality: Float[Tensor, "lesions boxes"],
    hits: Bool[Tensor, "lesions boxes"],
    *,
    boxes: Float[Tensor, "boxes coords"],
    scores: Float[Tensor, "boxes"] | None,
    lesion_boxes: Float[Tensor, "lesions coords"],
    existence: Sequence[float],
    sizes: Sequence[float],
    ignored: Bool[Tensor, "lesions"] | None = None,
    centred: Bool[Tensor, "lesions boxes"] | None = None,
    shared: bool = False,
) -> Outcomes:
    """Match a scan of one class where it is known what hits what, and how well.

    Args:
        quality: How well each box meets each lesion; the best of those that it hits is taken.
        hits: Which box hits which lesion.
        boxes: Found boxes, in voxels.
        scores: Their scores; boxes without, or of equal score, are matched together, as many as
            possible.
        lesion_boxes: Boxes of the lesions, in voxels.
        existence: What each lesion counts; one of existence 0 is not there.
        sizes: Their sizes.
        ignored: Lesions that are neither hit nor missed, by default none. A box that hits one, or
            is centred in it, and takes no other lesion is ignored too.
        centred: Which box has its centre in which lesion, as `centred_in` says; by default none.
        shared: By default a box takes one lesion at most, and one that hits only what others took
            is a duplicate. If true, as between masks, a lesion is taken by the box of the highest
            score that hits it, a box may take several, and every box that hits one is a hit.

    Returns:
        The record of the scan.

    Examples:
        >>> box = torch.tensor([[0.0, 4.0]], dtype=torch.float64)
        >>> outcomes = match_quality(
        ...     torch.tensor([[0.6]]), torch.tensor([[True]]), boxes=box, scores=None,
        ...     lesion_boxes=box, existence=[1.0], sizes=[4.0],
        ... )
        >>> outcomes.box_of_lesion
        [0]
    """
    one_class, lesion_class = (boxes.new_zeros(len(rows)) for rows in (boxes, lesion_boxes))
    ignored = lesion_class.bool() if ignored is None else ignored
    levels = one_class if scores is None else scores
    worth = lesion_class.new_tensor(existence)
    counted = hits & ((worth > 0) & ~ignored)[:, None]
    if shared:
        columns = [each[:, None, None] for each in match_shared(quality, counted, levels)]
    else:
        outside = ANY_SIZE.outside(lesion_class)
        columns = greedy(quality, counted[None], outside, levels, boxes)
    outcome, lesion, *taken_by = columns
    met = hits if centred is None else hits | centred
    outcome[(lesion < 0) & _meeting(met[None], ignored)] = IGNORED
    outcomes = Outcomes(
        boxes=boxes,
        labels=one_class,
        scores=one_class + math.nan if scores is None else scores,
        outcome=outcome,
        lesion=lesion,
        lesion_boxes=lesion_boxes,
        lesion_labels=lesion_class,
        existence=worth,
        sizes=lesion_class.new_tensor(sizes),
        ignored=ignored,
        scans=torch.tensor([[len(boxes), len(lesion_boxes)]]),
    )
    return replace(outcomes, found_by=taken_by[0]) if taken_by else outcomes


def _meeting(
    met: Bool[Tensor, "thresholds lesions boxes"], ignored: Bool[Tensor, "lesions"]
) -> Bool[Tensor, "boxes 1 thresholds"]:
    """Boxes that meet an ignored lesion."""
    return (met & ignored[:, None]).any(dim=1).mT[:, None]


def _several(thresholds: Thresholds) -> tuple[float, ...]:
    if isinstance(thresholds, str):
        check_choice("thresholds", thresholds, tuple(PRESETS))
        return PRESETS[thresholds]
    if isinstance(thresholds, float | int):
        return (float(thresholds),)
    levels = several("thresholds", thresholds)
    if not len(levels) or len(set(levels)) < len(levels):
        raise ValueError(f"thresholds must hold different numbers, got {tuple(levels)}")
    return tuple(float(level) for level in levels)
