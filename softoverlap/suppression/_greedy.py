"""The greedy loop that all hard suppression shares, on lists of the pairs that clash."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap import overlaps

Overlap = Callable[..., Tensor]
"""A pairwise overlap: boxes (N, 2 * ndim) and (M, 2 * ndim) to scores (N, M)."""

Pairs = tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]
"""Places in the rows, and places in the columns."""

Corners = tuple[Float[Tensor, "ndim boxes"], Float[Tensor, "ndim boxes"]]
"""Minima and maxima, each coordinate in one run of memory."""

Clash = Callable[[Tensor, Tensor | None], Pairs]
"""From indices (R,) of rows and (C,) of columns to the pairs that overlap too much.

Without columns, to the pairs of rows, the one that comes before first.
"""

_BOXES_PER_BLOCK = 2048
_ROWS_AT_ONCE = 128
_PAIRS_AT_ONCE = 1 << 14
_UP_TO_IOU = {  # at most the IoU, or 0 where it is: above 0 only where boxes meet
    overlaps.box_iou: overlaps.box_pair_iou,
    overlaps.box_dice: overlaps.box_pair_dice,
    overlaps.box_iof: overlaps.box_pair_iof,
    overlaps.box_giou: overlaps.box_pair_giou,
    overlaps.box_diou: overlaps.box_pair_diou,
    overlaps.box_ciou: overlaps.box_pair_ciou,
    overlaps.box_eiou: overlaps.box_pair_eiou,
}


def suppress(scores: Float[Tensor, "boxes"], clash: Clash) -> Int[Tensor, "kept"]:
    """Indices of the boxes that stay, by falling score (equal scores in the order given).

    A box goes if it clashes with one that stays and comes before it.
    """
    order = scores.argsort(descending=True, stable=True)
    kept = order[:0]
    for block in order.split(_BOXES_PER_BLOCK):
        for part in kept.split(_BOXES_PER_BLOCK):
            stays = torch.ones_like(block, dtype=torch.bool)
            stays[clash(part, block)[1]] = False
            block = block[stays]
        kept = torch.cat([kept, block[_survivors(*clash(block, None), len(block))]])
    return kept


def owners(kept: Int[Tensor, "kept"], count: int, clash: Clash) -> Int[Tensor, "boxes"]:
    """For every box the place in `kept` of the box that made it go, or its own."""
    owner = torch.full((count,), len(kept), dtype=torch.int64, device=kept.device)
    everything = torch.arange(count, device=kept.device)
    for first in range(0, len(kept), _BOXES_PER_BLOCK):
        part = kept[first : first + _BOXES_PER_BLOCK]
        for block in everything.split(_BOXES_PER_BLOCK):
            place, box = clash(part, block)
            owner.scatter_reduce_(0, block[box], first + place, "amin")
    owner[kept] = torch.arange(len(kept), device=kept.device)
    return owner


def clash_of(
    boxes: Shaped[Tensor, "boxes coords"],
    labels: Int[Tensor, "boxes"] | None,
    overlap: Overlap,
    threshold: float,
) -> Clash:
    """Boxes of one class clash where their overlap is above the threshold."""
    aligned = _UP_TO_IOU.get(overlap)
    if aligned is not None and threshold >= 0:
        share = {overlaps.box_iof: 0.0, overlaps.box_dice: threshold / (2 - threshold)}
        return meeting_clash(
            _shrunk(boxes, share.get(overlap, threshold)),
            labels,
            lambda i, j: aligned(boxes[i], boxes[j], validate=False) > threshold,
        )
    score = _unchecked(overlap)

    def clash(rows: Tensor, columns: Tensor | None) -> Pairs:
        others = rows if columns is None else columns
        found = score(boxes[rows], boxes[others]) > threshold
        if labels is not None:
            found &= labels[rows, None] == labels[others]
        return _both((found.triu(1) if columns is None else found).nonzero())

    return clash


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
            columns, (i, j) = rows, _meet_each_other(corners)
        else:
            i, j = _meet(corners, (minima[:, columns], maxima[:, columns]))
        if labels is not None:
            same = labels[rows[i]] == labels[columns[j]]
            i, j = i[same], j[same]
        parts = zip(rows[i].split(_PAIRS_AT_ONCE), columns[j].split(_PAIRS_AT_ONCE), strict=True)
        over = torch.cat([exceeds(*part) for part in parts])
        return i[over], j[over]

    return clash


def _meet_each_other(boxes: Corners) -> Pairs:
    """Pairs of the boxes that share a point, the one that comes before first."""
    i, j = _meet(boxes, boxes, once=True)
    first, second = torch.minimum(i, j), torch.maximum(i, j)
    different = first < second
    return first[different], second[different]


def _meet(rows: Corners, columns: Corners, *, once: bool = False) -> Pairs:
    """Pairs of boxes that share a point; touching is meeting, for boxes without volume.

    A sweep: along the axis on which boxes are spread most, a few rows meet a run of columns.
    `once`: rows and columns are the same, and a row need not look back.
    """
    nothing = torch.zeros(0, dtype=torch.int64, device=rows[0].device)
    if not rows[0].shape[1] or not columns[0].shape[1]:
        return nothing, nothing
    axis = int((columns[0].amax(dim=1) - columns[0].amin(dim=1)).argmax())
    order_a, order_b = rows[0][axis].argsort(), columns[0][axis].argsort()
    low_a, high_a = (half[:, order_a] for half in rows)
    low_b, high_b = (half[:, order_b] for half in columns)
    pairs = [(nothing, nothing)]
    for first, start, stop in _runs(low_a[axis], high_a[axis], low_b[axis], high_b[axis]):
        some, run = slice(first, first + _ROWS_AT_ONCE), slice(first if once else start, stop)
        room = _room((low_a[:, some], high_a[:, some]), (low_b[:, run], high_b[:, run]))
        place = (room >= 0).flatten().nonzero().squeeze(1)  # quicker than of two axes
        width = max(1, room.shape[1])
        pairs.append((order_a[some][place // width], order_b[run][place % width]))
    i, j = (torch.cat(places) for places in zip(*pairs, strict=True))
    return i, j


def _runs(
    low_a: Float[Tensor, "rows"],
    high_a: Float[Tensor, "rows"],
    low_b: Float[Tensor, "columns"],
    high_b: Float[Tensor, "columns"],
) -> list[list[int]]:
    """For every few rows the first of them, and where the columns that may meet them run."""
    first = torch.arange(0, len(low_a), _ROWS_AT_ONCE, device=low_a.device)
    highest = torch.stack([part.max() for part in high_a.split(_ROWS_AT_ONCE)])
    start = torch.searchsorted(high_b.cummax(dim=0).values, low_a[first])
    stop = torch.searchsorted(low_b, highest, right=True)
    return torch.stack([first, start, stop], dim=1).tolist()


def _room(rows: Corners, columns: Corners) -> Float[Tensor, "rows columns"]:
    """The shortest edge that all pairs of boxes share, below 0 for boxes apart."""
    room, edge, low = (rows[0].new_empty((rows[0].shape[1], columns[0].shape[1])) for _ in range(3))
    room.fill_(float("inf"))
    for low_a, high_a, low_b, high_b in zip(*rows, *columns, strict=True):
        torch.minimum(high_a[:, None], high_b, out=edge)
        torch.maximum(low_a[:, None], low_b, out=low)
        torch.minimum(room, edge.sub_(low), out=room)
    return room


def _shrunk(boxes: Shaped[Tensor, "boxes coords"], iou: float) -> Shaped[Tensor, "boxes coords"]:
    """Boxes so much smaller that those with a higher IoU still meet.

    On every axis such boxes share more than `iou` times the longer edge, hence more than what two
    boxes lose together that each give up half of `iou` times their edge at each end.
    """
    low, high = boxes.chunk(2, dim=1)
    rounding = 8 * torch.finfo(boxes.dtype).eps * torch.maximum(low.abs(), high.abs())
    loss = (0.499 * iou * (high - low) - rounding).clamp(min=0)
    return torch.cat([low + loss, high - loss], dim=1)


def _unchecked(overlap: Overlap) -> Overlap:
    """The overlap without a second look at values, if it is one of this package."""
    if overlap not in _UP_TO_IOU and overlap is not overlaps.box_nwd:
        return overlap
    return lambda a, b: overlap(a, b, validate=False)


def _both(pairs: Int[Tensor, "pairs 2"]) -> Pairs:
    first, second = pairs.unbind(1)
    return first, second


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
