"""The tables of all masks at once: a kernel an axis, each of which adds up lines node by node.

So sums never fall along a line, and an empty layer adds exactly 0. The first kernel reads the
voxels and writes the borders of zeros, the others add up in place. Backward, lines are added up
from their ends, and the last kernel writes the gradient of each voxel. Masks may differ in shape;
they lie one behind the other, and so do their tables.
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._triton import on

_BLOCK = 128


def tables_of_all(voxels: Tensor, shapes: Sequence[Sequence[int]]) -> Tensor:
    """The tables, flat, float64, with a gradient to the voxels, which are those of all masks."""
    nodes = [[1] * (3 - len(shape)) + [side + 1 for side in shape] for shape in shapes]
    begins = [
        [0, *accumulate(math.prod(shape) for shape in shapes)],
        [0, *accumulate(math.prod(sides) for sides in nodes)],
    ]
    lines = [max(math.prod(sides) // sides[axis] for sides in nodes) for axis in range(3)]
    rows = [[*sides, *begin] for sides, *begin in zip(nodes, *begins, strict=False)]
    masks = torch.tensor(rows).to(voxels.device, non_blocking=True)
    return _Tables.apply(voxels, masks, len(shapes[0]), lines, begins[1][-1])  # pyright: ignore


class _Tables(torch.autograd.Function):
    @staticmethod
    def forward(ctx, voxels, masks, ndim, lines, size):
        ctx.save_for_backward(voxels, masks)
        ctx.ndim, ctx.lines = ndim, lines
        table = voxels.new_empty(size, dtype=torch.float64)
        for axis in reversed(range(3 - ndim, 3)):
            _add_up(ctx, voxels, table, masks, axis, backward=False)
        return table

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        voxels, masks = ctx.saved_tensors
        with torch.no_grad():
            table, found = gradients[0].clone(), torch.empty_like(voxels)
            for axis in range(3 - ctx.ndim, 3):
                _add_up(ctx, found, table, masks, axis, backward=True)
        tied = once_only("the table of a mask", [found], (voxels, *gradients))
        return *tied, None, None, None, None


def _add_up(
    ctx, voxels: Tensor, table: Tensor, masks: Tensor, axis: int, *, backward: bool
) -> None:
    most = torch.finfo(voxels.dtype).max if voxels.is_floating_point() else 0.0
    settings = {"AXIS": axis, "AXES": ctx.ndim, "BACKWARD": backward, "MOST": most}
    kernel: Any = add_up_lines
    with on(table.device):
        grid = (-(-ctx.lines[axis] // _BLOCK), len(masks))
        kernel[grid](voxels, table, masks, **settings, BLOCK=_BLOCK)


@triton.jit
def lines_along(line, a, b, c, AXIS: tl.constexpr):
    """Nodes of a line, steps between them, number of lines, and where those of a block begin."""
    length, step, lines, start = a, b * c, b * c, line
    if AXIS == 2:
        length, step, lines, start = c, c * 0 + 1, a * b, line * c
    elif AXIS == 1:
        length, step, lines, start = b, c, a * c, (line // c) * (b * c) + line % c
    return length, step, lines, start


@triton.jit
def add_up_lines(
    voxels,
    table,
    masks,
    AXIS: tl.constexpr,
    AXES: tl.constexpr,
    BACKWARD: tl.constexpr,
    MOST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Lines along an axis of three, of which masks of fewer axes have the last ones."""
    masks += tl.program_id(1) * 5
    a = tl.load(masks)
    b = tl.load(masks + 1)
    c = tl.load(masks + 2)
    voxels += tl.load(masks + 3)
    table += tl.load(masks + 4)
    line = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    length, step, lines, start = lines_along(line, a, b, c, AXIS)
    valid = line < lines
    filled = valid  # the lines that have voxels, and where those begin, less one
    before = line * 0 - 1
    if AXES == 3:
        filled = filled & (line // b > 0)
        before += (line // b - 1) * ((b - 1) * (c - 1))
    if AXES > 1:
        filled = filled & (line % b > 0)
        before += (line % b - 1) * (c - 1)
    total = tl.full([BLOCK], 0, tl.float64)
    for number in range(length):
        node = (length - 1 - number) if BACKWARD else number
        place = table + start + node * step
        if AXIS == 2 and not BACKWARD:
            read = tl.load(voxels + before + node, mask=filled & (node > 0), other=0)
        else:
            read = tl.load(place, mask=valid, other=0)
        total += read.to(tl.float64)
        if AXIS == 2 and BACKWARD:
            store_clamped(voxels + before + node, total, filled & (node > 0), MOST)
        else:
            tl.store(place, total, mask=valid)


@triton.jit
def store_clamped(places, values, filled, MOST: tl.constexpr):
    """Within the range of the type; by float32 to half precision, as PyTorch does."""
    values = tl.where(values > MOST, MOST, tl.where(values < -MOST, -MOST, values))
    if places.dtype.element_ty != tl.float64:
        values = values.to(tl.float32)
    tl.store(places, values.to(places.dtype.element_ty), mask=filled)
