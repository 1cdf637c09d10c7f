"""How large masks are at thresholds; a voxel is in a mask at a threshold if it is at or above it.

All sizes come from one pass. The voxels at or above a threshold in two maps are those whose smaller
value is, so three histograms give the sizes at any number of thresholds, and one sort gives all of
them. A value is compared with thresholds rounded to its own precision, as `mask >= 0.3` does in
torch: what is stored as 0.3 reaches 0.3. `counted` weighs voxels; where it is 0, values must be 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Voxels = Shaped[Tensor, " voxels"]
Weights = Float[Tensor, " voxels"] | None

_FINEST_GRID = 1 << 16
_PIECES_AT_ONCE = 1 << 20  # keeps a sort's sums in few megabytes


class Cells(NamedTuple):
    """Bounds of the sizes over each interval of thresholds; sizes fall as thresholds rise.

    `width` is that of each interval, (K,); `shared_*` bounds the size of the voxelwise minimum of
    two maps, `joint_*` that of their maximum.
    """

    width: Tensor
    shared_low: Tensor
    shared_high: Tensor
    joint_low: Tensor
    joint_high: Tensor


def sizes_at(
    pred: Tensor, truth: Tensor, thresholds: Float[Tensor, " levels"], counted: Tensor | None = None
) -> Float[Tensor, "batch channel 3 levels"]:
    """Sizes of intersection, prediction and target, both cut at each of the rising thresholds."""
    sizes = _room_for(pred, 3, len(thresholds))
    for row, (a, b, weights) in zip(sizes, voxels_of(pred, truth, counted), strict=True):
        first, second = levels(a, thresholds), levels(b, thresholds)
        for place, level in enumerate((torch.minimum(first, second), first, second)):
            row[place] = _at_least(level, len(thresholds), weights)
    return sizes.unflatten(0, pred.shape[:2])


def sizes_against(
    pred: Tensor, truth: Tensor, thresholds: Float[Tensor, " levels"], counted: Tensor | None = None
) -> Float[Tensor, "batch channel 3 levels"]:
    """Sizes of intersection, prediction and target where the prediction alone is cut."""
    sizes = _room_for(pred, 3, len(thresholds))
    for row, (a, b, weights) in zip(sizes, voxels_of(pred, truth, counted), strict=True):
        level = levels(a, thresholds)
        mass = b.double() if weights is None else b.double() * weights
        row[0] = _at_least(level, len(thresholds), mass)
        row[1] = _at_least(level, len(thresholds), weights)
        row[2] = mass.sum()
    return sizes.unflatten(0, pred.shape[:2])


def sizes_at_values(
    pred: Voxels, truth: Voxels, weights: Weights = None
) -> tuple[Float[Tensor, " levels"], Float[Tensor, "3 levels"]]:
    """The falling distinct values above 0 of a prediction, and the sizes where cut at each."""
    above = pred > 0
    values, order = pred[above].sort(descending=True)
    ends = torch.ones_like(values, dtype=torch.bool)
    ends[:-1] = values[1:] < values[:-1]
    weight = torch.ones_like(truth, dtype=torch.float64) if weights is None else weights
    mass = truth.double() * weight
    shared, size = (kept[above][order].cumsum(0)[ends] for kept in (mass, weight))
    return values[ends].double(), torch.stack([shared, size, mass.sum().expand_as(size)])


def levels(values: Voxels, thresholds: Float[Tensor, " levels"]) -> Int[Tensor, " voxels"]:
    """How many of the rising thresholds each value reaches.

    Cells of a power of two hold one threshold at most, so that a value meets one comparison and not
    a search; multiplying by a power of two rounds nothing.
    """
    known = thresholds.to(values.device, values.dtype)
    if values.dtype not in (torch.float32, torch.float64):
        known, values = known.float(), values.float()
    cells, scale = _grid(known)
    if cells is None:
        return torch.bucketize(values, known, right=True, out_int32=True)
    reached = torch.zeros(scale + 1, device=values.device, dtype=torch.int32)
    reached[1:] = torch.bincount(cells, minlength=scale + 1).cumsum(0)[:-1]
    own = torch.full((scale + 1,), torch.inf, device=values.device, dtype=values.dtype)
    own[cells] = known
    cell = (values * scale).int()
    small = torch.uint8 if len(known) < 255 else torch.int32
    return reached.to(small).index_select(0, cell) + (values >= own.index_select(0, cell))


def cells_between(pred: Voxels, truth: Voxels, bins: int, weights: Weights = None) -> Cells:
    """Bounds of the sizes between neighbours of a regular grid of thresholds, up to the maximum.

    The grid has `bins` cells, a power of two, up to the next power of two above the maximum.
    """
    lower, upper = torch.minimum(pred, truth), torch.maximum(pred, truth)
    top = upper.max().double()
    scale = bins / _next_power_of_two(top)
    edges = torch.arange(bins + 1, device=pred.device, dtype=torch.float64) / scale
    shared, joint = (_above(values, scale, bins, weights) for values in (lower, upper))
    width = (edges[1:].clamp(max=top) - edges[:-1]).clamp(min=0)
    return Cells(width, shared[1:], shared[:-1], joint[1:], joint[:-1])


def pieces(
    pred: Voxels, truth: Voxels, weights: Weights = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Widths of the intervals of thresholds in which nothing changes, from the maximum to 0.

    With each the sizes of the voxelwise minimum and maximum. Values of one map in [0, 1] are sorted
    as integers, whose order is that of floats, with a last bit that says which of the two they are.
    """
    maps = (torch.maximum(pred, truth), torch.minimum(pred, truth))
    above = [values > 0 for values in maps]
    number = {torch.float32: torch.int32, torch.float64: torch.int64}[pred.dtype]
    joint, shared = (
        values[where].view(number) * 2 for values, where in zip(maps, above, strict=True)
    )
    keys, order = torch.cat([joint, shared + 1]).sort(descending=True)
    weight = None if weights is None else torch.cat([weights[where] for where in above])[order]
    sizes = torch.zeros(2, 1, device=pred.device, dtype=torch.float64)
    for start in range(0, len(keys), _PIECES_AT_ONCE):
        part = keys[start : start + _PIECES_AT_ONCE + 1]  # one more: where the last piece ends
        value = torch.nn.functional.pad((part >> 1).view(pred.dtype).double(), (0, 1))
        part = part[:_PIECES_AT_ONCE]
        is_shared = (part & 1).bool()
        step = torch.stack([is_shared, ~is_shared]).double()
        if weight is not None:
            step *= weight[start : start + _PIECES_AT_ONCE]
        sizes = sizes[:, -1:] + step.cumsum(1)
        yield value[: len(part)] - value[1 : len(part) + 1], sizes[0], sizes[1]


def voxels_of(
    pred: Tensor, truth: Tensor, counted: Tensor | None
) -> Iterator[tuple[Voxels, Voxels, Weights]]:
    """The voxels of each item and channel in turn, with their weights, or None if all weigh 1."""
    partly = counted is not None and bool(((counted > 0) & (counted < 1)).any())
    for item in range(pred.shape[0]):
        weights = counted[item].flatten().double() if counted is not None and partly else None
        for channel in range(pred.shape[1]):
            yield pred[item, channel].flatten(), truth[item, channel].flatten(), weights


def _grid(thresholds: Tensor) -> tuple[Tensor | None, int]:
    """The cell of each threshold in the coarsest grid that keeps them apart, or None."""
    scale = 128
    while scale <= _FINEST_GRID:
        cells = (thresholds * scale).long()
        if bool((cells[1:] > cells[:-1]).all()):
            return cells, scale
        scale *= 2
    return None, 0


def _next_power_of_two(top: Tensor) -> Tensor:
    """The smallest power of two at or above a number in (0, 1]; not too small to divide by."""
    mantissa, exponent = torch.frexp(top)
    return torch.ldexp(torch.ones_like(top), (exponent - (mantissa == 0.5).int()).clamp(min=-99))


def _at_least(level: Tensor, count: int, weights: Weights) -> Tensor:
    """The size of the voxels that reach each of the thresholds."""
    return _from_cell(level, count, weights)[1:]


def _above(values: Voxels, scale: Tensor, bins: int, weights: Weights) -> Tensor:
    """The size of the voxels at or above each edge of a grid, but above 0 at the first."""
    sizes = _from_cell((values * scale.to(values.dtype)).int(), bins, weights)
    sizes[0] = values.count_nonzero() if weights is None else weights[values > 0].sum()
    return sizes


def _from_cell(cell: Tensor, last: int, weights: Weights) -> Tensor:
    """The size of the voxels in each cell and all those above, of the cells 0 to the last."""
    inside = torch.bincount(cell, weights=weights, minlength=last + 1).double()
    return inside.flip(0).cumsum(0).flip(0)


def _room_for(masks: Tensor, *shape: int) -> Tensor:
    maps = masks.shape[0] * masks.shape[1]
    return torch.zeros(maps, *shape, device=masks.device, dtype=torch.float64)
