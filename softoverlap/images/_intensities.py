"""What tells maps of labels and of probabilities from the intensities of a scan."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

MAX_LABELS = 512
"""Whole numbers with more distinct values than this are intensities, not labels."""

FEW_LABELS = 16
"""Up to this many distinct values are always labels; more must form regions."""

LEAST_REGION = 1 / 3
"""Smallest median share of a label's neighbours, without background, with the same label."""

MOST_FLOOR = 0.1
"""Largest lowest value of a map, as a share of its scale; that of a scan may be higher."""

MOST_BETWEEN = 0.2
"""Largest share of a map between a tenth and nine tenths of its scale; a scan's tissue is more."""

ENOUGH_VALUES = 1000
"""From so many values on, that share tells a map from a scan."""

LARGEST_LABEL = 1 << 24
"""Larger whole numbers are not labels; float32 is exact up to here."""


def labels_or_other(values: Tensor, high: int) -> str:
    """Few distinct whole numbers, or regions of them, are labels; others are intensities."""
    if high > LARGEST_LABEL:
        return "other"
    seen = torch.zeros(high + 1, dtype=torch.bool, device=values.device)
    for block in blocks(values):
        seen[block.long()] = True
    kinds = int(seen.sum())
    if kinds <= FEW_LABELS:
        return "labels"
    return "labels" if kinds <= MAX_LABELS and _in_regions(values, seen) else "other"


def as_of_tissue(values: Tensor, scale: float | int) -> bool:
    """Whether many values lie well between the ends of the scale, as in no map of lesions."""
    if values.numel() < ENOUGH_VALUES:
        return False
    floor, top = MOST_FLOOR * scale, (1 - MOST_FLOOR) * scale
    between = sum(int(((block > floor) & (block < top)).sum()) for block in blocks(values))
    return between > MOST_BETWEEN * values.numel()


def _in_regions(values: Tensor, seen: Tensor) -> bool:
    """Whether neighbours mostly share a label; labels that touch only background count as such."""
    ranks = seen.cumsum(0) - 1
    kinds = int(seen.sum())
    same, pairs = torch.zeros(2, kinds, dtype=torch.long, device=values.device)
    for axis in range(max(values.ndim - 3, 0), values.ndim):
        length = values.shape[axis] - 1
        first, second = values.narrow(axis, 0, length), values.narrow(axis, 1, length)
        for first_slab, second_slab in zip(_slabs(first), _slabs(second), strict=True):
            inside = (first_slab > 0) & (second_slab > 0)
            a, b = ranks[first_slab[inside].long()], ranks[second_slab[inside].long()]
            pairs += torch.bincount(a, minlength=kinds) + torch.bincount(b, minlength=kinds)
            same += 2 * torch.bincount(a[a == b], minlength=kinds)
    shares = torch.where(pairs > 0, same / pairs.clamp(min=1), 1.0)
    return float(shares.median()) >= LEAST_REGION


def _slabs(values: Tensor) -> Iterable[Tensor]:
    """A volume a few slices at a time; channels one after another."""
    slices = values.reshape(-1, *values.shape[-2:]) if values.ndim > 3 else values
    per_slice = max(slices[:1].numel(), 1)
    return slices.split(max((1 << 22) // per_slice, 1))


def bounds(values: Tensor) -> tuple[float, float]:
    """The smallest and the largest value."""
    low, high = _stored(values).aminmax()
    return float(low), float(high)


def blocks(values: Tensor) -> Iterable[Tensor]:
    """The values in pieces, so that memory never holds a second volume."""
    return _stored(values).split(1 << 22)


def _stored(values: Tensor) -> Tensor:
    """The values in a row as they lie in memory, which is quick."""
    order = sorted(range(values.ndim), key=values.stride, reverse=True)
    return values.permute(order).flatten()


def is_whole(values: Tensor) -> bool:
    """Whether all values are whole numbers."""
    if not values.is_floating_point():
        return True
    return all(bool((block == block.round()).all()) for block in blocks(values))
