"""The mass of soft masks in balls: each voxel's probability times what it shares with the ball.

A ball is met by the voxels around it alone, some layers at a time, forward and backward, so memory
stays that of a block. What lies up to each node of the grid is computed once; its differences are
the shares of the voxels, exactly, whether the ball holds them, cuts them or misses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._types import accumulation_dtype
from softoverlap.balls import halves, up_to_corner, within

_VOXELS_PER_BLOCK = 1 << 18

Window = tuple[slice, ...]


def mass_in_balls(
    masks: Shaped[Tensor, "lesions *spatial"],
    balls: Float[Tensor, "balls coords"],
    *,
    aligned: bool,
) -> Float[Tensor, "*pairs"]:
    """Mass of all masks in all balls, (K, N), or of mask i in ball i, (N,), float64."""
    return _BallMass.apply(masks, balls, aligned)  # pyright: ignore[reportReturnType]


class _BallMass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, masks, balls, aligned):
        ctx.save_for_backward(masks, balls)
        ctx.aligned = aligned
        mass = masks.new_zeros((1 if aligned else len(masks), len(balls)), dtype=torch.float64)
        for number, rows, window in _blocks(masks, balls, aligned):
            share = _share(balls[number], window)
            inside = masks[(rows, *window)].to(torch.float64)
            mass[:, number] += (inside * share).flatten(1).sum(dim=1)
        mass = mass.masked_fill(~balls.isfinite().all(dim=1), math.nan)
        return mass[0] if aligned else mass

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            found = _BallMass._gradients(ctx, gradients[0])
        inputs = (*ctx.saved_tensors, *gradients)
        return *once_only("the mass of a mask in a ball", found, inputs), None

    @staticmethod
    def _gradients(ctx, gradient: Tensor) -> list[Tensor | None]:
        (masks, balls), needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
        to_masks = torch.zeros_like(masks, dtype=accumulation_dtype(masks)) if needed[0] else None
        to_balls = torch.zeros_like(balls, dtype=torch.float64) if needed[1] else None
        gradient = gradient[None] if ctx.aligned else gradient
        for number, rows, window in _blocks(masks, balls, ctx.aligned):
            weight = gradient[:, number].view(-1, *[1] * len(window))
            if to_masks is not None:
                share = _share(balls[number], window)
                to_masks[(rows, *window)] += (weight * share).to(to_masks.dtype)
            if to_balls is not None:
                pull = (weight * masks[(rows, *window)].to(torch.float64)).sum(dim=0)
                with torch.enable_grad():
                    ball = balls[number].detach().requires_grad_()
                    moved = (pull * _share(ball, window)).sum()
                to_balls[number] += torch.autograd.grad(moved, ball)[0]
        found = zip((to_masks, to_balls), (masks, balls), strict=True)
        return [None if grad is None else grad.to(of.dtype) for grad, of in found]


def _share(box: Shaped[Tensor, "coords"], window: Window) -> Float[Tensor, "*window"]:
    """Volume that each voxel of a window shares with the ball in a box that is not flat."""
    centre, radii = halves(box)
    nodes, ndim = [], len(centre)
    for axis, (part, middle, radius) in enumerate(zip(window, centre, radii, strict=True)):
        places = torch.arange(part.start, part.stop + 1, dtype=torch.float64, device=box.device)
        shape = [-1 if place == axis else 1 for place in range(ndim)]
        nodes.append(((places - middle) / radius).view(shape))
    share = up_to_corner(*nodes)
    for axis in range(ndim):
        share = share.diff(dim=axis)
    return within(share * reduce(torch.mul, radii), torch.ones_like(share))


def _blocks(masks: Tensor, balls: Tensor, aligned: bool) -> Iterator[tuple[int, slice, Window]]:
    """For each ball, by its number, the rows of its masks and the voxels around it, in layers.

    Only values tell them, so on a GPU this waits for the device, once.
    """
    ndim = balls.shape[1] // 2
    for number, box in enumerate(balls.detach().tolist()):
        sides = list(zip(box[:ndim], box[ndim:], masks.shape[1:], strict=True))
        if not all(-math.inf < low < high < math.inf for low, high, _ in sides):
            continue
        window = [
            slice(max(0, math.floor(low)), min(size, math.ceil(high))) for low, high, size in sides
        ]
        rows = slice(number, number + 1) if aligned else slice(None)
        layer = math.prod(max(0, part.stop - part.start) for part in window[1:])
        if not layer or window[0].stop <= window[0].start:
            continue
        step = max(1, _VOXELS_PER_BLOCK // (layer * (1 if aligned else max(1, len(masks)))))
        for start in range(window[0].start, window[0].stop, step):
            yield number, rows, (slice(start, min(start + step, window[0].stop)), *window[1:])
