"""The kernels: the sums over voxels, and the gradients of the voxels."""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def places_of(step_batch, step_channel, item, rows, GROUPS: tl.constexpr, CHANNELS: tl.constexpr):
    """Where the channels of an item begin; a large volume has more than 2^31 values."""
    channels = (item % GROUPS) * CHANNELS + rows
    return (item // GROUPS).to(tl.int64) * step_batch + channels.to(tl.int64) * step_channel


@triton.jit
def activated(values, real, inside, ACTIVATION: tl.constexpr):
    """Probabilities of a tile of channels (rows) and voxels; 0 beyond its ends."""
    if ACTIVATION == "softmax":
        values = tl.where(real, values, float("-inf"))
        powers = tl.exp(values - tl.max(values, axis=0)[None, :])
        values = powers / tl.sum(powers, axis=0)[None, :]
    elif ACTIVATION == "sigmoid":
        values = 1 / (1 + tl.exp(-values))
    return tl.where(inside, values, 0)


@triton.jit
def before_activation(pred, grad, ACTIVATION: tl.constexpr):
    """From the gradient of probabilities to that of logits."""
    if ACTIVATION == "softmax":
        grad = pred * (grad - tl.sum(pred * grad, axis=0)[None, :])
    elif ACTIVATION == "sigmoid":
        grad = grad * pred * (1 - pred)
    return grad


@triton.jit
def slope(mine, other, of_shared, of_size, FORM: tl.constexpr):
    """The gradient of my probabilities; a tie has half of it, but at 0 and at 1.

    There one side lies outside, and the derivative of the product is that of the other.
    """
    shared = other
    size = of_size
    if FORM == "min":
        tie = tl.where((other == 0) | (other == 1), other, 0.5)
        shared = tl.where(mine == other, tie, tl.where(mine < other, 1.0, 0.0))
    elif FORM == "squared":
        size = of_size * 2 * mine
    return of_shared * shared + size


@triton.jit
def store(places, values, inside):
    if places.dtype.element_ty != tl.float64:
        values = values.to(tl.float32)  # as PyTorch does on the way to half precision
    tl.store(places, values.to(places.dtype.element_ty), mask=inside)


@triton.jit
def add_up(
    logits,
    target,
    partial,
    logits_batch,
    logits_channel,
    logits_voxel,
    target_batch,
    target_channel,
    target_voxel,
    kind_step,
    program_step,
    voxels,
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
    logits += places_of(logits_batch, logits_channel, item, rows, GROUPS, CHANNELS)[:, None]
    target += places_of(target_batch, target_channel, item, rows, GROUPS, CHANNELS)[:, None]
    shared = tl.full([TILE, BLOCK], 0, WIDE)
    size = tl.full([TILE, BLOCK], 0, WIDE)
    size_of_target = tl.full([TILE, BLOCK], 0, WIDE)
    for start in range(program * BLOCK, voxels, tl.num_programs(0) * BLOCK):
        places = (start + tl.arange(0, BLOCK))[None, :]
        inside = real & (places < voxels)
        places = places.to(tl.int64)
        pred = tl.load(logits + places * logits_voxel, mask=inside, other=0).to(WIDE)
        truth = tl.load(target + places * target_voxel, mask=inside, other=0).to(WIDE)
        pred = activated(pred, real, inside, ACTIVATION)
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
def write_gradients(
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
    kind_step,
    voxels,
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
    logits += places_of(logits_batch, logits_channel, item, rows, GROUPS, CHANNELS)[:, None]
    target += places_of(target_batch, target_channel, item, rows, GROUPS, CHANNELS)[:, None]
    pred = tl.load(logits + places * logits_voxel, mask=inside, other=0).to(WIDE)
    truth = tl.load(target + places * target_voxel, mask=inside, other=0).to(WIDE)
    pred = activated(pred, real, inside, ACTIVATION)
    slopes += (item // GROUPS) * (GROUPS * CHANNELS) + (item % GROUPS) * CHANNELS + rows
    of_shared = tl.load(slopes, mask=keep, other=0)[:, None]
    of_size = tl.load(slopes + kind_step, mask=keep, other=0)[:, None]
    of_target = tl.load(slopes + 2 * kind_step, mask=keep, other=0)[:, None]
    if TO_LOGITS:
        grad = slope(pred, truth, of_shared, of_size, FORM)
        grad = before_activation(pred, grad, ACTIVATION)
        to_logits += places_of(to_logits_batch, to_logits_channel, item, rows, GROUPS, CHANNELS)[
            :, None
        ]
        store(to_logits + places * to_logits_voxel, grad, inside)
    if TO_TARGET:
        grad = slope(truth, pred, of_shared, of_target, FORM)
        to_target += places_of(to_target_batch, to_target_channel, item, rows, GROUPS, CHANNELS)[
            :, None
        ]
        store(to_target + places * to_target_voxel, grad, inside)
