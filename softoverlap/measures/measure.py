"""What a measure is: settings, sums that add up, and the score of those sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_booleans, check_score
from softoverlap._types import VoxelWeights
from softoverlap.measures.inputs import MaskBatch, MaskPair, mask_batch

Piece = tuple[slice, int, MaskPair]
"""Some items, a class, and its masks there."""

Ratio = Callable[..., Tensor]
Scores = Float[Tensor, "batch classes"]
Statistics = Float[Tensor, "batch classes width"]


@dataclass(frozen=True, kw_only=True)
class Measure(ABC):
    """Settings of a measure, which is called like a function: `SoftDice()(y_pred, y)`.

    A call is `score(statistics(y_pred, y))`. Statistics are float64 numbers of each item and class;
    those of several scans or processes are added up before they are scored, where the measure
    `adds_up`. `MeasureMetric` makes any measure a MONAI metric.

    Args:
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of single-channel labels, background included.
        validate: Look at the values too; by default on, also on a GPU.

    Examples:
        >>> import torch
        >>> from softoverlap import Measure, SoftDice
        >>> pred, target = torch.tensor([[[0.6, 0.0]]]), torch.tensor([[[0.6, 0.4]]])
        >>> measure = SoftDice()
        >>> statistics = measure.statistics(pred, target)  # Σ min, Σ prediction, Σ target
        >>> measure.score(statistics + measure.statistics(target, target))
        tensor([[0.8889]], dtype=torch.float64)
        >>> isinstance(measure, Measure)
        True
    """

    needs_target = True  # or whether a call may hold one side alone

    include_background: bool = True
    num_classes: int | None = None
    validate: bool | None = None

    def __post_init__(self) -> None:
        check_booleans(self)
        _check_integer(num_classes=self.num_classes)
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers are kept of an item and class."""

    @property
    def adds_up(self) -> bool:
        """Whether sums of statistics over items, or over parts of a scan, mean something."""
        return True

    @abstractmethod
    def statistics(
        self, y_pred: Tensor, y: Tensor, *, mask: VoxelWeights | None = None
    ) -> Statistics:
        """What is kept of each item and class.

        Args:
            y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
                `num_classes`.
            y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
                classes.
            mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.

        Returns:
            Float64 numbers, shape (B, C, width), without the background if it does not count.

        Raises:
            ValueError: If the shapes differ or a probability lies outside [0, 1].
        """

    @abstractmethod
    def score(self, statistics: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """The score of statistics, float64, NaN where there is none."""

    def details(self, statistics: Float[Tensor, "items width"]) -> Any:
        """What the statistics of one class over all items say beside the score: here nothing."""
        return None

    def __call__(self, y_pred: Any, *inputs: Any, **options: Any) -> Scores:
        """The score of each item and class; the arguments are those of `statistics`."""
        return self.score(self.statistics(y_pred, *inputs, **options))

    @property
    def looks(self) -> bool:
        """A measure may wait for the device: it looks at the values unless told not to."""
        return self.validate is not False


@dataclass(frozen=True, kw_only=True)
class MaskMeasure(Measure):
    """A measure of two masks, a class at a time.

    Args:
        ignore_index: Voxels with this label do not count.
    """

    ignore_index: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_integer(ignore_index=self.ignore_index)

    def batch(self, y_pred: Tensor, y: Tensor, mask: Tensor | None) -> MaskBatch:
        """The masks and what counts of them, to be read a class and a part at a time."""
        return mask_batch(
            y_pred,
            y,
            mask,
            include_background=self.include_background,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
            looks=self.looks,
        )


@dataclass(frozen=True, kw_only=True)
class VoxelMeasure(MaskMeasure):
    """Sums over voxels, a part of an image at a time: no copy of a whole mask is made."""

    compares = False  # whether values meet thresholds, where NaN has no place

    @abstractmethod
    def sums(self, pair: MaskPair) -> Float[Tensor, "items width"]:
        """The sums over a part of one class."""

    def statistics(
        self, y_pred: Tensor, y: Tensor, *, mask: VoxelWeights | None = None
    ) -> Statistics:
        """The sums over the voxels of each item and class; see `Measure.statistics`."""
        return self.summed(self.batch(y_pred, y, mask))

    def parts(self, batch: MaskBatch) -> Iterator[Piece]:
        """The parts of the masks, each of some items and a class: slabs of all of them."""
        read = batch.values if self.compares else batch.pair
        for part in batch.slabs():
            for channel in range(batch.channels):
                yield slice(None), channel, read(channel, part)

    def summed(self, batch: MaskBatch) -> Statistics:
        """The sums over all parts."""
        return summed_together([self], batch)[0]


def summed_together(measures: Sequence[VoxelMeasure], batch: MaskBatch) -> list[Statistics]:
    """The sums of measures that look at the same voxels, in one pass over the first one's parts."""
    totals = [
        torch.zeros(batch.items, batch.channels, measure.width, dtype=torch.float64)
        for measure in measures
    ]
    totals = [total.to(batch.device) for total in totals]
    for items, channel, pair in measures[0].parts(batch):
        for measure, total in zip(measures, totals, strict=True):
            total[items, channel] += measure.sums(pair)
    return totals


@dataclass(frozen=True, kw_only=True)
class WithEmpty(MaskMeasure):
    """What the score of an empty item is.

    Args:
        ignore_empty: NaN where the target is empty, as in MONAI; else an empty target scores 0,
            or `empty` where the prediction is empty as well.
        empty: Score where both are empty and `ignore_empty` is False.
    """

    ignore_empty: bool = True
    empty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score(empty=self.empty)


def counted_sum(values: Tensor, counted: Tensor | None) -> Float[Tensor, " batch"]:
    """Σ values of each item, as much as their voxels count, in float64."""
    if counted is not None:
        values = values.double() * counted
    elif values.dtype == torch.bool:  # a sum of truth values would make a wide copy
        return values.flatten(1).count_nonzero(dim=1).double()
    return values.flatten(1).sum(dim=1, dtype=torch.float64)


def _check_integer(**values: object) -> None:
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise TypeError(f"{name} must be an integer or None, got {value!r}")
