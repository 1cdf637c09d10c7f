"""From voxels to tables: sums along each axis, or kernels where they may run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import _triton
from softoverlap._autograd import held, widened
from softoverlap._checks import may_look

_MOST_AXES, _MOST_MASKS = 3, 65535
_WIDE_LAYER = 64  # numbers in a row, and so far apart are the steps of a line
_WORTH_ONE_WRITE = 1 << 15  # voxels; of fewer each operation has its price, not each number


def summed_crops(crops: list[Tensor]) -> Float[Tensor, "entries"]:
    """The tables of all crops, one behind the other."""
    if _kernels_sum(len(crops), crops[0].ndim, *crops):
        voxels = torch.cat([crop.flatten() for crop in crops])
        return _summed_by_kernels(voxels, [crop.shape for crop in crops])
    tables = [summed(crop[None]).flatten() for crop in crops]
    return torch.cat(tables) if len(tables) > 1 else tables[0]


def summed(masks: Shaped[Tensor, "masks *spatial"]) -> Float[Tensor, "masks *nodes"]:
    """Σ of all voxels below each node, a node more than voxels along every axis."""
    if _kernels_sum(masks.shape[0], masks.ndim - 1, masks):
        tables = _summed_by_kernels(masks.flatten(), [masks.shape[1:]] * masks.shape[0])
        return tables.view(-1, *[side + 1 for side in masks.shape[1:]])
    if masks.device.type != "cpu" and masks.ndim > 2:
        return _summed_across_rows(masks)
    padded = _padded(masks)
    for axis in reversed(range(1, masks.ndim)):
        if padded.stride(axis) < _WIDE_LAYER or padded.requires_grad or not may_look(padded):
            padded.cumsum_(axis)
        else:
            _add_up(padded, axis)
    return padded


def _summed_across_rows(
    masks: Shaped[Tensor, "masks *spatial"],
) -> Float[Tensor, "masks *nodes"]:
    """The same on a GPU, where sums along short rows are slow: for them, rows become columns.

    A thread then adds up one line, voxel by voxel, as the CPU does: sums never fall, and an empty
    layer adds exactly 0, which PyTorch's sums along rows do not promise.
    """
    padded = F.pad(widened(masks).transpose(1, -1), [1, 0] * (masks.ndim - 1))
    padded = padded.cumsum_(1).transpose(1, -1).contiguous()
    for axis in reversed(range(1, masks.ndim - 1)):
        padded.cumsum_(axis)
    return padded


def _padded(masks: Shaped[Tensor, "masks *spatial"]) -> Float[Tensor, "masks *nodes"]:
    """In float64, behind a layer of zeros on each axis; on the way no more is written than that."""
    if masks.numel() < _WORTH_ONE_WRITE or not may_look(masks) or masks.requires_grad:
        return F.pad(widened(masks), [1, 0] * (masks.ndim - 1))
    sides = [side + 1 for side in masks.shape[1:]]
    padded = torch.empty((len(masks), *sides), dtype=torch.float64)
    for axis in range(1, masks.ndim):
        padded.select(axis, 0).zero_()
    inside: tuple[slice, ...] = (slice(None), *(slice(1, None),) * (masks.ndim - 1))
    padded[inside] = masks
    return padded


def _add_up(values: Tensor, axis: int) -> None:
    """The same as `cumsum_`, a layer at a time; that goes line by line, across all of memory."""
    layers = values.unbind(axis)
    for before, layer in pairwise(layers):
        layer.add_(before)


def _kernels_sum(count: int, ndim: int, *voxels: Tensor) -> bool:
    """Whether kernels make the tables of so many masks, whose voxels lie in these tensors."""
    if not _triton.available(*voxels):
        return False
    return 0 < count <= _MOST_MASKS and 0 < ndim <= _MOST_AXES


def _summed_by_kernels(voxels: Tensor, shapes: Sequence[Sequence[int]]) -> Float[Tensor, "entries"]:
    """The tables of masks of these shapes, flat, as their voxels are: one behind the other."""
    from softoverlap.mask_boxes._triton.summing import tables_of_all  # imports Triton

    voxels = held(voxels) if voxels.dtype == torch.float64 else voxels
    return tables_of_all(voxels.contiguous(), shapes)
