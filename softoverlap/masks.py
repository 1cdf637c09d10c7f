"""Voxels: the size of a soft mask and the intersection of two, summed over the spatial axes.

Minima are summed directly: `(|x| + |y| - |x - y|) / 2` is equal on paper and cancels in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softoverlap._types import Masks, PerChannel, accumulation_dtype


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
    return _spatial_sum(_minima(a.to(dtype), b.to(dtype)))


def product_intersection(a: Masks, b: Masks) -> PerChannel:
    """Σ a·b: the expected intersection of two independent binary masks."""
    dtype = accumulation_dtype(a, b)
    return _spatial_sum(a.to(dtype) * b.to(dtype))


def _minima(a: Tensor, b: Tensor) -> Tensor:
    """The smaller value; where both are 0 or both are 1 the product, which has the same value."""
    smaller = torch.minimum(a, b)
    if not smaller.requires_grad:
        return smaller
    return torch.where((a == b) & ((a == 0) | (a == 1)), a * b, smaller)


def _spatial_sum(values: Tensor) -> Tensor:
    return values.flatten(2).sum(dim=2)
