"""The threshold at which a prediction has its highest Dice, for one item or for a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_threshold
from softoverlap._types import VoxelWeights
from softoverlap.measures.inputs import MaskBatch, MaskPair
from softoverlap.measures.measure import Statistics, VoxelMeasure, WithEmpty
from softoverlap.measures.thresholds import voxels
from softoverlap.measures.thresholds.curve import Curve, curve, rising

HUNDREDTHS = tuple(step / 100 for step in range(1, 101))


class BestThreshold(NamedTuple):
    """The highest score and the threshold that gives it.

    Args:
        score: The highest score, float64, NaN where nothing counted.
        threshold: Where it is reached, same shape; NaN where no threshold is.

    Examples:
        >>> import torch
        >>> BestThreshold(torch.tensor([0.8]), torch.tensor([0.5])).threshold
        tensor([0.5000])
    """

    score: Tensor
    threshold: Tensor


@dataclass(frozen=True, kw_only=True)
class BestThresholdDice(WithEmpty, VoxelMeasure):
    """Highest Dice of a prediction cut at any of the thresholds.

    It is chosen with the target in view: a ceiling for the choice of a threshold, not a result.
    Sums over a data set have the one threshold that is best for all of it; `best` says which.

    Args:
        thresholds: Where the prediction may be cut, in (0, 1]; a voxel is kept if its value is at
            or above the threshold. 0.01, 0.02, ..., 1 by default. None for each value of the
            prediction, which is exact: then sums over items mean nothing.
        target_threshold: Where the target is cut, in (0, 1]; by default it is taken as it is, soft.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where the prediction is
            empty as well at one of the thresholds.

    References:
        Lipton et al., Optimal Thresholding of Classifiers to Maximize F1 Measure,
        https://arxiv.org/abs/1402.1892

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[0.9, 0.6, 0.2]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
        >>> dice = BestThresholdDice(thresholds=None)
        >>> best = dice.best(dice.statistics(pred, target))
        >>> best.score, best.threshold
        (tensor([[1.]], dtype=torch.float64), tensor([[0.6000]], dtype=torch.float64))
    """

    compares = True

    thresholds: Sequence[float] | None = HUNDREDTHS
    target_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", rising(self.thresholds))
        if self.target_threshold is not None:
            check_threshold(target_threshold=self.target_threshold)

    @property
    def width(self) -> int:
        """Three sizes a threshold, or the best score and its threshold."""
        return 2 if self.thresholds is None else 3 * len(self.thresholds)

    @property
    def adds_up(self) -> bool:
        """Sizes at listed thresholds do, the best score does not."""
        return self.thresholds is not None

    def statistics(
        self, y_pred: Tensor, y: Tensor, *, mask: VoxelWeights | None = None
    ) -> Statistics:
        """Sizes of intersection, prediction and target at each threshold, or what is best."""
        batch = self.batch(y_pred, y, mask)
        return self._best_of_values(batch) if self.thresholds is None else self.summed(batch)

    def sums(self, pair: MaskPair) -> Float[Tensor, "items width"]:
        """Sizes of intersection, prediction and target at each threshold."""
        levels = tuple(self.thresholds or ())
        truth = self._cut(pair.truth)
        return voxels.sizes_against(pair.pred, truth, levels, pair.counted).flatten(1)

    def score(self, statistics: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """The highest Dice."""
        return self.best(statistics).score

    def best(self, statistics: Float[Tensor, "*shape width"]) -> BestThreshold:
        """The highest Dice and its threshold.

        Of equal scores the threshold nearest to 0.5 is taken, and the lower of two as near.
        """
        if self.thresholds is None:
            return BestThreshold(*statistics.unbind(-1))
        return _best(self._curve(statistics), torch.tensor(self.thresholds, dtype=torch.float64))

    def best_on_average(self, statistics: Float[Tensor, "items *shape width"]) -> BestThreshold:
        """The listed threshold of the highest mean Dice over items, those that are NaN left out."""
        means = self._curve(statistics).nanmean(dim=0)
        return _best(means, torch.tensor(self.thresholds, dtype=torch.float64))

    def details(self, statistics: Float[Tensor, "items width"]) -> BestThreshold:
        """The one threshold that is best for all items together."""
        return self.best(statistics.sum(dim=0) if self.adds_up else statistics)

    def _cut(self, truth: Tensor) -> Tensor:
        """The target, hard or as it is."""
        return truth if self.target_threshold is None else truth >= self.target_threshold

    def _curve(self, statistics: Tensor) -> Curve:
        options = {"ignore_empty": self.ignore_empty, "empty": self.empty}
        return curve(scores.dice, statistics, **options)

    def _best_of_values(self, batch: MaskBatch) -> Statistics:
        """The best of all values of each map above 0; an empty prediction has none."""
        if batch.hard:
            sizes = replace(self, thresholds=(1.0,)).summed(batch)
            score, threshold = _best(self._curve(sizes), sizes.new_ones(1))
            return torch.stack([score, threshold.masked_fill(sizes[..., 1] == 0, torch.nan)], -1)
        size = (batch.items, batch.channels, 2)
        best = torch.full(size, torch.nan, device=batch.device, dtype=torch.float64)
        for number in range(batch.items):
            for channel in range(batch.channels):
                best[number, channel] = self._best_of_item(batch.item(number), channel)
        return best

    def _best_of_item(self, item: MaskBatch, channel: int) -> Float[Tensor, "2"]:
        """The best of each part of the values is one of those that the best of all is among."""
        parts = partial(self._parts, item, channel)
        found = [
            torch.stack(_best(self._curve(sizes.flip(1).flatten()), values.flip(0))).tolist()
            for values, sizes in voxels.sizes_at_values(parts)
            if len(values)
        ]
        if found:
            score, threshold = torch.tensor(found[::-1], dtype=torch.float64).unbind(1)
            return torch.stack(_best(score, threshold))
        marked = any(bool((truth > 0).any()) for _, truth, _ in parts())
        score = 0.0 if marked else torch.nan if self.ignore_empty else self.empty
        return torch.tensor([score, torch.nan], dtype=torch.float64)

    def _parts(self, item: MaskBatch, channel: int) -> Iterator[voxels.Maps]:
        """Prediction and target, a slab at a time."""
        for part in item.slabs():
            pair = item.values(channel, part)
            yield voxels.flat(pair._replace(truth=self._cut(pair.truth)))


def _best(dice: Curve, thresholds: Float[Tensor, " levels"]) -> BestThreshold:
    """The highest score along the last axis; of equal ones that nearest to 0.5, then the lower."""
    thresholds = thresholds.to(dice.device)
    comparable = dice.nan_to_num(nan=-1.0)
    score = comparable.amax(dim=-1)
    apart = ((thresholds - 0.5).abs() * 1e9).round()  # 0.4 and 0.6 are as near
    place = torch.where(comparable == score[..., None], apart, torch.inf).argmin(dim=-1)
    nothing = score < 0
    return BestThreshold(
        score.masked_fill(nothing, torch.nan), thresholds[place].masked_fill(nothing, torch.nan)
    )
