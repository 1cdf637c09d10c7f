"""The sums behind a loss of masks, at the price of reading the volumes: a slab at a time.

The plain path (`Preparation`, `softoverlap.masks`) makes a volume of every step between logits and
sums, and keeps most of them until the gradient is asked for. Here nothing is made in the size of
the input but its gradient.

Forward, a slab of about a million numbers is activated, looked at (does each value lie in [0, 1]?)
and added up: of each item and channel the intersection, the size of the prediction and that of the
target, and, where it is asked for, the cross entropy. Only the inputs are kept. Backward, the loss
hands down its derivative by each of those sums, three numbers an item and channel. Each slab is
activated again, and its gradient is written:

    product   dI/dp = y                                 dP/dp = 1
    min       dI/dp = 1 where p < y, ½ where p = y      dP/dp = 1
    squared   dI/dp = y                                 dP/dp = 2p

times the derivative of sigmoid or softmax. The cross entropy adds s · softmax - y, where s is what
the target of a voxel adds up to. Where both masks are 0 or both are 1, min has the gradient of the
product, as in `softoverlap.masks.min_intersection`; sigmoid and softmax are flat there, so that
this is looked for only without an activation.

Rows of fixed length are added up in the dtype of accumulation, and the rows in float64: neither the
layout in memory nor the number of threads changes a bit of the sums.

What is not covered, or not in order, takes the plain path, which also says what is wrong: other
devices than the CPU, traces and transforms, other activations, targets that ask for a gradient,
values outside [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from softoverlap import masks
from softoverlap._autograd import held_gradient
from softoverlap._checks import is_traced, should_validate, slack_of
from softoverlap._types import TAKEN, accumulation_dtype, plain
from softoverlap.losses.inputs import Preparation

AT_ONCE = 1 << 20  # numbers in a slab
ROW = 1 << 14  # numbers that are added up in one go: too few to be shared among threads

Where = tuple[slice, slice, slice]


class Sums(NamedTuple):
    """What a loss needs to know of a batch.

    Args:
        sizes: Intersection, size of prediction and size of target, (3, B, C).
        entropy: The cross entropy over classes, summed up over voxels; 0 if not asked for.
        densest: The most that the channels of a voxel's target add up to; 0 if not looked at.
    """

    sizes: Tensor
    entropy: Tensor
    densest: float


@dataclass(frozen=True)
class _Plan:
    """What is done to each slab."""

    prepare: Preparation
    form: str
    entropy: bool
    labels: bool  # whether the target holds labels, not masks
    looks: bool
    dtype: torch.dtype

    @property
    def activates(self) -> bool:
        """Whether probabilities are made of the input."""
        return self.prepare.sigmoid or self.prepare.softmax

    @property
    def coupled(self) -> bool:
        """Whether the channels of a voxel are needed at once."""
        return self.prepare.softmax or self.entropy


class _Refused(Exception):
    """Something is not in order, or not covered: the plain path knows."""


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
    plan = _Plan(prepare, form, entropy, labels, should_validate(prepare.validate, input), dtype)
    try:
        return Sums(*_Sums.apply(input, target, plan))  # pyright: ignore
    except _Refused:
        return None


def plain_sums(pred: Tensor, truth: Tensor, form: str) -> list[Tensor]:
    """Intersection, size of the prediction and of the target by the plain path, the oracle."""
    size = masks.squared_size if form == "squared" else masks.size
    shared = masks.min_intersection if form == "min" else masks.product_intersection
    return [shared(pred, truth), size(pred), size(truth)]


def _is_covered(prepare: Preparation, input: object, target: object) -> bool:
    """Whether these are inputs for slabs; whatever is refused is refused by the plain path."""
    for values in (input, target):
        if not isinstance(values, Tensor) or values.dtype not in TAKEN or values.ndim < 3:
            return False
        if values.layout != torch.strided or values.device.type != "cpu":
            return False
        if unpack_dual(values).tangent is not None:
            return False
    assert isinstance(input, Tensor) and isinstance(target, Tensor)
    if is_traced() or target.requires_grad or not input.is_floating_point():
        return False
    of_several = prepare.softmax or prepare.to_onehot_y or not prepare.include_background
    if prepare.other_act is not None or input.shape[1] <= int(of_several):
        return False
    ignored, channels = prepare.ignore_index, target.shape[1]
    return ignored is None or channels == 1 or not (prepare.regions or 0 <= ignored < channels)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, target, plan):
        volumes = _Volumes(input, target, plan)
        sizes, entropy, densest = volumes.summed()
        ctx.save_for_backward(input, target, sizes)
        ctx.plan, ctx.may_tie = plan, volumes.may_tie
        return sizes, entropy, densest

    @staticmethod
    def backward(ctx, *gradients):
        input, target, sizes = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _plain_gradient(ctx.plan, input, target, gradients), None, None
        by_sizes, volumes = held_gradient(sizes, gradients[0]), _Volumes(input, target, ctx.plan)
        return volumes.gradient(by_sizes, gradients[1], ctx.may_tie), None, None


def _plain_gradient(
    plan: _Plan, input: Tensor, target: Tensor, gradients: Sequence[Tensor]
) -> Tensor:
    """The gradient by the plain path, which can be differentiated again."""
    shared, pred, _ = plain_sums(*replace(plan.prepare, validate=False)(input, target), plan.form)
    outputs, by_outputs = [shared, pred], [*gradients[0][:2]]
    if plan.entropy:
        truth = target[:, 0].long() if plan.labels else target.to(plan.dtype)
        outputs.append(F.cross_entropy(input.to(plan.dtype), truth, reduction="sum"))
        by_outputs.append(gradients[1])
    return torch.autograd.grad(outputs, input, by_outputs, create_graph=True)[0]


class _Volumes:
    """Input and target as (B, C, voxels), and rooms for slabs of them that are used again.

    The background that does not count is left out at once or, where the channels of a voxel are
    coupled, `skipped` after the activation.
    """

    def __init__(self, input: Tensor, target: Tensor, plan: _Plan) -> None:
        self.plan, self.prepare, self.given = plan, plan.prepare, input
        background = int(not plan.prepare.include_background)
        self.skipped, self.left_out = (background, 0) if plan.coupled else (0, background)
        self.input, self.labels = input.flatten(2)[:, self.left_out :], target.flatten(2)
        self.target = self.labels if plan.labels else self.labels[:, self.left_out :]
        self.classes = torch.arange(self.left_out, input.shape[1], dtype=plan.dtype)
        self.rooms: dict[str, Tensor] = {}
        self.densest = 0.0
        self.extremes = {"input": (torch.inf, -torch.inf), "target": (torch.inf, -torch.inf)}
        if plan.labels:
            self.extremes["target"] = 0, 1

    @property
    def may_tie(self) -> bool:
        """Whether both masks may be 0, or 1, at one voxel, as far as values were looked at."""
        if self.plan.activates:
            return False
        (low, high), (other_low, other_high) = self.extremes.values()
        return not self.plan.looks or max(low, other_low) <= 0 or min(high, other_high) >= 1

    def slabs(self) -> Iterator[Where]:
        """Some voxels of all channels, or of one if that is much; several items if they are small.

        How volumes are cut depends on their shape alone.
        """
        items, channels, voxels = self.input.shape
        width, together = channels, max(1, AT_ONCE // max(1, channels * voxels))
        if not self.plan.coupled and channels * voxels > AT_ONCE:
            width = max(1, AT_ONCE // voxels)
        step = max(1, AT_ONCE // (width * ROW)) * ROW
        for item in range(0, items, together):
            for channel in range(0, channels, width):
                for voxel in range(0, voxels, step):
                    yield (
                        slice(item, item + together),
                        slice(channel, channel + width),
                        slice(voxel, voxel + step),
                    )

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
            rows = self.measured(pred[:, self.skipped :], truth[:, self.skipped :])
            for total, part in zip(sizes, rows, strict=True):
                total[self.place(where)] += part
        if bool(entropy.isnan()) or (self.plan.looks and bool(sizes.isnan().any())):
            raise _Refused
        return sizes.to(self.plan.dtype), entropy.to(self.plan.dtype), self.densest

    def cross_entropy(self, where: Where, truth: Tensor) -> Tensor:
        """Σ s · log Σ exp z - Σ y · z over a slab, z the logits below the largest of their voxel."""
        logits = self.below_largest("pred", self.read("logits", self.input[where]))
        product = torch.mul(logits, truth, out=self.room("product", truth.shape))
        logs = logits.exp_().sum(dim=1, keepdim=True).log_()
        if not self.plan.labels:
            total = truth.sum(dim=1, keepdim=True)
            if self.plan.looks:
                self.densest = max(self.densest, total.amax().item())
            logs.mul_(total)
        return _row_sums(logs).sum() - _row_sums(product).sum()

    def measured(self, pred: Tensor, truth: Tensor) -> Iterator[Tensor]:
        """The three sums of a slab; a prediction that is in a room is overwritten."""
        room = (
            pred
            if self.plan.activates and self.plan.form == "min"
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
        whole = torch.empty_like(self.given.flatten(2))
        whole[:, : self.left_out] = 0
        factors = _factors(self.plan.form, by_sizes.to(self.plan.dtype).unsqueeze(-1))
        for where in self.slabs():
            slab = whole[:, self.left_out :][where]
            truth, pred = self.truth(where), self.activated(where)
            own = self.own(slab)
            slope = self.room("slope", slab.shape) if self.prepare.softmax else own
            slope[:, : self.skipped] = 0
            parts = (part[:, self.skipped :] for part in (slope, pred, truth))
            self.differentiate(*parts, *(factor[self.place(where)] for factor in factors), may_tie)
            ignored = self.ignored(where)
            if ignored is not None:
                slope.masked_fill_(ignored, 0)
            self.chained(slope, pred, own)
            if self.plan.entropy:
                own.add_(self.entropy_slope(where, pred, truth), alpha=by_entropy.item())
            if own is not slab:
                slab.copy_(own)
        return whole.unflatten(2, self.given.shape[2:])

    def differentiate(
        self,
        slope: Tensor,
        pred: Tensor,
        truth: Tensor,
        factor: Tensor,
        shift: Tensor,
        may_tie: bool,
    ) -> None:
        """Write the derivative by the prediction; sign(y - p) is what tells `p < y` from ties."""
        if self.plan.form != "min":
            torch.mul(truth, factor, out=slope)
            slope.addcmul_(pred, shift) if self.plan.form == "squared" else slope.add_(shift)
            return
        torch.sub(truth, pred, out=slope).sign_()
        if may_tie:
            equal = slope == 0
            slope.masked_fill_(equal & (truth == 1), 1).masked_fill_(equal & (truth == 0), -1)
        slope.mul_(factor).add_(shift)

    def chained(self, slope: Tensor, pred: Tensor, into: Tensor) -> Tensor:
        """The derivative by the logits, from that by the probabilities; in its place or a room."""
        if self.prepare.sigmoid:
            return torch.ops.aten.sigmoid_backward.grad_input(slope, pred, grad_input=slope)
        if self.prepare.softmax:
            torch.mul(slope, pred, out=into)
            slope.sub_(torch.sum(into, dim=1, keepdim=True))
            return torch.mul(slope, pred, out=into)
        return slope

    def entropy_slope(self, where: Where, pred: Tensor, truth: Tensor) -> Tensor:
        """The derivative of the cross entropy, s · softmax - y, by the logits of a slab."""
        shares = pred
        if not self.prepare.softmax:
            logits = self.read("logits", self.input[where])
            shares = self.softmax("logs", logits)
        if not self.plan.labels:
            shares.mul_(truth.sum(dim=1, keepdim=True))
        return shares.sub_(truth)

    def activated(self, where: Where, *, looks: bool = False) -> Tensor:
        """The prediction of a slab, 0 in voxels that do not count."""
        logits = self.read("logits", self.input[where])
        if self.prepare.sigmoid:
            pred = torch.sigmoid(logits, out=self.room("pred", logits.shape))
        elif self.prepare.softmax:
            pred = self.softmax("pred", logits)
        else:
            pred = logits
        pred = self.without_ignored("pred", pred, where)
        if looks and not self.plan.activates:  # else they are in [0, 1], or NaN
            self.look("input", pred, self.input.dtype)
        return pred

    def softmax(self, name: str, logits: Tensor) -> Tensor:
        """The softmax of a slab, in a room; torch would put the channels side by side first."""
        shares = self.below_largest(name, logits).exp_()
        return shares.div_(shares.sum(dim=1, keepdim=True))

    def below_largest(self, name: str, logits: Tensor) -> Tensor:
        """How far the logits of a slab lie below the largest of their voxel, in a room."""
        largest = logits.amax(dim=1, keepdim=True)
        return torch.sub(logits, largest, out=self.room(name, logits.shape))

    def truth(self, where: Where, *, looks: bool = False) -> Tensor:
        """The target of a slab, 0 in voxels that do not count."""
        if self.plan.labels:
            return self.one_hot(where)
        truth = self.without_ignored("truth", self.read("truth", self.target[where]), where)
        if looks:
            self.look("target", truth, self.target.dtype)
        return truth

    def one_hot(self, where: Where) -> Tensor:
        """The masks of a slab of labels."""
        labels = self.read("labels", self.labels[where[0], :, where[2]])
        labels = self.without_ignored("labels", labels, where)
        low, high = _extremes(labels)
        whole = not self.labels.is_floating_point() or bool((labels == labels.floor()).all())
        if not (whole and low >= 0 and high <= self.given.shape[1] - 1):
            raise _Refused
        classes = self.classes[where[1]].view(-1, 1)
        shape = (len(labels), len(classes), labels.shape[2])
        return self.without_ignored(
            "truth", torch.eq(labels, classes, out=self.room("truth", shape)), where
        )

    def without_ignored(self, name: str, values: Tensor, where: Where) -> Tensor:
        """The same values, or a copy in a room that is 0 in ignored voxels."""
        ignored = self.ignored(where)
        if ignored is None:
            return values
        own = self.room(name, values.shape)
        own = own if own.data_ptr() == values.data_ptr() else own.copy_(values)
        return own.masked_fill_(ignored, 0)

    def ignored(self, where: Where) -> Tensor | None:
        """Which voxels of a slab do not count, (B, 1, voxels); None if all do."""
        if self.prepare.ignore_index is None:
            return None
        labels = self.labels[where[0], :, where[2]]
        return masks.counted_voxels(labels, self.prepare.ignore_index) == 0

    def look(self, name: str, values: Tensor, dtype: torch.dtype) -> None:
        """Note the extremes, which must be those of probabilities."""
        if dtype == torch.bool:
            low, high = 0, 1
        else:
            low, high = _extremes(values)
        slack = slack_of(dtype)
        if not (low >= -slack and high <= 1 + slack):
            raise _Refused
        least, most = self.extremes[name]
        self.extremes[name] = min(low, least), max(high, most)

    def place(self, where: Where) -> tuple[slice, slice]:
        """Where the sums of a slab's items and channels are."""
        return where[0], slice(None) if self.plan.coupled else where[1]

    def read(self, name: str, values: Tensor) -> Tensor:
        """A slab in the dtype of accumulation with its voxels side by side: itself, or a copy."""
        if values.dtype == self.plan.dtype and values.stride(-1) == 1:
            return values
        return self.room(name, values.shape).copy_(values)

    def own(self, slab: Tensor) -> Tensor:
        """A slab to write into, or a room for what is written there at last."""
        if slab.dtype == self.plan.dtype and slab.stride(-1) == 1:
            return slab
        return self.room("gradient", slab.shape)

    def room(self, name: str, shape: Sequence[int]) -> Tensor:
        """A contiguous tensor of the dtype of accumulation, whatever it holds."""
        count = torch.Size(shape).numel()
        if name not in self.rooms:  # the first slab is the largest
            self.rooms[name] = torch.empty(count, dtype=self.plan.dtype)
        return self.rooms[name][:count].view(shape)


def _factors(form: str, by_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """What `differentiate` multiplies and adds, from the derivatives by the three sums."""
    by_shared, by_pred, _ = by_sizes
    if form == "squared":
        return by_shared, 2 * by_pred
    if form == "product":
        return by_shared, by_pred
    return by_shared / 2, by_shared / 2 + by_pred


def _extremes(values: Tensor) -> tuple[float, float]:
    """The least and the largest value; NaN if one is."""
    pieces = [values] if values.is_contiguous() else values.flatten(0, 1).unbind()
    extremes = [bound.item() for piece in pieces for bound in torch.aminmax(piece)]
    return min(extremes), max(extremes)


def _row_sums(values: Tensor) -> Tensor:
    """The sum of each channel of a slab."""
    whole = values.shape[-1] // ROW * ROW
    if not whole:
        return values.sum(dim=-1, dtype=values.dtype).double()
    rows = values[..., :whole].unflatten(-1, (-1, ROW))
    total = rows.sum(dim=-1).double().sum(dim=-1)
    return total if whole == values.shape[-1] else total + values[..., whole:].sum(dim=-1)
