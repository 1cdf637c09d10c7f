"""The greedy loop that all hard suppression shares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap.overlaps import (
    box_ciou,
    box_dice,
    box_diou,
    box_eiou,
    box_giou,
    box_iof,
    box_iou,
    box_nwd,
)

Overlap = Callable[..., Tensor]
"""A pairwise overlap: boxes (N, 2 * ndim) and (M, 2 * ndim) to scores (N, M)."""

Clash = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From indices (R,), indices (C,) and the pairs asked for (R, C) to those that overlap too much."""

_BOXES_PER_BLOCK = 512
_OURS = (box_ciou, box_dice, box_diou, box_eiou, box_giou, box_iof, box_iou, box_nwd)


def suppress(
    scores: Float[Tensor, "boxes"], labels: Int[Tensor, "boxes"], clash: Clash
) -> Int[Tensor, "kept"]:
    """Indices of the boxes that stay, by falling score (equal scores in the order given).

    A box goes if it clashes with one of its class that stays and comes before it.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = order[:0]
    for block in order.split(_BOXES_PER_BLOCK):
        for part in kept.split(_BOXES_PER_BLOCK):
            block = block[~clash(part, block, _of_one_class(labels, part, block)).any(dim=0)]
        later = _of_one_class(labels, block, block).triu(1)
        kept = torch.cat([kept, block[_survivors(clash(block, block, later))]])
    return kept


def owners(
    kept: Int[Tensor, "kept"], labels: Int[Tensor, "boxes"], clash: Clash
) -> Int[Tensor, "boxes"]:
    """For every box the place in `kept` of the box that made it go, or its own."""
    owner = torch.full_like(labels, -1, dtype=torch.int64)
    everything = torch.arange(len(labels), device=labels.device)
    for first in range(0, len(kept), _BOXES_PER_BLOCK):
        part = kept[first : first + _BOXES_PER_BLOCK]
        for block in everything.split(_BOXES_PER_BLOCK):
            found = clash(part, block, _of_one_class(labels, part, block))
            new = found.any(dim=0) & (owner[block] < 0)
            owner[block] = torch.where(new, first + found.int().argmax(dim=0), owner[block])
    owner[kept] = torch.arange(len(kept), device=labels.device)
    return owner


def clash_of(boxes: Tensor, overlap: Overlap, threshold: float) -> Clash:
    """Boxes clash where their overlap is above the threshold."""
    score = unchecked(overlap)

    def clash(rows: Tensor, columns: Tensor, asked: Tensor) -> Tensor:
        return (score(boxes[rows], boxes[columns]) > threshold) & asked

    return clash


def unchecked(overlap: Overlap) -> Overlap:
    """The overlap without a second look at values, if it is one of this package."""
    if overlap not in _OURS:
        return overlap
    return lambda a, b: overlap(a, b, validate=False)


def _of_one_class(
    labels: Int[Tensor, "boxes"], rows: Int[Tensor, "rows"], columns: Int[Tensor, "columns"]
) -> Bool[Tensor, "rows columns"]:
    return labels[rows, None] == labels[None, columns]


def _survivors(clash: Bool[Tensor, "boxes boxes"]) -> Bool[Tensor, "boxes"]:
    """Which boxes stay. Row i drops column j > i if row i stays.

    Starting from all, each round settles at least one more box for good, so the fixed point is
    the greedy result; the rounds are as many as the longest chain of drops, usually a few.
    """
    stays = torch.ones(len(clash), dtype=torch.bool, device=clash.device)
    while True:
        following = ~(clash & stays[:, None]).any(dim=0)
        if torch.equal(following, stays):
            return stays
        stays = following
