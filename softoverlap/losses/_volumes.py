"""Two volumes that are read a slab at a time, into rooms that are used again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softoverlap import masks
from softoverlap._checks import slack_of
from softoverlap.losses.inputs import Preparation

AT_ONCE = 1 << 20  # numbers in a slab
ROW = 1 << 14  # numbers that are added up in one go: too few to be shared among threads

Where = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Plan:
    """What is done to each slab."""

    prepare: Preparation
    form: str
    entropy: bool
    labels: bool  # whether the target holds labels, not masks
    looks: bool
    dtype: torch.dtype
    keeps: bool  # whether a gradient may be asked for, of probabilities that are kept until then
    binary: bool = False  # whether there is a cross entropy of each channel by itself

    @property
    def activates(self) -> bool:
        """Whether probabilities are made of the input."""
        return self.prepare.sigmoid or self.prepare.softmax

    @property
    def adds_entropy(self) -> bool:
        """Whether the gradient has a part of a cross entropy."""
        return self.entropy or self.binary

    @property
    def coupled(self) -> bool:
        """Whether the channels of a voxel are needed at once."""
        return self.prepare.softmax or self.entropy


class RefusedError(Exception):
    """Something is not in order, or not covered: the plain path knows."""


class Volumes:
    """Input and target as (B, C, voxels), and rooms for slabs of them that are used again.

    The background that does not count is left out at once or, where the channels of a voxel are
    coupled, `skipped` after the activation.

    Probabilities that are `held` lie in a tensor like the input. The gradient takes their place,
    slab by slab: so that no volume is held beyond it, and nothing is activated twice.
    """

    def __init__(
        self, input: Tensor, target: Tensor, plan: Plan, held: Tensor | None = None
    ) -> None:
        self.plan, self.prepare, self.given = plan, plan.prepare, input
        background = int(not plan.prepare.include_background)
        self.skipped, self.left_out = (background, 0) if plan.coupled else (0, background)
        self.input, self.labels = without(self.left_out, input.flatten(2)), target.flatten(2)
        self.target = self.labels if plan.labels else without(self.left_out, self.labels)
        self.held = held
        self.known = None if held is None else without(self.left_out, held.flatten(2))
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

    def activated(self, where: Where, *, looks: bool = False) -> Tensor:
        """The prediction of a slab, 0 in voxels that do not count."""
        logits = self.read("logits", self.input[where])
        if self.plan.activates:
            into = self.room("pred", logits.shape) if self.known is None else self.known[where]
            activate = self.softmax if self.prepare.softmax else torch.sigmoid
            pred, ignored = activate(logits, out=into), self.ignored(where)
            return pred if ignored is None else pred.masked_fill_(ignored, 0)  # in [0, 1], or NaN
        pred = self.without_ignored("pred", logits, where)
        if looks:
            self.look("input", pred, self.input.dtype)
        return pred

    def softmax(self, logits: Tensor, *, out: Tensor) -> Tensor:
        """The softmax of a slab; torch would put the channels side by side first."""
        shares = self.below_largest(logits, out=out).exp_()
        return shares.div_(shares.sum(dim=1, keepdim=True))

    def below_largest(self, logits: Tensor, *, out: Tensor) -> Tensor:
        """How far the logits of a slab lie below the largest of their voxel."""
        return torch.sub(logits, logits.amax(dim=1, keepdim=True), out=out)

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
            raise RefusedError
        classes = torch.arange(self.left_out, self.given.shape[1], dtype=self.plan.dtype)
        classes = classes[where[1]].view(-1, 1)
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
            raise RefusedError
        least, most = self.extremes[name]
        self.extremes[name] = min(low, least), max(high, most)

    def kept(self, *slabs: Tensor) -> Iterator[Tensor]:
        """The channels that count, where a slab has others too."""
        return (without(self.skipped, slab) for slab in slabs)

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


def held_probabilities(input: Tensor, plan: Plan) -> Tensor | None:
    """Where the probabilities of a volume are kept, and its gradient later; None if nowhere."""
    if not (plan.keeps and plan.activates and input.dtype == plan.dtype):
        return None
    held = torch.empty_like(input)
    voxels = held.flatten(2)
    side_by_side = voxels.data_ptr() == held.data_ptr() and voxels.stride(-1) == 1
    return held if side_by_side else None


def without(background: int, channels: Tensor) -> Tensor:
    """The other channels."""
    return channels[:, background:] if background else channels


def _extremes(values: Tensor) -> tuple[float, float]:
    """The least and the largest value; NaN if one is."""
    pieces = [values] if values.is_contiguous() else values.flatten(0, 1).unbind()
    extremes = [bound.item() for piece in pieces for bound in torch.aminmax(piece)]
    return min(extremes), max(extremes)
