"""The sums behind a loss of masks over the region of each lesion, from the voxels in any."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from softoverlap import masks
from softoverlap._autograd import is_batched
from softoverlap._types import plain
from softoverlap.losses import SoftDiceCELoss, SoftDiceLoss, SoftTverskyLoss

RegionLoss = SoftDiceLoss | SoftTverskyLoss | SoftDiceCELoss  # an IoU is a kind of the first


class RegionSums(NamedTuple):
    """What a loss needs to know of each region of each item and channel.

    Args:
        sizes: Intersection, size of prediction and size of target, shape (3, B, R, C).
        entropy: The cross entropy summed up over voxels, shape (B, R, C); 0 of a loss without one.
        counts: How much voxels count in its mean, same shape.
        size_and_peak: Σ target and its highest probability, same shapes, found when asked for.
    """

    sizes: Tensor
    entropy: Tensor
    counts: Tensor
    size_and_peak: Callable[[], tuple[Tensor, Tensor]]


class Picked:
    """The voxels of all items that lie in a region, and the total that each channel adds to.

    Args:
        regions: Number of the region of each voxel, below `count`, shape (B, 1, *spatial) for all
            channels, or (B, C, *spatial) for each of the C that count.
        channels: How many channels count, C.
        count: How many regions there are, R.
    """

    def __init__(self, regions: Tensor, channels: int, count: int) -> None:
        flat = regions.flatten(2)
        items, _, self.voxels = flat.shape
        self.shape = channels, items, count
        inside = flat[:, 0] if flat.shape[1] == 1 else flat.amax(dim=1)
        self.places = inside.flatten().nonzero().squeeze(1)
        numbers = torch.arange(items, device=regions.device)
        ends = torch.searchsorted(self.places, self.voxels * (numbers + 1))
        self.items = numbers.repeat_interleave(  # quicker than a division
            ends.diff(prepend=ends.new_zeros(1)), output_size=len(self.places)
        )
        first = torch.arange(channels, device=regions.device).view(-1, 1) * (items * count)
        self.keys = (first + self.items * count + self.among(regions)[0]).flatten()

    def index(self, channels: int) -> Tensor:
        """Where these voxels lie in contiguous values of so many channels, shape (C · n)."""
        if channels == 1:
            return self.places
        first = torch.arange(channels, device=self.places.device).view(-1, 1) * self.voxels
        return (self.places + self.items * ((channels - 1) * self.voxels) + first).flatten()

    def among(self, values: Tensor) -> Tensor:
        """Values (B, C, *spatial) of these voxels as those of one item, (1, C, n)."""
        picked = plain(values).reshape(-1).index_select(0, self.index(values.shape[1]))
        return picked.view(1, values.shape[1], -1)

    def beside(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The values again, and those of these voxels; both gradients become one volume."""
        values = plain(values)
        whole, picked = _Beside.apply(values, self.index(values.shape[1]))  # pyright: ignore
        return whole, picked.view(1, values.shape[1], -1)

    def totals(self, values: Tensor) -> Tensor:
        """What values (1, C, n) add up to in each region of each item, (B, R, C)."""
        each = values[0].expand(self.shape[0], -1).flatten().double()
        total = torch.zeros(math.prod(self.shape), dtype=torch.float64, device=values.device)
        return self.placed(total.index_add(0, self.keys, each).to(values.dtype))

    def counts(self) -> Tensor:
        """How many voxels there are in each region of each item, (B, R, C)."""
        return self.placed(torch.bincount(self.keys, minlength=math.prod(self.shape)))

    def peaks(self, values: Tensor) -> Tensor:
        """The highest value of (1, C, n) in each region of each item, (B, R, C)."""
        peaks = values.new_zeros(math.prod(self.shape))
        return self.placed(peaks.scatter_reduce(0, self.keys, values[0].flatten(), "amax"))

    def placed(self, regions: Tensor) -> Tensor:
        """A number for each region of each item of each channel as (B, R, C)."""
        return regions.view(self.shape).movedim(0, -1)


class _Beside(torch.autograd.Function):
    """Values and some of them; the gradient of these is added to that of all, which is its own."""

    @staticmethod
    def forward(values, index):
        return values.view_as(values), values.reshape(-1).index_select(0, index)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, *gradients):
        (index,), (whole, picked) = ctx.saved_tensors, gradients
        if torch.is_grad_enabled() or is_batched(*gradients) or not whole.is_contiguous():
            return whole.reshape(-1).index_add(0, index, picked).view(whole.shape), None
        return whole.view(-1).index_add_(0, index, picked).view(whole.shape), None


def region_sums(loss: RegionLoss, picked: Picked, logits: Tensor, target: Tensor) -> RegionSums:
    """The sums of each region from 1 on, with a gradient to the logits; those of 0 are not told.

    Args:
        loss: What the sums are of: its activation, its form of the intersection, its entropy.
        picked: The voxels that lie in regions.
        logits: The prediction there.
        target: Target of all voxels, as the loss takes it.
    """
    prepare, form = loss.overlap.prepare, loss.overlap.form
    labels = picked.among(target)
    pred, truth = prepare(logits, labels)
    if form == "min":  # an activation is flat where ties at 0 and 1 would matter
        shared = torch.minimum if prepare.sigmoid or prepare.softmax else masks.minima
        terms = shared(pred, truth), pred, truth
    else:
        terms = pred * truth, pred, truth
    if form == "squared":
        terms = terms[0], pred * pred, truth * truth
    sizes = torch.stack([picked.totals(term) for term in terms])
    entropy = counts = torch.zeros_like(sizes[2])
    if isinstance(loss, SoftDiceCELoss):
        each, weight = loss.entropies(logits, labels, pred.dtype)
        counts = picked.counts() if weight is None else picked.totals(weight)
        entropy, counts = picked.totals(each), counts.to(each.dtype)

    def size_and_peak() -> tuple[Tensor, Tensor]:
        size = picked.totals(truth) if form == "squared" else sizes[2]
        return size.detach(), picked.peaks(truth.detach())

    return RegionSums(sizes, entropy, counts, size_and_peak)


def image_entropy(
    loss: SoftDiceCELoss, input: Tensor, target: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The cross entropy of each item, summed up over voxels, and how much these count, (B, C)."""
    each, weight = loss.entropies(input, target, dtype)
    weight = torch.ones_like(each) if weight is None else weight
    return masks.size(each), masks.size(weight)
