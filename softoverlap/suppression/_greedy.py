"""The greedy loop that all hard suppression shares, on lists of the pairs that clash."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap.overlaps import BoxOverlap
from softoverlap.suppression._sweep import Pairs, meet, meet_each_other, shrunk

PairwiseScore = BoxOverlap | Callable[..., Tensor]
"""An overlap, or any function of boxes (N, 2 * ndim) and (M, 2 * ndim) to scores (N, M)."""

Clash = Callable[[Tensor, Tensor | None], Pairs]
"""From indices (R,) of rows and (C,) of columns to the pairs that overlap too much.

Without columns, to the pairs of rows, the one that comes before first.
"""

_FEW, _MANY = 256, 2048  # boxes in a block where most are dropped, and where most stay
_PAIRS_AT_ONCE = 1 << 14


@torch.no_grad()
def suppress(scores: Float[Tensor, "boxes"], clash: Clash) -> Int[Tensor, "kept"]:
    """Indices of the boxes that stay, by falling score (equal scores in the order given).

    A box goes if it clashes with one that stays and comes before it. Where boxes crowd, the best
    few clear the field, so blocks are small; where they don't, large ones are quicker.
    """
    order = scores.argsort(descending=True, stable=True)
    kept, size = order[:0], _FEW
    while len(order):
        block, order = order[:size], order[size:]
        before = len(kept)
        for part in kept.split(_MANY):
            stays = torch.ones_like(block, dtype=torch.bool)
            stays[clash(part, block)[1]] = False
            block = block[stays]
        kept = torch.cat([kept, block[_survivors(*clash(block, None), len(block))]])
        size = _MANY if len(kept) - before > size // 2 else _FEW
    return kept


@torch.no_grad()
def owners(kept: Int[Tensor, "kept"], count: int, clash: Clash) -> Int[Tensor, "boxes"]:
    """For every box the place in `kept` of the box that made it go, or its own."""
    owner = torch.full((count,), len(kept), dtype=torch.int64, device=kept.device)
    everything = torch.arange(count, device=kept.device)
    for first in range(0, len(kept), _MANY):
        part = kept[first : first + _MANY]
        for block in everything.split(_MANY):
            place, box = clash(part, block)
            owner.scatter_reduce_(0, block[box], first + place, "amin")
    owner[kept] = torch.arange(len(kept), device=kept.device)
    return owner


def clash_of(
    boxes: Shaped[Tensor, "boxes coords"],
    labels: Int[Tensor, "boxes"] | None,
    overlap: PairwiseScore,
    threshold: float,
) -> Clash:
    """Boxes of one class clash where their overlap is above the threshold."""
    if not isinstance(overlap, BoxOverlap) or overlap.least_iou is None or threshold < 0:
        return _dense_clash(boxes, labels, overlap, threshold)
    return meeting_clash(
        shrunk(boxes, overlap.least_iou(threshold)),
        labels,
        lambda i, j: overlap.pairs(boxes[i], boxes[j], validate=False) > threshold,
    )


def meeting_clash(
    boxes: Shaped[Tensor, "boxes coords"],
    labels: Int[Tensor, "boxes"] | None,
    exceeds: Callable[[Tensor, Tensor], Bool[Tensor, "pairs"]],
) -> Clash:
    """Boxes of one class clash where they meet, which is cheap to tell, and `exceeds` says so."""
    minima, maxima = (half.mT.contiguous() for half in boxes.chunk(2, dim=1))

    def clash(rows: Tensor, columns: Tensor | None) -> Pairs:
        corners = minima[:, rows], maxima[:, rows]
        if columns is None:
            columns, (i, j) = rows, meet_each_other(corners)
        else:
            i, j = meet(corners, (minima[:, columns], maxima[:, columns]))
        if labels is not None:
            same = labels[rows[i]] == labels[columns[j]]
            i, j = i[same], j[same]
        parts = zip(rows[i].split(_PAIRS_AT_ONCE), columns[j].split(_PAIRS_AT_ONCE), strict=True)
        over = torch.cat([exceeds(*part) for part in parts])
        return i[over], j[over]

    return clash


def _dense_clash(
    boxes: Tensor, labels: Tensor | None, overlap: PairwiseScore, threshold: float
) -> Clash:
    """All pairs are scored: the overlap may be above the threshold where boxes do not meet."""
    options = {"validate": False} if isinstance(overlap, BoxOverlap) else {}  # looked at before

    def clash(rows: Tensor, columns: Tensor | None) -> Pairs:
        others = rows if columns is None else columns
        found = overlap(boxes[rows], boxes[others], **options) > threshold
        if labels is not None:
            found &= labels[rows, None] == labels[others]
        i, j = (found.triu(1) if columns is None else found).nonzero(as_tuple=True)
        return i, j

    return clash


def _survivors(
    first: Int[Tensor, "pairs"], second: Int[Tensor, "pairs"], count: int
) -> Bool[Tensor, "boxes"]:
    """Which boxes stay. The first of a pair drops the second, which comes later, if it stays.

    Starting from all, each round settles at least one more box for good, so the fixed point is
    the greedy result; the rounds are as many as the longest chain of drops, usually a few.
    """
    stays = torch.ones(count, dtype=torch.bool, device=first.device)
    while True:
        following = torch.ones_like(stays)
        following[second[stays[first]]] = False
        if torch.equal(following, stays):
            return stays
        stays = following
