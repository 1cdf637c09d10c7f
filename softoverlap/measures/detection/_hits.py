"""Which found box hits which lesion: the greedy pass that FROC, AP and AR share.

Rows of the whole data set are pooled as float64 tensors on the CPU, so that ranks can gather
them, however many each of them has: a row a found box, a row a lesion, a row a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap._checks import check_tensors
from softoverlap._types import plain
from softoverlap.measures.detection._scans import check_scan, check_scans, column, existence_of
from softoverlap.measures.detection._sizes import ANY_SIZE, SizeClasses
from softoverlap.measures.detection.hits import Criterion, Hit, Scan, check_thresholds, criterion_of

TRUE_POSITIVE, DUPLICATE, FALSE_POSITIVE, IGNORED = 1, 0, -1, 2


@dataclass(frozen=True)
class HitRule:
    """How boxes are matched; with `grid` once for each size class and threshold."""

    criterion: Criterion
    thresholds: tuple[float, ...]
    sizes: SizeClasses = ANY_SIZE
    by_existence: bool = False
    needs_existence: bool = False
    grid: bool = False

    @classmethod
    def of(cls, hit: Any, thresholds: Sequence[float], **options: Any) -> HitRule:
        """The rule of a criterion by name or callable; the thresholds are checked."""
        criterion = criterion_of(hit)
        check_thresholds(hit, thresholds)
        return cls(criterion, tuple(thresholds), **options)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Columns of a box, a lesion and a scan."""
        cells = len(self.thresholds) * (1 + len(self.sizes.bounds))
        return (2 + cells if self.grid else 4), 3, 3


@dataclass(frozen=True, eq=False)
class Pooled:
    """All scans' rows.

    A box has its label, its score and then either its outcome and the lesion that it took (its
    number in the scan, -1 for none), or an outcome for each size class and threshold.
    A lesion has its label, its existence and its size; a scan its numbers of boxes, lesions and
    axes.
    """

    boxes: Float[Tensor, "boxes box_columns"]
    lesions: Float[Tensor, "lesions 3"]
    scans: Float[Tensor, "scans 3"]

    def __post_init__(self) -> None:
        if not len(self.scans):
            raise ValueError("predictions must hold at least one scan, got none")

    @property
    def ndim(self) -> int:
        """Number of the boxes' axes."""
        return int(self.scans[:, 2].max())

    @property
    def scan_of_box(self) -> Int[Tensor, "boxes"]:
        """Number of each box's scan."""
        return torch.arange(len(self.scans)).repeat_interleave(self.scans[:, 0].long())

    @property
    def scan_of_lesion(self) -> Int[Tensor, "lesions"]:
        """Number of each lesion's scan."""
        return torch.arange(len(self.scans)).repeat_interleave(self.scans[:, 1].long())

    @property
    def lesion_of_box(self) -> Int[Tensor, "boxes"]:
        """The row of the lesion that each box took, -1 for none."""
        first = self.scans[:, 1].long().cumsum(0) - self.scans[:, 1].long()
        taken = self.boxes[:, 3].long()
        return torch.where(taken >= 0, first[self.scan_of_box] + taken, -1)


def pooled_rows(
    predictions: Sequence[Scan], targets: Sequence[Scan], rule: HitRule
) -> tuple[
    Float[Tensor, "boxes box_columns"], Float[Tensor, "lesions 3"], Float[Tensor, "scans 3"]
]:
    """The rows that `Pooled` holds, and that ranks gather."""
    check_scans(predictions, targets)
    pools = [[torch.zeros(0, width).double()] for width in rule.widths]
    for number, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        rows = _rows_of_scan(prediction, target, rule, f"targets[{number}]")
        for pool, more in zip(pools, rows, strict=True):
            pool.append(more)
    boxes, lesions, scans = (torch.cat(pool) for pool in pools)
    return boxes, lesions, scans


def _rows_of_scan(
    prediction: Scan, target: Scan, rule: HitRule, name: str
) -> tuple[Tensor, Tensor, Tensor]:
    labels, sizes = column(target["label"]), rule.sizes.lesion_sizes(target)
    existence = torch.ones_like(labels)
    if rule.by_existence:
        existence = existence_of(target, name, required=rule.needs_existence)
    outcome, taken = _outcomes(prediction, target, rule, existence > 0, sizes)
    results = outcome if rule.grid else torch.cat([outcome, taken])
    columns = [column(prediction[key])[None] for key in ("label", "label_scores")]
    counts = [len(prediction["label"]), len(labels), target["box"].shape[1] // 2]
    return (
        torch.cat([*columns, results.double()]).mT,
        torch.stack([labels, existence, sizes], dim=1),
        torch.tensor([counts]).double(),
    )


def match_scan(
    prediction: Scan,
    target: Scan,
    *,
    hit: Hit | None = None,
    threshold: float = 0.1,
) -> tuple[Int[Tensor, "boxes"], Int[Tensor, "boxes"]]:
    """Which box of a scan took which lesion, as FROC and average precision count them.

    Every lesion of the target counts, whatever its existence.

    Args:
        prediction: As one item of `compute_froc`.
        target: As one item of `compute_froc`.
        hit: As in `compute_froc`.
        threshold: The lowest score that hits.

    Returns:
        Outcome of each box: 1 for a lesion found, 0 for a duplicate, -1 for a false positive; and
        the lesion that it took, -1 for none. Both int64, shape (N,).

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_froc`: keys or shapes are wrong, a value is not finite, an option
            is out of range, or `hit` returns another shape or NaN.

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 4.0]])
        >>> found = {"box": torch.tensor([[0.0, 3.0], [0.0, 4.0], [8.0, 9.0]])}
        >>> found |= {"label": torch.zeros(3), "label_scores": torch.tensor([0.9, 0.8, 0.7])}
        >>> match_scan(found, {"box": box, "label": torch.zeros(1)})
        (tensor([ 1,  0, -1]), tensor([ 0, -1, -1]))
    """
    rule = HitRule.of(hit, (threshold,))
    check_scan(prediction, target, "prediction", "target")
    every = torch.ones(len(target["label"]))
    outcome, taken = _outcomes(prediction, target, rule, every > 0, every.double())
    return outcome[0], taken[0]


def _outcomes(
    prediction: Scan,
    target: Scan,
    rule: HitRule,
    exists: Bool[Tensor, "lesions"],
    sizes: Float[Tensor, "lesions"],
) -> tuple[Int[Tensor, "cells boxes"], Int[Tensor, "cells boxes"]]:
    """Outcomes and lesions taken, a row for each size class and threshold."""
    quality, hits = _hits_of_scan(prediction, target, rule)
    hits &= exists[:, None]
    times = len(rule.thresholds)
    classes = rule.sizes if rule.grid else ANY_SIZE
    ignored = classes.outside(sizes).repeat_interleave(times, dim=0)
    hits = hits.repeat(len(ignored) // times, 1, 1)
    order = column(prediction["label_scores"]).argsort(descending=True, stable=True)
    outcome, taken = _greedy(quality.numpy(), hits.numpy(), ignored.numpy(), order.numpy())
    if classes.edges:
        boxes = classes.box_sizes(prediction["box"], target)
        out = classes.outside(boxes).repeat_interleave(times, dim=0).numpy()
        outcome[out & (taken < 0)] = IGNORED
    return torch.from_numpy(outcome), torch.from_numpy(taken)


def _greedy(
    quality: np.ndarray, hits: np.ndarray, ignored: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """By descending score each box takes the free lesion that it hits best, in every cell.

    A lesion that a cell ignores is taken only where none that counts is free, as in COCO.
    """
    cells, lesions, boxes = hits.shape
    any_hit = hits.any(axis=1)
    outcome = np.where(any_hit, DUPLICATE, FALSE_POSITIVE)
    taken, free = np.full((cells, boxes), -1), np.ones((cells, lesions), dtype=bool)
    for box in order[np.any(any_hit, axis=0)[order]].tolist():
        open_lesions = hits[:, :, box] & free
        counting = open_lesions & ~ignored
        choice = np.where(counting.any(axis=1, keepdims=True), counting, open_lesions)
        rows = np.flatnonzero(np.any(choice, axis=1))
        best = np.where(choice[rows], quality[:, box], -np.inf).argmax(axis=1)
        free[rows, best] = False
        taken[rows, box] = best
        outcome[rows, box] = np.where(ignored[rows, best], IGNORED, TRUE_POSITIVE)
    return outcome, taken


def _hits_of_scan(
    prediction: Scan, target: Scan, rule: HitRule
) -> tuple[Float[Tensor, "lesions boxes"], Bool[Tensor, "times lesions boxes"]]:
    """How well each box hits each lesion, and whether it does; labels must agree."""
    lesions, boxes = column(target["label"]), column(prediction["label"])
    if not len(lesions) or not len(boxes):
        nothing = torch.zeros(len(rule.thresholds), len(lesions), len(boxes))
        return nothing[0].double(), nothing.bool()
    quality = rule.criterion(plain(prediction["box"]), target)
    hits = [_as_hits(quality, (len(lesions), len(boxes)), limit) for limit in rule.thresholds]
    return column(quality), torch.stack(hits) & (lesions[:, None] == boxes[None])


def _as_hits(
    quality: Tensor, shape: tuple[int, int], threshold: float
) -> Bool[Tensor, "lesions boxes"]:
    """Booleans as they are, scores by the threshold, compared in the scores' own dtype."""
    check_tensors(hit=quality)
    if tuple(quality.shape) != shape:
        raise ValueError(
            f"hit must return shape (lesions, boxes) = {shape}, got {tuple(quality.shape)}"
        )
    quality = plain(quality).detach().cpu()
    if quality.dtype == torch.bool:
        return quality
    if not quality.is_floating_point():
        raise TypeError(f"hit must return booleans or scores, got dtype {quality.dtype}")
    if quality.isnan().any():
        raise ValueError("hit must return numbers, got NaN")
    return quality >= threshold
