"""The sums behind a loss of masks in each region of the voxels, in one pass over the volumes.

Most voxels lie in region 0, the rest, whose sums are formed as those of a whole slab; the others
are few, and are picked out. The gradient needs no more than a number for each region and sum.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from softoverlap import masks
from softoverlap._autograd import held, is_batched, plain_gradients
from softoverlap._types import plain
from softoverlap.losses._segments import segment_sums
from softoverlap.losses._slabs import Fused, held_by_sizes, plan_of, row_sums
from softoverlap.losses._volumes import Plan, RefusedError, Where, held_probabilities
from softoverlap.losses.dice_ce import SoftDiceCELoss
from softoverlap.losses.masks import MaskLoss


class RegionSums(NamedTuple):
    """What a loss needs to know of each region.

    Args:
        sizes: Intersection, size of prediction and size of target, shape (3, B, R, C).
        entropy: The cross entropy summed up over voxels, shape (B, R, C); 0 of a loss without one.
        counts: How much voxels count in its mean, same shape.
    """

    sizes: Tensor
    entropy: Tensor
    counts: Tensor


def region_sums(
    loss: MaskLoss, input: Tensor, target: Tensor, regions: Tensor, count: int
) -> RegionSums:
    """The sums of a batch in each region, with a gradient to the input.

    Args:
        loss: What the sums are of: its activation, its form of the intersection, its entropy.
        input: Prediction, shape (B, channels, *spatial).
        target: Target, as the loss takes it.
        regions: Number of the region of each voxel, below `count`, shape (B, 1, *spatial) for all
            channels, or (B, C, *spatial) for each of the C that count.
        count: How many regions there are, R.
    """
    found = _by_slabs(loss, input, target, regions, count)
    found = _plain(loss, target, regions, count, input) if found is None else found
    return RegionSums(*(each.transpose(-1, -2) for each in found))


def _by_slabs(
    loss: MaskLoss, input: Tensor, target: Tensor, regions: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The same slab by slab, channels before regions; None where the plain path is due."""
    overlap, entropy, binary = loss.overlap, False, False
    if isinstance(loss, SoftDiceCELoss):
        binary = loss.kind == "regions" or plain(input).shape[1] == 1
        entropy = not binary
        if not loss.has_plain_entropy:
            return None
    plan = plan_of(overlap.prepare, overlap.form, input, target, entropy=entropy, binary=binary)
    if plan is None:
        return None
    try:
        return _RegionSums.apply(  # pyright: ignore
            plain(input), plain(target), regions, count, plan, loss
        )
    except RefusedError:
        return None


def _plain(
    loss: MaskLoss, target: Tensor, regions: Tensor, count: int, input: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same by the plain path, the oracle."""
    overlap = loss.overlap
    pred, truth = overlap.prepare(input, target)
    terms = {
        "min": lambda: (masks.minima(pred, truth), pred, truth),
        "product": lambda: (pred * truth, pred, truth),
        "squared": lambda: (pred * truth, pred * pred, truth * truth),
    }[overlap.form]()
    numbers = regions.flatten(2).expand(*pred.shape[:2], -1)
    sizes = torch.stack([held(segment_sums(term.flatten(2), numbers, count)) for term in terms])
    if not isinstance(loss, SoftDiceCELoss):
        return sizes, torch.zeros_like(sizes[2]), torch.zeros_like(sizes[2])
    entropy, weight = loss.entropies(input, target, pred.dtype)
    weight = torch.ones_like(entropy) if weight is None else weight
    summed = (
        segment_sums(term.flatten(2).expand(numbers.shape), numbers, count)
        for term in (entropy, weight)
    )
    return sizes, *summed


class _RegionSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, target, regions, count, plan, loss):
        held = held_probabilities(input, plan)
        volumes = _InRegions(input, target, plan, regions, count, held)
        sizes, entropy, counts = volumes.sums()
        ctx.save_for_backward(input, target, regions, sizes)
        ctx.mark_non_differentiable(counts)
        ctx.count, ctx.plan, ctx.loss = count, plan, loss
        ctx.may_tie, ctx.held = volumes.may_tie, volumes.held
        return sizes, entropy, counts

    @staticmethod
    def backward(ctx, *gradients):
        input, target, regions, sizes = ctx.saved_tensors
        nothing = [None] * 5
        if torch.is_grad_enabled() or is_batched(*gradients[:2]):
            outputs = partial(_differentiable, ctx.loss, target, regions, ctx.count)
            return *plain_gradients(outputs, [input], [True], gradients[:2]), *nothing
        held, ctx.held = ctx.held, None  # the gradient takes its place
        volumes = _InRegions(input, target, ctx.plan, regions, ctx.count, held)
        by_sizes = held_by_sizes(sizes, gradients[0])
        return volumes.gradient(by_sizes, gradients[1], ctx.may_tie), *nothing


def _differentiable(
    loss: MaskLoss, target: Tensor, regions: Tensor, count: int, input: Tensor
) -> tuple[Tensor, ...]:
    """What `_RegionSums` returns and has a gradient, by the plain path."""
    return _plain(loss, target, regions, count, input)[:2]


class _InRegions(Fused):
    """Sums and gradient of two volumes, region by region."""

    def __init__(
        self,
        input: Tensor,
        target: Tensor,
        plan: Plan,
        regions: Tensor,
        count: int,
        held: Tensor | None,
    ) -> None:
        super().__init__(input, target, plan, held)
        self.regions, self.count = regions.flatten(2), count

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sizes, entropy and voxels of each region of each channel."""
        items, channels, _ = self.input.shape
        shape = items, channels - self.skipped, self.count
        sizes = torch.zeros(3, *shape, dtype=torch.float64)
        entropy, counts = torch.zeros(2, *shape, dtype=torch.float64)
        for where in self.slabs():
            truth, place = self.truth(where, looks=self.plan.looks), self.place(where)
            self.rest = torch.eq(self.numbers, 0, out=self.room("rest", self.numbers.shape))
            counts[place].add_(self.voxels())
            if self.plan.adds_entropy:
                entropy[place].add_(self.totals(self.entropies(where, truth)))
            pred = self.activated(where, looks=self.plan.looks)
            for total, part in zip(sizes, self.measured(*self.kept(pred, truth)), strict=True):
                total[place].add_(part)
        looked_at = [sizes] * self.plan.looks + [entropy] * self.plan.adds_entropy
        if any(bool(total.isnan().any()) for total in looked_at):
            raise RefusedError
        dtype = self.plan.dtype
        return sizes.to(dtype), entropy.to(dtype), counts.to(dtype)

    def truth(self, where: Where, *, looks: bool = False) -> Tensor:
        """The target of a slab, whose voxels in lesions are found."""
        truth = super().truth(where, looks=looks)
        channels = slice(None) if self.regions.shape[1] == 1 else self.place(where)[1]
        numbers = self.regions[where[0], channels, where[2]]
        shape = len(numbers), truth.shape[1] - self.skipped, numbers.shape[2]
        self.numbers = numbers.expand(shape)
        flat = self.numbers.reshape(-1)
        self.inside = flat.nonzero().squeeze(1)
        self.key = flat[self.inside] + self.inside // max(1, shape[2]) * self.count
        return truth

    def voxels(self) -> Tensor:
        """How many voxels of a slab each region of each channel has."""
        *rows, voxels = self.numbers.shape
        counts = torch.bincount(self.key, minlength=rows[0] * rows[1] * self.count)
        counts = counts.view(*rows, self.count)
        counts[..., 0] = voxels - counts.sum(dim=-1)
        return counts

    def totals(self, values: Tensor) -> Tensor:
        """What the values of each region of each channel of a slab add up to."""
        rest = torch.mul(values, self.rest, out=self.room("in rest", self.rest.shape))
        picked = values.expand(rest.shape).reshape(-1)[self.inside].double()
        totals = torch.zeros(rest.shape[0] * rest.shape[1] * self.count, dtype=torch.float64)
        totals = totals.index_add_(0, self.key, picked).view(*rest.shape[:2], self.count)
        totals[..., 0] = row_sums(rest)
        return totals

    def spread(self, name: str, factor: Tensor, where: Where) -> Tensor:
        """The derivative by the total of each voxel's region."""
        factor = factor[self.place(where)]
        voxels = self.room(name, self.numbers.shape).copy_(factor[..., :1].expand_as(self.numbers))
        picked = factor.reshape(-1)[self.key].to(voxels.dtype)
        voxels.view(-1).index_copy_(0, self.inside, picked)
        return voxels

    def entropies(self, where: Where, truth: Tensor) -> Tensor:
        """The cross entropy of each voxel of a slab; if it is binary, of each channel."""
        if self.plan.entropy:
            logs, product = self.entropy_parts(where, truth)
            return logs.sub_(product.sum(dim=1, keepdim=True))
        logits, truth = self.kept(self.read("logits", self.input[where]), truth)
        into = self.room("product", truth.shape)
        torch.ops.aten.softplus.out(logits, 1, 40, out=into)  # beyond, it is the identity
        return into.addcmul_(logits, truth, value=-1)

    def entropy_slope(self, where: Where, pred: Tensor, truth: Tensor) -> Tensor:
        """The derivative of the cross entropy of each voxel by the logits of a slab."""
        if self.plan.entropy:
            return super().entropy_slope(where, pred, truth)
        shares = pred
        if not self.prepare.sigmoid:
            logits = self.read("logits", self.input[where])
            shares = torch.sigmoid(logits, out=self.room("logs", logits.shape))
        return shares.sub_(truth)

    def add_entropy(
        self, slope: Tensor, by_logits: Tensor, factor: Tensor, where: Where, *, into: Tensor
    ) -> None:
        """Write the derivative by the logits with the part of the cross entropy.

        That over classes is one map, which each channel adds up in regions of its own.
        """
        by_voxel = self.spread("by entropy", factor, where)
        if self.plan.entropy:
            torch.addcmul(slope, by_logits, by_voxel.sum(dim=1, keepdim=True), out=into)
            return
        into[:, : self.skipped] = slope[:, : self.skipped]
        slope, by_logits, into = self.kept(slope, by_logits, into)
        torch.addcmul(slope, by_logits, by_voxel, out=into)
