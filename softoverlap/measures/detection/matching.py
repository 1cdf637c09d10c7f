"""Which found box hits which lesion: the greedy pass that FROC, AP, AR and the cohort share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._types import plain
from softoverlap.measures.detection.outcomes import (
    DUPLICATE,
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    Outcomes,
)
from softoverlap.measures.detection.scans import (
    check_scan,
    check_scans,
    column,
    existence_of,
    several,
)
from softoverlap.measures.detection.sizes import ANY_SIZE, SizeClasses
from softoverlap.measures.hit import AnyHit, Hit, Scan, hit_of

Thresholds = float | Sequence[float] | str

PRESETS = {
    "coco": tuple(round(0.05 * step, 2) for step in range(10, 20)),
    "nndetection": tuple(round(0.05 * step, 2) for step in range(2, 11)),
}
"""IoU thresholds by name: 0.5 to 0.95, and 0.1 to 0.5."""


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

    def outcomes(self, predictions: Sequence[Scan], targets: Sequence[Scan]) -> Outcomes:
        """What hit what in all of the scans."""
        check_scans(predictions, targets)
        return Outcomes.joined(
            [
                self.of_scan(prediction, target, name=f"targets[{number}]")
                for number, (prediction, target) in enumerate(
                    zip(predictions, targets, strict=True)
                )
            ]
        )

    def of_scan(self, prediction: Scan, target: Scan, *, name: str) -> Outcomes:
        """What hit what in a scan that has been checked."""
        existence = torch.ones(len(target["label"]), dtype=torch.float64)
        if self.weight is not None:
            existence = existence_of(target, name, required=self.needs_existence)
        sizes, scores = self.sizes.lesion_sizes(target), column(prediction["label_scores"])
        quality, hits = self._hits(prediction, target)
        ignored = self.sizes.outside(sizes)
        outcome, lesion = greedy(quality, hits & (existence > 0)[:, None], ignored, scores)
        if self.sizes.edges:
            outside = self.sizes.outside(self.sizes.box_sizes(prediction["box"], target))
            outcome[outside.mT[:, :, None] & (lesion < 0)] = IGNORED
        return Outcomes(
            boxes=column(prediction["box"]),
            labels=column(prediction["label"]),
            scores=scores,
            outcome=outcome,
            lesion=lesion,
            lesion_boxes=column(target["box"]),
            lesion_labels=column(target["label"]),
            existence=existence,
            sizes=sizes,
            scans=torch.tensor([hits.shape[:0:-1]]),
            thresholds=self.thresholds,
            size_classes=self.sizes,
        )

    def _hits(
        self, prediction: Scan, target: Scan
    ) -> tuple[Float[Tensor, "lesions boxes"], Bool[Tensor, "thresholds lesions boxes"]]:
        """How well each box meets each lesion, and whether it hits; labels must agree."""
        lesions, boxes = column(target["label"]), column(prediction["label"])
        if not len(lesions) or not len(boxes):
            nothing = torch.zeros(len(self.hits), len(lesions), len(boxes))
            return nothing[0].double(), nothing.bool()
        quality = self.hits[0].quality(plain(prediction["box"]), target)
        hits = torch.stack([hit.reached(quality) for hit in self.hits])
        return quality.double(), hits & (lesions[:, None] == boxes[None])


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
    check_scan(prediction, target, "prediction", "target")
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
) -> Outcomes:
    """Match a scan of one class where it is known what hits what, and how well.

    Args:
        quality: How well each box meets each lesion; the best of those that it hits is taken.
        hits: Which box hits which lesion.
        boxes: Found boxes, in voxels.
        scores: Their scores; None takes them in the order given.
        lesion_boxes: Boxes of the lesions, in voxels.
        existence: What each lesion counts.
        sizes: Their sizes.

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
    ignored = ANY_SIZE.outside(lesion_class)
    outcome, lesion = greedy(quality, hits[None], ignored, one_class if scores is None else scores)
    return Outcomes(
        boxes=boxes,
        labels=one_class,
        scores=one_class + math.nan if scores is None else scores,
        outcome=outcome,
        lesion=lesion,
        lesion_boxes=lesion_boxes,
        lesion_labels=lesion_class,
        existence=lesion_class.new_tensor(existence),
        sizes=lesion_class.new_tensor(sizes),
        scans=torch.tensor([[len(boxes), len(lesion_boxes)]]),
    )


def greedy(
    quality: Shaped[Tensor, "lesions boxes"],
    hits: Bool[Tensor, "thresholds lesions boxes"],
    ignored: Bool[Tensor, "sizes lesions"],
    scores: Float[Tensor, "boxes"],
) -> tuple[Int[Tensor, "boxes sizes thresholds"], Int[Tensor, "boxes sizes thresholds"]]:
    """By descending score each box takes the free lesion that it hits best, in every cell.

    Equal scores are taken in the order given. A lesion that a size class ignores is taken only
    where none that counts is free, as in COCO.

    Returns:
        Outcome of each box and the lesion that it took, -1 for none.
    """
    times, boxes, sizes = len(hits), hits.shape[2], len(ignored)
    order = scores.argsort(descending=True, stable=True).tolist()
    outcome, taken = _pass(
        quality.numpy(),
        hits.repeat(sizes, 1, 1).numpy(),
        ignored.repeat_interleave(times, dim=0).numpy(),
        order,
    )
    outcome, taken = (
        torch.from_numpy(cells.T.reshape(boxes, sizes, times)) for cells in (outcome, taken)
    )
    return outcome, taken


def _pass(
    quality: np.ndarray, hits: np.ndarray, ignored: np.ndarray, order: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and lesions taken, shape (cells, boxes)."""
    cells, lesions, boxes = hits.shape
    any_hit = hits.any(axis=1)
    outcome = np.where(any_hit, DUPLICATE, FALSE_POSITIVE)
    taken, free = np.full((cells, boxes), -1), np.ones((cells, lesions), dtype=bool)
    hitting = np.any(any_hit, axis=0)
    for box in order:
        if not hitting[box]:
            continue
        open_lesions = hits[:, :, box] & free
        counting = open_lesions & ~ignored
        choice = np.where(counting.any(axis=1, keepdims=True), counting, open_lesions)
        rows = np.flatnonzero(np.any(choice, axis=1))
        best = np.where(choice[rows], quality[:, box], -np.inf).argmax(axis=1)
        free[rows, best] = False
        taken[rows, box] = best
        outcome[rows, box] = np.where(ignored[rows, best], IGNORED, TRUE_POSITIVE)
    return outcome, taken


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
