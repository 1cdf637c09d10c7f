"""The sums behind a loss of masks, at the price of reading the volumes: a slab at a time.

The plain path (`Preparation`, `softoverlap.masks`) makes a volume of every step between logits and
sums, and keeps most of them until the gradient is asked for. Here nothing is made in the size of
the input but its gradient.

Forward, a slab of about a million numbers is activated, looked at (does each value lie in [0, 1]?)
and added up: of each item and channel the intersection, the size of the prediction and that of the
target, and, where it is asked for, the cross entropy. Backward, the loss hands down its derivative
by each of those sums, three numbers an item and channel, and a slab's gradient is written. It takes
the place of the probabilities, which are kept where a gradient may be asked for, so that both
together are one volume; a second gradient activates the slabs again. The derivatives are

    product   dI/dp = y                                 dP/dp = 1
    min       dI/dp = 1 where p < y, ½ where p = y      dP/dp = 1
    squared   dI/dp = y                                 dP/dp = 2p

times the derivative of sigmoid or softmax. The cross entropy adds s · softmax - y, where s is what
the target of a voxel adds up to. Where both masks are 0 or both are 1, min has the gradient of the
product, as in `softoverlap.masks.min_intersection`; this is looked for only without an activation,
since a sigmoid is flat there, and a softmax all but flat.

Rows of fixed length are added up in the dtype of accumulation, and the rows in float64: neither the
layout in memory nor the number of threads changes a bit of the sums.

What is not covered, or not in order, takes the plain path, which also says what is wrong: other
devices than the CPU, traces and transforms, other activations, targets that ask for a gradient,
values outside [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from softoverlap import masks
from softoverlap._autograd import has_tangent, held_gradient, is_batched, plain_gradients
from softoverlap._checks import is_traced, should_validate
from softoverlap._types import TAKEN, accumulation_dtype, plain
from softoverlap.losses._volumes import (
    ROW,
    Plan,
    RefusedError,
    Volumes,
    Where,
    held_probabilities,
    without,
)
from softoverlap.losses.inputs import Preparation


class Sums(NamedTuple):
    """What a loss needs to know of a batch.

    Args:
        sizes: Intersection, size of prediction and size of target, (3, B, C).
        entropy: The cross entropy over classes, binary of one channel, summed up over voxels; 0 if
            not asked for.
        densest: The most that the channels of a voxel's target add up to; 0 if not looked at.
    """

    sizes: Tensor
    entropy: Tensor
    densest: float


def volume_sums(
    prepare: Preparation, form: str, input: Tensor, target: Tensor, *, entropy: bool = False
) -> Sums | None:
    """The sums of a batch, with a gradient to the input; None where the plain path is due."""
    if not _is_covered(prepare, input, target):
        return None
    input, target = plain(input), plain(target)
    dtype, labels = accumulation_dtype(input, target), prepare.to_onehot_y and input.shape[1] > 1
    expected = (len(input), 1, *input.shape[2:]) if labels else input.shape
    if target.shape != expected or accumulation_dtype(input) != dtype:
        return None
    looks = should_validate(prepare.validate, input)
    keeps = torch.is_grad_enabled() and input.requires_grad
    plan = Plan(prepare, form, entropy, labels, looks, dtype, keeps)
    try:
        return Sums(*_Sums.apply(input, target, plan))  # pyright: ignore
    except RefusedError:
        return None


def plain_sums(pred: Tensor, truth: Tensor, form: str) -> list[Tensor]:
    """Intersection, size of the prediction and of the target by the plain path, the oracle."""
    size = masks.squared_size if form == "squared" else masks.size
    shared = masks.min_intersection if form == "min" else masks.product_intersection
    return [shared(pred, truth), size(pred), size(truth)]


def _is_covered(prepare: Preparation, input: object, target: object) -> bool:
    """Whether these are inputs for slabs; whatever is refused is refused by the plain path."""
    if is_traced():
        return False
    for values in (input, target):
        if not isinstance(values, Tensor) or values.dtype not in TAKEN or values.ndim < 3:
            return False
        if values.layout != torch.strided or values.device.type != "cpu":
            return False
        if values.is_inference() or has_tangent(values):
            return False
    assert isinstance(input, Tensor)
    assert isinstance(target, Tensor)
    if target.requires_grad or not input.is_floating_point():
        return False
    of_several = prepare.softmax or prepare.to_onehot_y or not prepare.include_background
    if prepare.other_act is not None or input.shape[1] <= int(of_several):
        return False
    ignored, channels = prepare.ignore_index, target.shape[1]
    return ignored is None or channels == 1 or not (prepare.regions or 0 <= ignored < channels)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, target, plan):
        volumes = _Fused(input, target, plan, held_probabilities(input, plan))
        sizes, entropy, densest = volumes.summed()
        ctx.save_for_backward(input, target, sizes)
        ctx.plan, ctx.may_tie, ctx.held = plan, volumes.may_tie, volumes.held
        return sizes, entropy, densest

    @staticmethod
    def backward(ctx, *gradients):
        input, target, sizes = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched(*gradients):
            plain = partial(_plain_outputs, ctx.plan, target)
            wanted = gradients[: 1 + ctx.plan.entropy]
            return *plain_gradients(plain, [input], [True], wanted), None, None
        held, ctx.held = ctx.held, None  # the gradient takes its place
        by_sizes, volumes = _held(sizes, gradients[0]), _Fused(input, target, ctx.plan, held)
        return volumes.gradient(by_sizes, gradients[1], ctx.may_tie), None, None


def _plain_outputs(plan: Plan, target: Tensor, input: Tensor) -> list[Tensor]:
    """What `_Sums` returns and has a gradient, by the plain path."""
    sizes = torch.stack(
        plain_sums(*replace(plan.prepare, validate=False)(input, target), plan.form)
    )
    if not plan.entropy:
        return [sizes]
    if input.shape[1] == 1:
        logits, truth = input.to(plan.dtype), target.to(plan.dtype)
        return [sizes, F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")]
    truth = target[:, 0].long() if plan.labels else target.to(plan.dtype)
    return [sizes, F.cross_entropy(input.to(plan.dtype), truth, reduction="sum")]


class _Fused(Volumes):
    """Sums and gradient of two volumes."""

    def summed(self) -> tuple[Tensor, Tensor, float]:
        """The three sums of each item and channel, the cross entropy, the densest target."""
        items, channels, _ = self.input.shape
        sizes = torch.zeros(3, items, channels - self.skipped, dtype=torch.float64)
        entropy = torch.zeros((), dtype=torch.float64)
        for where in self.slabs():
            truth = self.truth(where, looks=self.plan.looks)
            if self.plan.entropy:
                entropy += self.cross_entropy(where, truth)
            pred = self.activated(where, looks=self.plan.looks)
            place = self.place(where)
            for total, part in zip(sizes, self.measured(*self.kept(pred, truth)), strict=True):
                total[place].add_(part)
        looked_at = [sizes] * self.plan.looks + [entropy] * self.plan.entropy
        if any(math.isnan(total.sum().item()) for total in looked_at):
            raise RefusedError
        return sizes.to(self.plan.dtype), entropy.to(self.plan.dtype), self.densest

    @property
    def is_binary(self) -> bool:
        """Whether there is one channel, which is there or not."""
        return self.given.shape[1] == 1

    def cross_entropy(self, where: Where, truth: Tensor) -> Tensor:
        """Σ s · log Σ exp z - Σ y · z of a slab; z is how far logits lie below the largest.

        Of a single channel it is the binary one, Σ log(1 + exp z) - y · z.
        """
        if self.is_binary:
            logits = self.read("logits", self.input[where])
            into = self.room("product", truth.shape)
            torch.ops.aten.softplus.out(logits, 1, 40, out=into)  # beyond, it is the identity
            return _row_sums(into.addcmul_(logits, truth, value=-1)).double().sum()
        logits = self.read("logits", self.input[where])
        logits = self.below_largest(logits, out=self.room("pred", logits.shape))
        product = torch.mul(logits, truth, out=self.room("product", truth.shape))
        logs = logits.exp_().sum(dim=1, keepdim=True).log_()
        if not self.plan.labels:
            total = truth.sum(dim=1, keepdim=True)
            if self.plan.looks:
                self.densest = max(self.densest, total.amax().item())
            logs.mul_(total)
        return _row_sums(logs).double().sum() - _row_sums(product).double().sum()

    def measured(self, pred: Tensor, truth: Tensor) -> Iterator[Tensor]:
        """The three sums of a slab; a prediction that is in a room is overwritten."""
        room = (
            pred
            if self.plan.activates and self.plan.form == "min" and self.held is None
            else self.room("product", pred.shape)
        )
        if self.plan.form == "squared":
            pairs = ((pred, truth), (pred, pred), (truth, truth))
            yield from (_row_sums(torch.mul(a, b, out=room)) for a, b in pairs)
            return
        sizes = _row_sums(pred), _row_sums(truth)
        shared = torch.minimum if self.plan.form == "min" else torch.mul
        yield from (_row_sums(shared(pred, truth, out=room)), *sizes)

    def gradient(self, by_sizes: Tensor, by_entropy: Tensor, may_tie: bool) -> Tensor:
        """The gradient to the input, in its dtype and, where that is dense, its layout."""
        gradient = torch.empty_like(self.given) if self.held is None else self.held
        whole = gradient.flatten(2)  # a view, unless axes lie in memory in an order of their own
        if self.left_out:
            whole[:, : self.left_out] = 0
        factors = _factors(self.plan.form, by_sizes.to(self.plan.dtype).unsqueeze(-1))
        for where in self.slabs():
            slab = without(self.left_out, whole)[where]
            truth, own = self.truth(where), self.own(slab)
            pred = self.activated(where) if self.known is None else self.known[where]
            apart = self.prepare.softmax or self.plan.entropy or self.known is not None
            slope = self.room("slope", slab.shape) if apart else own
            if self.skipped:
                slope[:, : self.skipped] = 0
            place = self.place(where)
            self.differentiate(
                self.kept(slope, pred, truth), (factors[0][place], factors[1][place]), may_tie
            )
            ignored = self.ignored(where)
            if ignored is not None:
                slope.masked_fill_(ignored, 0)
            self.chained(slope, pred, into=slope if self.plan.entropy else own)
            if self.plan.entropy:
                by_logits = self.entropy_slope(where, pred, truth)
                torch.add(slope, by_logits, alpha=by_entropy.item(), out=own)
            if own is not slab:
                slab.copy_(own)
        if whole.data_ptr() != gradient.data_ptr():
            gradient.copy_(whole.view_as(gradient))
        return gradient

    def differentiate(
        self, slabs: Iterable[Tensor], factors: tuple[Tensor, Tensor], may_tie: bool
    ) -> None:
        """Write the derivative by the prediction.

        1 + sign(y - p) is 2 where p < y, 1 at ties and 0 elsewhere, exactly: in large empty targets
        the derivative by the size is all there is, and far smaller than that by the intersection.
        """
        slope, pred, truth = slabs
        factor, shift = factors
        if self.plan.form != "min":
            torch.mul(truth, factor, out=slope)
            slope.addcmul_(pred, shift) if self.plan.form == "squared" else slope.add_(shift)
            return
        torch.sub(truth, pred, out=slope).sign_()
        if may_tie and torch.count_nonzero(slope) < slope.numel():
            equal = slope == 0
            slope.masked_fill_(equal & (truth == 1), 1).masked_fill_(equal & (truth == 0), -1)
        torch.addcmul(shift, slope.add_(1), factor, out=slope)  # exact, as is 0, 1 or 2 times it

    def chained(self, slope: Tensor, pred: Tensor, *, into: Tensor) -> None:
        """Write the derivative by the logits, from that by the probabilities.

        Without an activation `into` is the slope, which is both.
        """
        if self.prepare.sigmoid:
            torch.ops.aten.sigmoid_backward.grad_input(slope, pred, grad_input=into)
        elif self.prepare.softmax:
            total, pairs = self.room("total", slope[:, :1].shape).zero_(), (slope, pred)
            for one, other in zip(*(each.split(1, dim=1) for each in pairs), strict=True):
                total.addcmul_(one, other)  # reads less than a product and its sum would
            torch.mul(slope.sub_(total), pred, out=into)

    def entropy_slope(self, where: Where, pred: Tensor, truth: Tensor) -> Tensor:
        """The derivative of the cross entropy, s · softmax - y, by the logits of a slab.

        Of a single channel it is sigmoid - y.
        """
        shares = pred
        if self.is_binary:
            if not self.prepare.sigmoid:
                logits = self.read("logits", self.input[where])
                shares = torch.sigmoid(logits, out=self.room("logs", logits.shape))
            return shares.sub_(truth)
        if not self.prepare.softmax:
            logits = self.read("logits", self.input[where])
            shares = self.softmax(logits, out=self.room("logs", logits.shape))
        if not self.plan.labels:
            shares.mul_(truth.sum(dim=1, keepdim=True))
        return shares.sub_(truth)


def _held(sizes: Tensor, gradient: Tensor) -> Tensor:
    """`held_gradient`, of which most sums need nothing: none is so small."""
    largest = torch.finfo(gradient.dtype).max
    if sizes.numel() and sizes.amin().item() * largest > 2.0**16:
        return gradient
    return held_gradient(sizes, gradient)


def _factors(form: str, by_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """What `differentiate` multiplies and adds, from the derivatives by the three sums."""
    by_shared, by_pred, _ = by_sizes
    if form == "squared":
        return by_shared, 2 * by_pred
    if form == "product":
        return by_shared, by_pred
    return by_shared / 2, by_pred


def _row_sums(values: Tensor) -> Tensor:
    """The sum of each channel of a slab; several rows are added up in float64."""
    whole = values.shape[-1] // ROW * ROW
    if not whole:
        return values.sum(dim=-1)
    rows = values[..., :whole].unflatten(-1, (-1, ROW))
    total = rows.sum(dim=-1).double().sum(dim=-1)
    return total if whole == values.shape[-1] else total + values[..., whole:].sum(dim=-1)
