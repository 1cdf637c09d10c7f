"""Dice and IoU expected over a uniform threshold, exact by one sort or bounded by a histogram.

With m the larger maximum of both maps, the expected Dice is ∫ Dice(p >= t, y >= t) dt / m over t in
(0, m]: thresholds above both maps, where nothing is left to compare, are left out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_choice
from softoverlap._types import VoxelWeights
from softoverlap.measures.inputs import MaskBatch
from softoverlap.measures.measure import Ratio, Statistics, WithEmpty, counted_sum
from softoverlap.measures.thresholds import voxels

METHODS = ("exact", "histogram")


class ExpectedBounds(NamedTuple):
    """Proven bounds of an expected score: the exact one lies between them.

    Args:
        lower: At most the exact score, float64.
        upper: At least the exact score, same shape.

    Examples:
        >>> import torch
        >>> bounds = ExpectedBounds(torch.tensor([0.70]), torch.tensor([0.71]))
        >>> (bounds.upper - bounds.lower).item() < 0.02
        True
    """

    lower: Tensor
    upper: Tensor


@dataclass(frozen=True, kw_only=True)
class Expected(WithEmpty):
    """What both share: of each item and class the score and its bounds, which do not add up.

    Thresholds of each item end at its own maximum.

    Args:
        method: "exact" sorts the voxels above 0; "histogram" counts them in `bins` cells, in a
            small part of the time, and `bounds` says how far off it can be.
        bins: Cells of the histogram up to the next power of two above the maximum; a power of two,
            so that no value is rounded across an edge.
    """

    method: str = "exact"
    bins: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("method", self.method, METHODS)
        bins = self.bins
        if not isinstance(bins, int) or not 2 <= bins <= 1 << 20 or bins & (bins - 1):
            raise ValueError(f"bins must be a power of two from 2 to 2**20, got {bins}")

    @property
    @abstractmethod
    def ratio(self) -> Ratio:
        """The overlap of sizes."""

    @property
    def width(self) -> int:
        """The score and its bounds."""
        return 3

    @property
    def adds_up(self) -> bool:
        """An integral over thresholds is no sum over items."""
        return False

    def statistics(
        self, y_pred: Tensor, y: Tensor, *, mask: VoxelWeights | None = None
    ) -> Statistics:
        """The expected score and its lower and upper bound, of each item and class."""
        batch = self.batch(y_pred, y, mask)
        size = (batch.items, batch.channels, 3)
        rows = torch.zeros(size, device=batch.device, dtype=torch.float64)
        for number in range(batch.items):
            item = batch.item(number)
            for channel in range(batch.channels):
                rows[number, channel] = self._of_class(item, channel)
        return rows

    def score(self, statistics: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape"]:
        """The expected score, in [0, 1] or NaN."""
        return statistics[..., 0]

    def bounds(self, statistics: Float[Tensor, "*shape 3"]) -> ExpectedBounds:
        """Bounds of the exact score; equal for "exact".

        Within a cell of thresholds the sizes of intersection and union fall from those of the
        cell's lower edge to those of its upper edge, and the score rises with the first and falls
        with the second. What the histogram gives lies between the bounds too, so its error is at
        most their distance.
        """
        return ExpectedBounds(statistics[..., 1], statistics[..., 2])

    def details(self, statistics: Float[Tensor, "items 3"]) -> ExpectedBounds:
        """Bounds of the mean over items."""
        return self.bounds(statistics.nanmean(dim=0))

    def _of_class(self, item: MaskBatch, channel: int) -> Tensor | float:
        tops = _tops(item, channel)
        if not tops[1] and (self.ignore_empty or not tops[0]):
            return torch.nan if self.ignore_empty else self.empty
        if self.method == "histogram":
            cells = voxels.cells_between(_flat_slabs(item, channel), tops.max(), self.bins)
            return from_cells(self.ratio, cells)
        return self._exact(item, channel)

    def _exact(self, item: MaskBatch, channel: int) -> Tensor:
        """The integral over the pieces on which both cut maps stay the same.

        The voxelwise minimum and maximum of two maps have their intersection and union, and the
        same sizes in total: they stand in for the maps. Hard masks are one piece.
        """
        if item.hard:
            return self._of_hard_masks(item, channel)
        total = width = torch.zeros((), device=item.device, dtype=torch.float64)
        for part, shared, joint in voxels.pieces(partial(_flat_slabs, item, channel)):
            total = total + (part * self.ratio(shared, shared, joint, empty=0.0)).sum()
            width = width + part.sum()
        return (total / width).clamp(0, 1)

    def _of_hard_masks(self, item: MaskBatch, channel: int) -> Tensor:
        shared = joint = torch.zeros(1, device=item.device, dtype=torch.float64)
        for part in item.slabs():
            pair = item.values(channel, part)
            shared = shared + counted_sum(pair.pred & pair.truth, pair.counted)
            joint = joint + counted_sum(pair.pred | pair.truth, pair.counted)
        return self.ratio(shared, shared, joint, empty=0.0)


@dataclass(frozen=True, kw_only=True)
class ExpectedDice(Expected):
    """Expected Dice of both masks cut at a threshold drawn from (0, larger maximum of both].

    Args:
        method: "exact", or "histogram" in a small part of the time.
        bins: Cells of the histogram, a power of two.

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> pred, target = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.25]]])
        >>> ExpectedDice()(pred, target)
        tensor([[0.9167]], dtype=torch.float64)
        >>> quick = ExpectedDice(method="histogram")
        >>> lower, upper = quick.bounds(quick.statistics(pred, target))
        >>> bool(lower < ExpectedDice()(pred, target) < upper)
        True
    """

    @property
    def ratio(self) -> Ratio:
        """Dice of sizes."""
        return scores.dice


@dataclass(frozen=True, kw_only=True)
class ExpectedIoU(Expected):
    """Expected IoU of both masks cut at a threshold drawn from (0, larger maximum of both].

    Args:
        method: "exact", or "histogram" in a small part of the time.
        bins: Cells of the histogram, a power of two.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> pred, target = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.25]]])
        >>> ExpectedIoU()(pred, target)
        tensor([[0.8750]], dtype=torch.float64)
    """

    @property
    def ratio(self) -> Ratio:
        """IoU of sizes."""
        return scores.iou


def from_cells(ratio: Ratio, cells: voxels.Cells) -> Float[Tensor, "3"]:
    """The score from the middle sizes of each cell, and from those that are worst and best."""
    low, high = cells.shared_low, cells.shared_high
    middle = (low + high) / 2
    sizes = (
        (middle, (cells.joint_low + cells.joint_high) / 2),
        (low, cells.joint_high),
        (high, torch.maximum(cells.joint_low, high)),  # no intersection is above the union
    )
    curves = [ratio(shared, shared, joint, empty=1.0) for shared, joint in sizes]
    share = cells.width / cells.width.sum()
    return torch.stack([(share * curve).sum() for curve in curves]).clamp(0, 1)


def _tops(item: MaskBatch, channel: int) -> Float[Tensor, "2"]:
    """The largest values of prediction and target."""
    tops = torch.zeros(2, device=item.device, dtype=torch.float64)
    for part in item.slabs():
        pair = item.values(channel, part)
        if pair.pred.numel():
            tops = torch.maximum(tops, torch.stack([m.amax().double() for m in pair[:2]]))
    return tops


def _flat_slabs(item: MaskBatch, channel: int) -> Iterator[voxels.Maps]:
    """The voxels of a class, a slab at a time, in float32 or better."""
    return (voxels.flat(item.values(channel, part)) for part in item.slabs())
