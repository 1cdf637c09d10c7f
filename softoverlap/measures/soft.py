"""Soft Dice, IoU and Tversky as MONAI metrics: nothing is rounded to 0 or 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap import masks, scores
from softoverlap._checks import check_score, check_weight
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.inputs import MaskInputs, MaskPair

Ratio = Callable[..., Tensor]
Scores = Float[Tensor, "batch classes"]


def compute_soft_dice(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    per_component: bool = False,
    ignore_index: int | None = None,
    *,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Soft Dice score of each item and class, with the minimum as intersection.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty, as in MONAI; else an empty target scores 0,
            or `empty` where the prediction is empty as well.
        num_classes: Number of classes of single-channel labels, background included.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1] or `per_component` is
            True.

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> compute_soft_dice(torch.tensor([[[0.6, 0.0]]]), torch.tensor([[[0.6, 0.4]]]))
        tensor([[0.7500]], dtype=torch.float64)
    """
    _refuse_components(per_component)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    return _score(scores.dice, _sizes(inputs(y_pred, y, mask=mask)), ignore_empty, empty)


def compute_soft_iou(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    per_component: bool = False,
    ignore_index: int | None = None,
    *,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Soft IoU of each item and class: Σ min / Σ max.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty, as in MONAI; else an empty target scores 0,
            or `empty` where the prediction is empty as well.
        num_classes: Number of classes of single-channel labels, background included.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1] or `per_component` is
            True.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> compute_soft_iou(torch.tensor([[[0.6, 0.0]]]), torch.tensor([[[0.6, 0.4]]]))
        tensor([[0.6000]], dtype=torch.float64)
    """
    _refuse_components(per_component)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    return _score(scores.iou, _sizes(inputs(y_pred, y, mask=mask)), ignore_empty, empty)


def compute_soft_tversky(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Soft Tversky index of each item and class; 0.5 and 0.5 give Dice, 1 and 1 give IoU.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty; else an empty target scores 0, or `empty`
            where the prediction is empty as well.
        num_classes: Number of classes of single-channel labels, background included.
        ignore_index: Voxels with this label do not count.
        alpha: Weight of the prediction outside the target (false positives), at least 0.
        beta: Weight of the target outside the prediction (false negatives), at least 0.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a weight is negative or a probability lies outside
            [0, 1].

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> compute_soft_tversky(pred, target, alpha=1.0, beta=0.0)
        tensor([[0.5000]], dtype=torch.float64)
    """
    check_weight(alpha=alpha, beta=beta)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    ratio = partial(scores.tversky, alpha=alpha, beta=beta)
    return _score(ratio, _sizes(inputs(y_pred, y, mask=mask)), ignore_empty, empty)


class _SoftOverlapMetric(MaskMetric):
    """What the soft metrics share: the sizes of intersection, prediction and target."""

    width = 3
    ratio: Ratio

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        per_component: bool = False,
        ignore_index: int | None = None,
        *,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        _refuse_components(per_component)
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.ignore_empty, self.empty = ignore_empty, empty

    def _statistics(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _sizes(self.inputs(y_pred, y, mask=mask))

    def _score(self, statistics: Tensor) -> Tensor:
        return _score(self.ratio, statistics, self.ignore_empty, self.empty)


class SoftDiceMetric(_SoftOverlapMetric):
    """Soft Dice over a data set, in place of MONAI's `DiceMetric`, which rounds probabilities.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" for the three that
            papers call mIoU (see `softoverlap.measures.reduction`); NaN is left out.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.
        ignore_index: Voxels with this label do not count.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or `per_component` is True; on use, if shapes differ
            or a probability lies outside [0, 1].

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> metric = SoftDiceMetric()
        >>> _ = metric(torch.full((1, 1, 4), 0.6), torch.full((1, 1, 4), 0.6))
        >>> metric.aggregate().item()
        1.0
    """

    ratio = staticmethod(scores.dice)


class SoftIoUMetric(_SoftOverlapMetric):
    """Soft IoU over a data set, in place of MONAI's `MeanIoU`, whose iou(p, p) is below 1.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" for the three that
            papers call mIoU (see `softoverlap.measures.reduction`); NaN is left out.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.
        ignore_index: Voxels with this label do not count.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or `per_component` is True; on use, if shapes differ
            or a probability lies outside [0, 1].

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> metric = SoftIoUMetric()
        >>> _ = metric(torch.full((1, 1, 4), 0.3), torch.full((1, 1, 4), 0.6))
        >>> round(metric.aggregate().item(), 6)
        0.5
    """

    ratio = staticmethod(scores.iou)


class SoftTverskyMetric(_SoftOverlapMetric):
    """Soft Tversky index over a data set.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" for the three that
            papers call mIoU (see `softoverlap.measures.reduction`); NaN is left out.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.
        ignore_index: Voxels with this label do not count.
        alpha: Weight of the prediction outside the target (false positives), at least 0.
        beta: Weight of the target outside the prediction (false negatives), at least 0.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown, a weight is negative or `per_component` is True; on
            use, if shapes differ or a probability lies outside [0, 1].

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> metric = SoftTverskyMetric(alpha=1.0, beta=0.0)
        >>> _ = metric(torch.ones(1, 1, 4), torch.full((1, 1, 4), 0.25))
        >>> metric.aggregate().item()
        0.25
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        per_component: bool = False,
        ignore_index: int | None = None,
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        check_weight(alpha=alpha, beta=beta)
        super().__init__(
            include_background,
            reduction,
            get_not_nans,
            ignore_empty,
            num_classes,
            return_with_label,
            per_component,
            ignore_index,
            empty=empty,
            validate=validate,
        )
        self.ratio = partial(scores.tversky, alpha=alpha, beta=beta)


def _refuse_components(per_component: bool) -> None:
    if per_component:
        raise ValueError(
            "per_component must be False: components are cut by a threshold, "
            "which a soft metric does not have"
        )


def _sizes(pair: MaskPair) -> Float[Tensor, "batch channel 3"]:
    """Sizes of the intersection, the prediction and the target."""
    shared = masks.min_intersection(pair.pred, pair.truth)
    return torch.stack([shared, masks.size(pair.pred), masks.size(pair.truth)], dim=-1)


def _score(ratio: Ratio, sizes: Tensor, ignore_empty: bool, empty: float) -> Tensor:
    check_score(empty=empty)
    shared, pred, truth = sizes.unbind(-1)
    result = ratio(shared, pred, truth, empty=empty)
    return torch.where(truth > 0, result, torch.nan) if ignore_empty else result
