"""Which boxes meet: a sweep along one axis, so that most pairs are never looked at."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Corners = tuple[Float[Tensor, "ndim _"], Float[Tensor, "ndim _"]]
"""Minima and maxima, each coordinate in one run of memory. All of a box's are NaN, or none is: a
box of NaN is sorted last and meets nothing."""

Pairs = tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]
"""Places in the rows, and places in the columns."""

_ROWS_AT_ONCE = 128  # on a CPU; elsewhere all rows, since every few of them wait for the device


def shrunk(boxes: Shaped[Tensor, "boxes coords"], iou: float) -> Shaped[Tensor, "boxes coords"]:
    """Boxes so much smaller that those with a higher IoU still meet.

    On every axis such boxes share more than `iou` times the longer edge, hence more than what two
    boxes lose together that each give up half of `iou` times their edge at each end.
    """
    low, high = boxes.chunk(2, dim=1)
    rounding = 8 * torch.finfo(boxes.dtype).eps * torch.maximum(low.abs(), high.abs())
    loss = (0.499 * iou * (high - low) - rounding).clamp(min=0)
    return torch.cat([low + loss, high - loss], dim=1)


def meet_each_other(boxes: Corners) -> Pairs:
    """Pairs of the boxes that share a point, each once, the one that comes before first."""
    i, j = meet(boxes, boxes, once=True)
    return torch.minimum(i, j), torch.maximum(i, j)


def meet(rows: Corners, columns: Corners, *, once: bool = False) -> Pairs:
    """Pairs of boxes that share a point; touching is meeting, for boxes without volume.

    Along the axis on which boxes are spread most, a few rows meet a run of columns. `once`: rows
    and columns are the same boxes, and each looks at those behind it.
    """
    nothing = torch.zeros(0, dtype=torch.int64, device=rows[0].device)
    if not rows[0].shape[1] or not columns[0].shape[1]:
        return nothing, nothing
    axis = int((columns[0].amax(dim=1) - columns[0].amin(dim=1)).argmax())
    order_a = rows[0][axis].argsort()
    order_b = order_a if once else columns[0][axis].argsort()
    low_a, high_a = (half[:, order_a] for half in rows)
    low_b, high_b = (half[:, order_b] for half in columns)
    at_once = _ROWS_AT_ONCE if low_a.device.type == "cpu" else low_a.shape[1]
    pairs = [(nothing, nothing)]
    for first, start, stop in _runs(low_a[axis], high_a[axis], low_b[axis], high_b[axis], at_once):
        some, run = slice(first, first + at_once), slice(first if once else start, stop)
        room = _room((low_a[:, some], high_a[:, some]), (low_b[:, run], high_b[:, run]))
        place = (room >= 0).flatten().nonzero().squeeze(1)  # quicker than of two axes
        i, j = place // max(1, room.shape[1]), place % max(1, room.shape[1])
        i, j = (i[i < j], j[i < j]) if once else (i, j)
        pairs.append((order_a[some][i], order_b[run][j]))
    i, j = (torch.cat(places) for places in zip(*pairs, strict=True))
    return i, j


def touch(a: Corners, b: Corners) -> Bool[Tensor, "pairs"]:
    """Whether box i of one and box i of the other share a point."""
    return (torch.minimum(a[1], b[1]).sub_(torch.maximum(a[0], b[0])) >= 0).all(dim=0)


def _runs(
    low_a: Float[Tensor, "rows"],
    high_a: Float[Tensor, "rows"],
    low_b: Float[Tensor, "columns"],
    high_b: Float[Tensor, "columns"],
    at_once: int,
) -> list[list[int]]:
    """For every few rows the first of them, and where the columns that may meet them run."""
    first = torch.arange(0, len(low_a), at_once, device=low_a.device)
    highest = torch.stack([part.max() for part in high_a.split(at_once)])
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
