"""Expected Dice and IoU as MONAI metrics."""

from __future__ import annotations

from collections.abc import Sequence

from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap import scores
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.mask_inputs import MaskInputs
from softoverlap.measures.reduction import reduce_scores
from softoverlap.measures.thresholds.curve import Ratio
from softoverlap.measures.thresholds.expected import BINS, ExpectedBounds, check_method, expected


class _ExpectedMetric(MaskMetric):
    """What both share: of each item and class the score and its bounds."""

    width = 3
    adds_up = False
    ratio: Ratio

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        method: str = "exact",
        bins: int = BINS,
        ignore_index: int | None = None,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        check_method(method, bins)
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.bins = bins if method == "histogram" else None
        self.ignore_empty, self.empty = ignore_empty, empty

    def bounds(self, reduction: MetricReduction | str | None = None) -> ExpectedBounds:
        """Proven bounds of what `aggregate` would give if every score were exact.

        Args:
            reduction: One of MONAI's or of ours, in place of the one given at the start.

        Returns:
            Lower and upper bound, of the shape that `aggregate` gives; equal for "exact".

        Raises:
            ValueError: If nothing was collected or the reduction is over a data set.
        """
        name = self._checked(reduction or self.reduction)
        _, lower, upper = self.statistics().unbind(-1)
        return ExpectedBounds(reduce_scores(lower, name)[0], reduce_scores(upper, name)[0])

    def _statistics(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        pair = self.inputs.values(y_pred, y, mask=mask)
        return expected(self.ratio, pair, self.bins, self.ignore_empty, self.empty)

    def _score(self, statistics: Tensor) -> Tensor:
        return statistics[..., 0]


class ExpectedDiceMetric(_ExpectedMetric):
    """Expected Dice over a uniform threshold, over a data set.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out. Not "dataset": thresholds of each
            item end at its own maximum, so that sizes do not add up.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        method: "exact" sorts the voxels above 0, "histogram" counts them in `bins` cells.
        bins: Cells of the histogram up to the next power of two above the maximum; a power of two.
        ignore_index: Voxels with this label do not count.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or "dataset", `method` is unknown or `bins` is no
            power of two; on use, if shapes differ or a probability lies outside [0, 1].

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> metric = ExpectedDiceMetric()
        >>> _ = metric(torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.25]]]))
        >>> round(metric.aggregate().item(), 4)
        0.9167
    """

    ratio = staticmethod(scores.dice)


class ExpectedIoUMetric(_ExpectedMetric):
    """Expected IoU over a uniform threshold, over a data set.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out. Not "dataset": thresholds of each
            item end at its own maximum, so that sizes do not add up.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        method: "exact" sorts the voxels above 0, "histogram" counts them in `bins` cells.
        bins: Cells of the histogram up to the next power of two above the maximum; a power of two.
        ignore_index: Voxels with this label do not count.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or "dataset", `method` is unknown or `bins` is no
            power of two; on use, if shapes differ or a probability lies outside [0, 1].

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> metric = ExpectedIoUMetric()
        >>> _ = metric(torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.25]]]))
        >>> round(metric.aggregate().item(), 4)
        0.875
    """

    ratio = staticmethod(scores.iou)
