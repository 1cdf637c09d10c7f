"""Voxels: from labels to masks, which voxels count, sizes and intersections over the spatial axes.

Minima are summed directly: `(|x| + |y| - |x - y|) / 2` is equal on paper and cancels in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softoverlap._autograd import held
from softoverlap._checks import check_probabilities, should_validate
from softoverlap._types import Masks, PerChannel, accumulation_dtype, is_number


def size(mask: Masks) -> PerChannel:
    """Σ probability of each channel, in float32 or wider."""
    return _spatial_sum(mask.to(accumulation_dtype(mask)))


def squared_size(mask: Masks) -> PerChannel:
    """Σ probability² of each channel, in float32 or wider."""
    wide = mask.to(accumulation_dtype(mask))
    return _spatial_sum(wide * wide)


def min_intersection(a: Masks, b: Masks) -> PerChannel:
    """Σ min(a, b): equals the size of both exactly where the masks are equal.

    Equal probabilities share the gradient (the mean of the two one-sided derivatives), except at
    0 and at 1: there only one side lies within [0, 1], and its derivative is taken.
    """
    dtype = accumulation_dtype(a, b)
    return _spatial_sum(minima(a.to(dtype), b.to(dtype)))


def product_intersection(a: Masks, b: Masks) -> PerChannel:
    """Σ a·b: the expected intersection of two independent binary masks."""
    dtype = accumulation_dtype(a, b)
    return _spatial_sum(a.to(dtype) * b.to(dtype))


def one_hot(
    labels: Tensor,
    classes: int,
    ignore_index: int | None = None,
    validate: bool | None = None,
    *,
    name: str = "target",
) -> Tensor:
    """One channel a class; labels are (B, 1, *spatial). Ignored voxels have no class."""
    if labels.shape[1] != 1:
        raise ValueError(
            f"{name} must have one channel of labels to become one-hot, got {tuple(labels.shape)}"
        )
    known = torch.arange(classes, device=labels.device).view(1, -1, *[1] * (labels.ndim - 2))
    wide = labels.to(accumulation_dtype(labels)) if labels.is_floating_point() else labels
    encoded = wide == known  # in half precision 2049 would be 2048
    if should_validate(validate, labels):
        unknown = ~encoded.any(dim=1, keepdim=True)
        unknown = unknown if ignore_index is None else unknown & ~is_number(labels, ignore_index)
        if unknown.any():
            found = labels[unknown][0].item()
            raise ValueError(f"{name} must hold labels from 0 to {classes - 1}, got {found:g}")
    return encoded.to(torch.float32)


def counted_voxels(labels: Tensor, ignore_index: int | None) -> Tensor | None:
    """How much each voxel counts: as in MONAI, not where its class is the ignored one.

    An index outside one-hot channels means the voxels that are zero in all of them, and those that
    hold it in all of them.
    """
    if ignore_index is None:
        return None
    if labels.shape[1] == 1:
        return (~is_number(labels, ignore_index)).to(torch.float32)
    if 0 <= ignore_index < labels.shape[1]:
        return 1 - labels[:, ignore_index : ignore_index + 1].to(accumulation_dtype(labels))
    marked = is_number(labels, ignore_index).all(dim=1, keepdim=True)
    return ((labels.sum(dim=1, keepdim=True) > 0) & ~marked).to(torch.float32)


def counted_masks(
    counted: Tensor | None, dtype: torch.dtype, validate: bool | None, **masks: Tensor
) -> tuple[Tensor, ...]:
    """The masks in the dtype, scaled by how much voxels count, and looked at where they do.

    They are looked at before the cast: half precision has its own tolerance.
    """
    if counted is None:
        check_probabilities(**masks, validate=validate)
        return tuple(mask.to(dtype) for mask in masks.values())
    kept = {name: mask.masked_fill(~(counted > 0), 0) for name, mask in masks.items()}
    check_probabilities(**kept, validate=validate)
    return tuple(mask.to(dtype) * counted.to(dtype) for mask in kept.values())


def minima(a: Tensor, b: Tensor) -> Tensor:
    """The smaller value; where both are 0 or both are 1 the product, which has the same value."""
    smaller = torch.minimum(a, b)
    if not (smaller.requires_grad or torch.jit.is_tracing()):
        return smaller
    return torch.where((a == b) & ((a == 0) | (a == 1)), a * b, smaller)


def _spatial_sum(values: Tensor) -> Tensor:
    """Added up in one order, however the voxels lie in memory: a mask is as large as its share."""
    return held(values.flatten(2).contiguous().sum(dim=2))
