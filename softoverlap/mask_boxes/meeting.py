"""Which masks and boxes meet, so that other pairs are never read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap._checks import is_traced
from softoverlap._types import Boxes
from softoverlap.mask_boxes.tables import SummedVolume

_PAIRS_PER_GROUP = 1 << 20
_WINDOWS_WORTH_SORTING = 16

Pairs = tuple[Tensor, Tensor]
"""Rows and columns, as many of one as of the other; groups differ in length."""

Corner = Sequence[int] | Sequence[float]


def meeting_pairs(volume: SummedVolume, boxes: Boxes) -> Iterator[Pairs]:
    """Rows (masks) and columns (boxes) of all pairs whose overlap can differ from 0, in groups.

    On the CPU, outside graphs, these are the boxes that meet or touch the crop, and every box for a
    mask without mass (its score may be `empty`, or NaN). Elsewhere all pairs: finding out would
    need a synchronisation. A group is as many masks as keep the memory of their scores small.
    """
    count, device = boxes.shape[0], volume.device
    if is_traced():
        yield _all_pairs(volume.starts.shape[0], count, device)
        return
    if device.type != "cpu":
        step = max(1, _PAIRS_PER_GROUP // max(1, count))
        for first in range(0, len(volume), step):
            rows = torch.arange(first, min(first + step, len(volume)), device=device)
            yield (
                rows.repeat_interleave(count),
                torch.arange(count, device=device).repeat(len(rows)),
            )
        return
    group: list[Pairs] = []
    for row, columns in enumerate(_meeting_columns(volume, boxes)):
        if group and sum(len(found) for _, found in group) + len(columns) > _PAIRS_PER_GROUP:
            yield _joined(group)
            group = []
        group.append((torch.full_like(columns, row), columns))
    if group:
        yield _joined(group)


def _all_pairs(masks: int, boxes: int, device: torch.device) -> Pairs:
    """All of them, by operations that a graph holds for any number."""
    rows = torch.arange(masks, device=device)[:, None].expand(masks, boxes)
    columns = torch.arange(boxes, device=device).expand(masks, boxes)
    return rows.reshape(-1), columns.reshape(-1)


def meeting_boxes(
    boxes: Boxes, lower: Sequence[Corner], upper: Sequence[Corner]
) -> Iterator[Int[Tensor, "found"]]:
    """For each window the boxes that meet or touch it; NaN is kept, to come out as NaN."""
    columns = boxes.detach().t().contiguous()
    if columns.dtype not in (torch.float32, torch.float64):
        columns = columns.float() if columns.is_floating_point() else columns.double()
    if len(lower) < _WINDOWS_WORTH_SORTING or not columns.shape[1]:
        everything = torch.arange(columns.shape[1], device=columns.device)
        for low, high in zip(lower, upper, strict=True):
            yield everything[_touching(columns, low, high)]
        return
    order, runs = _sorted_runs(columns, lower, upper)
    columns = columns[:, order]
    for low, high, (start, stop) in zip(lower, upper, runs, strict=True):
        run = slice(start, stop)
        yield order[run][_touching(columns[:, run], low, high)].sort().values


def _sorted_runs(
    columns: Float[Tensor, "coords boxes"], lower: Sequence[Corner], upper: Sequence[Corner]
) -> tuple[Int[Tensor, "boxes"], list[list[int]]]:
    """The boxes ordered along the first axis, and the run of them that may meet each window."""
    first, last = columns[0].nan_to_num(nan=-torch.inf), columns[len(columns) // 2]
    first, order = first.sort()
    reach = last[order].nan_to_num(nan=torch.inf).cummax(dim=0).values
    start = torch.searchsorted(reach, reach.new_tensor([corner[0] for corner in lower]))
    stop = torch.searchsorted(first, first.new_tensor([corner[0] for corner in upper]), right=True)
    return order, torch.stack([start, stop], dim=1).tolist()


def _touching(
    columns: Float[Tensor, "coords boxes"], lower: Corner, upper: Corner
) -> Int[Tensor, "found"]:
    ndim = len(lower)
    apart = (columns[0] > upper[0]).logical_or_(columns[ndim] < lower[0])
    found = _places(apart.logical_not_())
    for axis in range(1, ndim):
        low, high = (columns[place].index_select(0, found) for place in (axis, axis + ndim))
        apart = (low > upper[axis]).logical_or_(high < lower[axis])
        found = found.index_select(0, _places(apart.logical_not_()))
    return found


def _places(inside: Bool[Tensor, "boxes"]) -> Int[Tensor, "found"]:
    """Where it is true; NumPy takes a quarter of the time that PyTorch takes."""
    if inside.device.type == "cpu":
        return torch.from_numpy(inside.numpy().nonzero()[0])
    return inside.nonzero()[:, 0]


def _meeting_columns(volume: SummedVolume, boxes: Boxes) -> Iterator[Tensor]:
    """For each mask the boxes that it may meet."""
    massive = (volume.sizes > 0).tolist()  # not so for NaN
    lower, upper = volume.offsets.tolist(), (volume.offsets + volume.shapes).tolist()
    for has_mass, found in zip(massive, meeting_boxes(boxes, lower, upper), strict=True):
        yield found if has_mass else torch.arange(boxes.shape[0])


def _joined(group: list[Pairs]) -> Pairs:
    rows, columns = zip(*group, strict=True)
    return torch.cat(rows), torch.cat(columns)
