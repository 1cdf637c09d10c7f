"""The threshold at which a prediction has its highest Dice, for one item or for a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_choice, check_threshold
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.mask_inputs import MaskInputs, MaskPair
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


def compute_best_threshold_dice(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    thresholds: Sequence[float] | None = None,
    target_threshold: float | None = None,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> BestThreshold:
    """Highest Dice of a prediction cut at any threshold, for each item and class.

    It is chosen with the target in view: a ceiling for the choice of a threshold, not a result.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where the prediction is
            empty as well at one of the thresholds.
        num_classes: Number of classes of single-channel labels, background included.
        thresholds: Where the prediction may be cut, in (0, 1]; by default at each of its values
            above 0, which is exact. A voxel is kept if its value is at or above the threshold.
        target_threshold: Where the target is cut, in (0, 1]; by default it is taken as it is, soft.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        The highest Dice in [0, 1] or NaN and its threshold, float64, each of shape (B, C). Of equal
        scores the threshold nearest to 0.5 is taken, and the lower of two as near.

    Raises:
        ValueError: If the shapes differ, or a probability or threshold lies outside its range.

    References:
        Lipton et al., Optimal Thresholding of Classifiers to Maximize F1 Measure,
        https://arxiv.org/abs/1402.1892

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[0.9, 0.6, 0.2]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
        >>> best = compute_best_threshold_dice(pred, target)
        >>> best.score, best.threshold
        (tensor([[1.]], dtype=torch.float64), tensor([[0.6000]], dtype=torch.float64))
    """
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    target_threshold = _checked_target_threshold(target_threshold)
    pair = _cut_target(inputs.values(y_pred, y, mask=mask), target_threshold)
    if thresholds is None:
        return _best_of_all(pair, ignore_empty, empty)
    known = torch.tensor(rising(thresholds), dtype=torch.float64)
    sizes = voxels.sizes_against(pair.pred, pair.truth, known, pair.counted)
    return _best(_dice(sizes.flatten(2), ignore_empty, empty), known)


class BestThresholdDiceMetric(MaskMetric):
    """The one threshold of the prediction that is best for a data set, for each class.

    Args:
        include_background: Whether channel 0 counts.
        reduction: "dataset" adds the sizes at each threshold up over the items: the Dice of the one
            threshold that is best for all, the mean over classes. "dataset_batch" leaves classes
            apart. MONAI's reductions take the best threshold of each item, a ceiling.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        thresholds: Where the prediction may be cut, in (0, 1]; 0.01, 0.02, ..., 1 by default. A
            voxel is kept if its value is at or above the threshold.
        target_threshold: Where the target is cut, in (0, 1]; by default it is taken as it is, soft.
        ignore_index: Voxels with this label do not count.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or a threshold lies outside (0, 1]; on use, if shapes
            differ or a probability lies outside [0, 1].

    References:
        Lipton et al., Optimal Thresholding of Classifiers to Maximize F1 Measure,
        https://arxiv.org/abs/1402.1892

    Examples:
        >>> import torch
        >>> metric = BestThresholdDiceMetric()
        >>> _ = metric(torch.tensor([[[0.9, 0.3]]]), torch.tensor([[[1.0, 0.0]]]))
        >>> _ = metric(torch.tensor([[[0.4, 0.1]]]), torch.tensor([[[1.0, 0.0]]]))
        >>> best = metric.best_threshold()
        >>> best.score.item(), best.threshold.item()
        (1.0, 0.4)
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = "dataset",
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        thresholds: Sequence[float] = HUNDREDTHS,
        target_threshold: float | None = None,
        ignore_index: int | None = None,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.thresholds = rising(thresholds)
        self.target_threshold = _checked_target_threshold(target_threshold)
        self.width = 3 * len(self.thresholds)
        self.ignore_empty, self.empty = ignore_empty, empty

    def best_threshold(self, over: str = "dataset") -> BestThreshold:
        """The threshold that is best for all items, and its score, for each class.

        Args:
            over: "dataset": the highest Dice of the sizes added up over the items. "items": the
                highest mean over items of their Dice, those that are NaN left out.

        Returns:
            Score and threshold, float64, each of shape (C,). Of equal scores the threshold nearest
            to 0.5 is taken, and the lower of two as near.

        Raises:
            ValueError: If nothing was collected or `over` is unknown.
        """
        check_choice("over", over, ("dataset", "items"))
        sizes = self.statistics()
        known = torch.tensor(self.thresholds, dtype=torch.float64)
        if over == "dataset":
            return _best(self._curve(sizes.sum(dim=0)), known)
        return _best(self._curve(sizes).nanmean(dim=0), known)

    def _statistics(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        pair = _cut_target(self.inputs.values(y_pred, y, mask=mask), self.target_threshold)
        known = torch.tensor(self.thresholds, dtype=torch.float64)
        return voxels.sizes_against(pair.pred, pair.truth, known, pair.counted).flatten(2)

    def _score(self, statistics: Tensor) -> Tensor:
        known = torch.tensor(self.thresholds, dtype=torch.float64)
        return _best(self._curve(statistics), known).score

    def _curve(self, statistics: Tensor) -> Curve:
        return _dice(statistics, self.ignore_empty, self.empty)


def _checked_target_threshold(threshold: float | None) -> float | None:
    if threshold is not None:
        check_threshold(target_threshold=threshold)
    return threshold


def _cut_target(pair: MaskPair, threshold: float | None) -> MaskPair:
    """The pair with a hard target, or as it is."""
    if threshold is None:
        return pair
    return pair._replace(truth=(pair.truth >= threshold).to(pair.truth.dtype))


def _dice(sizes: Tensor, ignore_empty: bool, empty: float) -> Curve:
    return curve(scores.dice, sizes, ignore_empty=ignore_empty, empty=empty)


def _best(found: Curve, thresholds: Float[Tensor, " levels"]) -> BestThreshold:
    """The highest score along the last axis; of equal ones that nearest to 0.5, then the lower."""
    thresholds = thresholds.to(found.device)
    comparable = found.nan_to_num(nan=-1.0)
    score = comparable.amax(dim=-1)
    apart = ((thresholds - 0.5).abs() * 1e9).round()  # 0.4 and 0.6 are as near
    place = torch.where(comparable == score[..., None], apart, torch.inf).argmin(dim=-1)
    nothing = score < 0
    return BestThreshold(
        score.masked_fill(nothing, torch.nan), thresholds[place].masked_fill(nothing, torch.nan)
    )


def _best_of_all(pair: MaskPair, ignore_empty: bool, empty: float) -> BestThreshold:
    """The best of all values of each map above 0; an empty prediction has none to choose from."""
    score, threshold = torch.full(
        (2, *pair.pred.shape[:2]), torch.nan, device=pair.pred.device, dtype=torch.float64
    )
    maps = voxels.voxels_of(*pair)
    places = [(item, channel) for item in range(len(score)) for channel in range(score.shape[1])]
    for place, (pred, truth, weights) in zip(places, maps, strict=True):
        values, sizes = voxels.sizes_at_values(pred, truth, weights)
        if len(values):
            found = _dice(sizes.flip(1).flatten(), ignore_empty, empty)
            score[place], threshold[place] = _best(found, values.flip(0))
        elif (truth > 0).any():
            score[place] = 0.0
        elif not ignore_empty:
            score[place] = empty
    return BestThreshold(score, threshold)
