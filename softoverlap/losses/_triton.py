"""Losses of masks on a GPU: one kernel reads the volumes for the sums, one writes the gradient.

Forward, each program adds up its share of the voxels of one item, and stores what it found for
each channel: Σ shared, Σ prediction and Σ target. PyTorch adds those up, in one order, so that two
runs agree to the last bit. The activation is computed on the way and never stored.

Backward, a program reads its voxels again and writes their gradient, which needs three numbers of
each item and channel: how the loss changes with each of its sums. With a softmax a program holds
all channels of its voxels, else one; other channels are other items to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._triton import on
from softoverlap._types import accumulation_dtype

MOST_CHANNELS = 256
"""Of a softmax: so many are held at once."""

_VALUES_PER_BLOCK = 2048
_PROGRAMS = 4096  # a few waves on the largest GPU
_WIDE = {torch.float32: tl.float32, torch.float64: tl.float64}


def sums(
    logits: Tensor, target: Tensor, *, softmax: bool, sigmoid: bool, form: str, first: int
) -> list[Tensor]:
    """Intersection, size of the prediction and size of the target, each (B, C - first).

    Args:
        logits: What the activation is applied to, shape (B, C, *spatial), floating.
        target: The same shape.
        softmax: Over all channels, also those before `first`.
        sigmoid: In its place; with neither, the logits are probabilities.
        form: `"min"`, `"product"` or `"squared"`.
        first: The first channel that counts.
    """
    activation = "softmax" if softmax else "sigmoid" if sigmoid else "none"
    found = _Sums.apply(logits.flatten(2), target.flatten(2), activation, form)
    return [total[:, first:] for total in found]  # pyright: ignore[reportGeneralTypeIssues]


class _Layout(NamedTuple):
    """How the work is cut: a group of channels is what one program holds of a voxel."""

    channels: int
    groups: int
    voxels: int
    block: int

    @classmethod
    def of(cls, logits: Tensor, activation: str) -> _Layout:
        channels = logits.shape[1]
        together = channels if activation == "softmax" else 1
        block = max(16, _VALUES_PER_BLOCK // triton.next_power_of_2(together))
        return cls(together, channels // together, logits.shape[2], block)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "CHANNELS": self.channels,
            "GROUPS": self.groups,
            "TILE": triton.next_power_of_2(self.channels),
            "BLOCK": self.block,
        }


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, target, activation, form):
        ctx.save_for_backward(logits, target)
        wide = accumulation_dtype(logits, target)
        layout = _Layout.of(logits, activation)
        ctx.layout = layout
        ctx.settings = {
            **layout.settings,
            "ACTIVATION": activation,
            "FORM": form,
            "WIDE": _WIDE[wide],
        }
        items = logits.shape[0] * layout.groups
        blocks = triton.cdiv(layout.voxels, layout.block)
        programs = min(blocks, max(1, _PROGRAMS // max(1, items)))
        shape = (3, programs, *logits.shape[:2])
        partial = logits.new_empty(shape, dtype=wide)
        if partial.numel():
            with on(logits.device):
                _add_up[(programs, items)](
                    logits,
                    target,
                    partial,
                    *logits.stride(),
                    *target.stride(),
                    layout.voxels,
                    partial.stride(0),
                    partial.stride(1),
                    **ctx.settings,
                )
        return tuple(partial.sum(dim=1, dtype=torch.float64).to(wide).unbind(0))

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            found = _Sums._gradients(ctx, gradients)
        inputs = (*ctx.saved_tensors, *gradients)
        return *once_only("a loss of masks on a GPU", found, inputs), None, None

    @staticmethod
    def _gradients(ctx, gradients) -> list[Tensor | None]:
        logits, target = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        slopes = torch.stack(gradients)  # (3, B, C)
        found = [
            torch.empty_like(values) if need else None
            for values, need in zip((logits, target), needed, strict=True)
        ]
        items, blocks = logits.shape[0] * ctx.layout.groups, ctx.layout.voxels
        grid = (triton.cdiv(blocks, ctx.layout.block), items)
        if logits.numel() and any(needed):
            to_logits, to_target = (
                values if grad is None else grad
                for grad, values in zip(found, (logits, target), strict=True)
            )
            with on(logits.device):
                _write_gradients[grid](
                    logits,
                    target,
                    slopes,
                    to_logits,
                    to_target,
                    *logits.stride(),
                    *target.stride(),
                    *to_logits.stride(),
                    *to_target.stride(),
                    ctx.layout.voxels,
                    slopes.stride(0),
                    TO_LOGITS=needed[0],
                    TO_TARGET=needed[1],
                    **ctx.settings,
                )
        return found


@triton.jit
def _places(step_batch, step_channel, item, rows, GROUPS: tl.constexpr, CHANNELS: tl.constexpr):
    """Where the channels of an item begin; a large volume has more than 2^31 values."""
    channels = (item % GROUPS) * CHANNELS + rows
    return (item // GROUPS).to(tl.int64) * step_batch + channels.to(tl.int64) * step_channel


@triton.jit
def _activated(values, real, inside, ACTIVATION: tl.constexpr):
    """Probabilities of a tile of channels (rows) and voxels; 0 beyond its ends."""
    if ACTIVATION == "softmax":
        values = tl.where(real, values, float("-inf"))
        powers = tl.exp(values - tl.max(values, axis=0)[None, :])
        values = powers / tl.sum(powers, axis=0)[None, :]
    elif ACTIVATION == "sigmoid":
        values = 1 / (1 + tl.exp(-values))
    return tl.where(inside, values, 0)


@triton.jit
def _slope_of_minimum(mine, other):
    """A tie has half of the gradient, but at 0 and at 1, where one side lies outside."""
    tie = tl.where((other == 0) | (other == 1), other, 0.5)
    return tl.where(mine == other, tie, tl.where(mine < other, 1.0, 0.0))


@triton.jit
def _store(places, values, inside):
    if places.dtype.element_ty != tl.float64:
        values = values.to(tl.float32)  # as PyTorch does on the way to half precision
    tl.store(places, values.to(places.dtype.element_ty), mask=inside)


@triton.jit
def _add_up(
    logits,
    target,
    partial,
    logits_batch,
    logits_channel,
    logits_voxel,
    target_batch,
    target_channel,
    target_voxel,
    voxels,
    kind_step,
    program_step,
    CHANNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr,
    FORM: tl.constexpr,
    WIDE: tl.constexpr,
):
    program, item = tl.program_id(0), tl.program_id(1)
    rows = tl.arange(0, TILE)
    real = (rows < CHANNELS)[:, None]
    logits += _places(logits_batch, logits_channel, item, rows, GROUPS, CHANNELS)[:, None]
    target += _places(target_batch, target_channel, item, rows, GROUPS, CHANNELS)[:, None]
    shared = tl.full([TILE, BLOCK], 0, WIDE)
    size = tl.full([TILE, BLOCK], 0, WIDE)
    size_of_target = tl.full([TILE, BLOCK], 0, WIDE)
    for start in range(program * BLOCK, voxels, tl.num_programs(0) * BLOCK):
        places = (start + tl.arange(0, BLOCK))[None, :]
        inside = real & (places < voxels)
        places = places.to(tl.int64)
        pred = tl.load(logits + places * logits_voxel, mask=inside, other=0).to(WIDE)
        truth = tl.load(target + places * target_voxel, mask=inside, other=0).to(WIDE)
        pred = _activated(pred, real, inside, ACTIVATION)
        if FORM == "min":
            shared += tl.minimum(pred, truth, propagate_nan=tl.PropagateNan.ALL)
        else:
            shared += pred * truth
        if FORM == "squared":
            size += pred * pred
            size_of_target += truth * truth
        else:
            size += pred
            size_of_target += truth
    channels = (item // GROUPS) * (GROUPS * CHANNELS) + (item % GROUPS) * CHANNELS + rows
    partial += program * program_step + channels
    keep = rows < CHANNELS
    tl.store(partial, tl.sum(shared, axis=1), mask=keep)
    tl.store(partial + kind_step, tl.sum(size, axis=1), mask=keep)
    tl.store(partial + 2 * kind_step, tl.sum(size_of_target, axis=1), mask=keep)


@triton.jit
def _write_gradients(
    logits,
    target,
    slopes,
    to_logits,
    to_target,
    logits_batch,
    logits_channel,
    logits_voxel,
    target_batch,
    target_channel,
    target_voxel,
    to_logits_batch,
    to_logits_channel,
    to_logits_voxel,
    to_target_batch,
    to_target_channel,
    to_target_voxel,
    voxels,
    kind_step,
    CHANNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr,
    FORM: tl.constexpr,
    WIDE: tl.constexpr,
    TO_LOGITS: tl.constexpr,
    TO_TARGET: tl.constexpr,
):
    item = tl.program_id(1)
    rows = tl.arange(0, TILE)
    keep = rows < CHANNELS
    real = keep[:, None]
    places = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[None, :]
    inside = real & (places < voxels)
    places = places.to(tl.int64)
    logits += _places(logits_batch, logits_channel, item, rows, GROUPS, CHANNELS)[:, None]
    target += _places(target_batch, target_channel, item, rows, GROUPS, CHANNELS)[:, None]
    pred = tl.load(logits + places * logits_voxel, mask=inside, other=0).to(WIDE)
    truth = tl.load(target + places * target_voxel, mask=inside, other=0).to(WIDE)
    pred = _activated(pred, real, inside, ACTIVATION)
    slopes += (item // GROUPS) * (GROUPS * CHANNELS) + (item % GROUPS) * CHANNELS + rows
    of_shared = tl.load(slopes, mask=keep, other=0)[:, None]
    of_size = tl.load(slopes + kind_step, mask=keep, other=0)[:, None]
    of_target = tl.load(slopes + 2 * kind_step, mask=keep, other=0)[:, None]
    if TO_LOGITS:
        if FORM == "min":
            grad = of_shared * _slope_of_minimum(pred, truth) + of_size
        elif FORM == "product":
            grad = of_shared * truth + of_size
        else:
            grad = of_shared * truth + of_size * 2 * pred
        if ACTIVATION == "softmax":
            grad = pred * (grad - tl.sum(pred * grad, axis=0)[None, :])
        elif ACTIVATION == "sigmoid":
            grad = grad * pred * (1 - pred)
        to_logits += _places(to_logits_batch, to_logits_channel, item, rows, GROUPS, CHANNELS)[
            :, None
        ]
        _store(to_logits + places * to_logits_voxel, grad, inside)
    if TO_TARGET:
        if FORM == "min":
            grad = of_shared * _slope_of_minimum(truth, pred) + of_target
        elif FORM == "product":
            grad = of_shared * pred + of_target
        else:
            grad = of_shared * pred + of_target * 2 * truth
        to_target += _places(to_target_batch, to_target_channel, item, rows, GROUPS, CHANNELS)[
            :, None
        ]
        _store(to_target + places * to_target_voxel, grad, inside)
