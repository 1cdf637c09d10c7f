"""The sums behind a loss of masks over the region of each lesion, from the voxels in any."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from softoverlap import masks
from softoverlap._types import plain
from softoverlap.losses import MaskLoss, SoftDiceCELoss


class RegionSums(NamedTuple):
    """What a loss needs to know of each region of each item and channel.

    Args:
        sizes: Intersection, size of prediction and size of target, shape (3, B, R, C).
        entropy: The cross entropy summed up over voxels, shape (B, R, C); 0 of a loss without one.
        counts: How much voxels count in its mean, same shape.
        peaks: The highest probability of the target, same shape, found when it is asked for.
    """

    sizes: Tensor
    entropy: Tensor
    counts: Tensor
    peaks: Callable[[], Tensor]


class _Picked:
    """The voxels of all items that lie in a region, and the total that each channel adds to."""

    def __init__(self, regions: Tensor, channels: int, count: int) -> None:
        flat = regions.flatten(2)
        items, _, self.voxels = flat.shape
        self.shape = channels, items, count
        inside = flat[:, 0] if flat.shape[1] == 1 else flat.amax(dim=1)
        self.places = inside.flatten().nonzero().squeeze(1)
        self.items = self.places // max(1, self.voxels)
        rows = torch.arange(channels, device=regions.device).view(-1, 1) * items + self.items
        self.keys = (rows * count + self.among(regions)[0]).flatten()

    def among(self, values: Tensor) -> Tensor:
        """Values (B, C, *spatial) of these voxels as those of one item, (1, C, n)."""
        channels = values.shape[1]
        first = torch.arange(channels, device=values.device).view(-1, 1) * self.voxels
        index = self.places + self.items * ((channels - 1) * self.voxels)
        picked = plain(values).reshape(-1).index_select(0, (index + first).flatten())
        return picked.view(1, channels, -1)

    def totals(self, values: Tensor) -> Tensor:
        """What values (1, C, n) add up to in each region of each item, (B, R, C)."""
        each = values[0].expand(self.shape[0], -1).flatten().double()
        total = torch.zeros(math.prod(self.shape), dtype=torch.float64, device=values.device)
        return self.placed(total.index_add(0, self.keys, each).to(values.dtype))

    def peaks(self, values: Tensor) -> Tensor:
        """The highest value of (1, C, n) in each region of each item, (B, R, C)."""
        peaks = values.new_zeros(math.prod(self.shape))
        return self.placed(peaks.scatter_reduce(0, self.keys, values[0].flatten(), "amax"))

    def placed(self, regions: Tensor) -> Tensor:
        """A number for each region of each item of each channel as (B, R, C)."""
        return regions.view(self.shape).movedim(0, -1)


def region_sums(
    loss: MaskLoss, input: Tensor, target: Tensor, regions: Tensor, count: int
) -> RegionSums:
    """The sums of each region from 1 on, with a gradient to the input; those of 0 are not told.

    Args:
        loss: What the sums are of: its activation, its form of the intersection, its entropy.
        input: Prediction, shape (B, channels, *spatial).
        target: Target, as the loss takes it.
        regions: Number of the region of each voxel, below `count`, shape (B, 1, *spatial) for all
            channels, or (B, C, *spatial) for each of the C that count.
        count: How many regions there are, R.
    """
    prepare, form = loss.overlap.prepare, loss.overlap.form
    hidden = int(input.shape[1] > 1 and not prepare.include_background)
    picked = _Picked(regions, input.shape[1] - hidden, count)
    logits, labels = picked.among(input), picked.among(target)
    pred, truth = prepare(logits, labels)
    terms = (masks.minima(pred, truth) if form == "min" else pred * truth, pred, truth)
    if form == "squared":
        terms = terms[0], pred * pred, truth * truth
    sizes = torch.stack([picked.totals(term) for term in terms])
    entropy = counts = torch.zeros_like(sizes[2])
    if isinstance(loss, SoftDiceCELoss):
        each, weight = loss.entropies(logits, labels, pred.dtype)
        weight = torch.ones_like(each) if weight is None else weight
        entropy, counts = picked.totals(each), picked.totals(weight)
    return RegionSums(sizes, entropy, counts, lambda: picked.peaks(truth.detach()))


def image_entropy(
    loss: SoftDiceCELoss, input: Tensor, target: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The cross entropy of each item, summed up over voxels, and how much these count, (B, C)."""
    each, weight = loss.entropies(input, target, dtype)
    weight = torch.ones_like(each) if weight is None else weight
    return masks.size(each), masks.size(weight)
