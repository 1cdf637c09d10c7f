"""Dice and IoU where prediction and target are cut at the same thresholds, as in QUBIQ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap import scores
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.mask_inputs import MaskInputs
from softoverlap.measures.reduction import DATASET_REDUCTIONS, checked_reduction, reduce_scores
from softoverlap.measures.thresholds.curve import (
    QUBIQ_THRESHOLDS,
    Curve,
    Ratio,
    curve,
    rising,
    sizes_of,
)

Scores = Float[Tensor, "batch classes"]
Curves = Float[Tensor, "batch classes levels"]


def compute_thresholded_dice(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    thresholds: Sequence[float] = QUBIQ_THRESHOLDS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Mean over thresholds of the Dice of both maps, each cut at that threshold (QUBIQ's score).

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, for instance the mean of raters, or labels
            (B, 1, *spatial) where there are several classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty at every threshold.
        num_classes: Number of classes of single-channel labels, background included.
        thresholds: Where both maps are cut, in (0, 1]; a voxel belongs to a mask if its value is
            at or above the threshold. QUBIQ's 0.1 to 0.9 by default.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score of a threshold at which both masks are empty; `float("nan")` leaves such
            thresholds out of the mean.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a threshold lies
            outside (0, 1] or is there twice.

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]])
        >>> compute_thresholded_dice(pred, target, thresholds=[0.25, 0.5])
        tensor([[0.8333]], dtype=torch.float64)
    """
    found = compute_dice_at_thresholds(
        y_pred, y, include_background, ignore_empty, num_classes,
        thresholds=thresholds, ignore_index=ignore_index, mask=mask, empty=empty,
        validate=validate,
    )  # fmt: skip
    return found.nanmean(dim=-1)


def compute_thresholded_iou(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    thresholds: Sequence[float] = QUBIQ_THRESHOLDS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Mean over thresholds of the IoU of both maps, each cut at that threshold.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, for instance the mean of raters, or labels
            (B, 1, *spatial) where there are several classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty at every threshold.
        num_classes: Number of classes of single-channel labels, background included.
        thresholds: Where both maps are cut, in (0, 1]; a voxel belongs to a mask if its value is
            at or above the threshold. 0.1 to 0.9 by default.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score of a threshold at which both masks are empty; `float("nan")` leaves such
            thresholds out of the mean.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a threshold lies
            outside (0, 1] or is there twice.

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]])
        >>> compute_thresholded_iou(pred, target, thresholds=[0.25, 0.5])
        tensor([[0.7500]], dtype=torch.float64)
    """
    found = compute_iou_at_thresholds(
        y_pred, y, include_background, ignore_empty, num_classes,
        thresholds=thresholds, ignore_index=ignore_index, mask=mask, empty=empty,
        validate=validate,
    )  # fmt: skip
    return found.nanmean(dim=-1)


def compute_dice_at_thresholds(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    thresholds: Sequence[float] = QUBIQ_THRESHOLDS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Curves:
    """Dice of both maps cut at each threshold, all of them in one pass.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty at every threshold.
        num_classes: Number of classes of single-channel labels, background included.
        thresholds: Where both maps are cut, in (0, 1]; a voxel belongs to a mask if its value is
            at or above the threshold.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score of a threshold at which both masks are empty.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C, thresholds), from the lowest threshold to the
        highest.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a threshold lies
            outside (0, 1] or is there twice.

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]])
        >>> compute_dice_at_thresholds(pred, target, thresholds=[0.25, 0.5])
        tensor([[[1.0000, 0.6667]]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    sizes = sizes_of(inputs.values(y_pred, y, mask=mask), rising(thresholds))
    return curve(scores.dice, sizes, ignore_empty=ignore_empty, empty=empty)


def compute_iou_at_thresholds(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    thresholds: Sequence[float] = QUBIQ_THRESHOLDS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Curves:
    """IoU of both maps cut at each threshold, all of them in one pass.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty at every threshold.
        num_classes: Number of classes of single-channel labels, background included.
        thresholds: Where both maps are cut, in (0, 1]; a voxel belongs to a mask if its value is
            at or above the threshold.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score of a threshold at which both masks are empty.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C, thresholds), from the lowest threshold to the
        highest.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a threshold lies
            outside (0, 1] or is there twice.

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]])
        >>> compute_iou_at_thresholds(pred, target, thresholds=[0.25, 0.5])
        tensor([[[1.0000, 0.5000]]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    sizes = sizes_of(inputs.values(y_pred, y, mask=mask), rising(thresholds))
    return curve(scores.iou, sizes, ignore_empty=ignore_empty, empty=empty)


class _ThresholdedMetric(MaskMetric):
    """What both share: the sizes of intersection, prediction and target at each threshold."""

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
        thresholds: Sequence[float] = QUBIQ_THRESHOLDS,
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
        self.width = 3 * len(self.thresholds)
        self.ignore_empty, self.empty = ignore_empty, empty

    def per_threshold(
        self, reduction: MetricReduction | str | None = None
    ) -> Float[Tensor, "levels *reduced"]:
        """The reduced score at each threshold, from the lowest to the highest (`thresholds`).

        Args:
            reduction: One of MONAI's or of ours, in place of the one given at the start.

        Returns:
            One row a threshold, float64: shape (T, 1) for one number, (T, C) for one a class.

        Raises:
            ValueError: If nothing was collected.
        """
        name = checked_reduction(reduction or self.reduction)
        sizes = self.statistics()
        found = self._curve(sizes.sum(0, keepdim=True) if name in DATASET_REDUCTIONS else sizes)
        rows = [torch.atleast_1d(reduce_scores(level, name)[0]) for level in found.unbind(-1)]
        return torch.stack(rows)

    def _statistics(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return sizes_of(self.inputs.values(y_pred, y, mask=mask), self.thresholds)

    def _score(self, statistics: Tensor) -> Tensor:
        return self._curve(statistics).nanmean(dim=-1)

    def _curve(self, statistics: Tensor) -> Curve:
        return curve(self.ratio, statistics, ignore_empty=self.ignore_empty, empty=self.empty)


class ThresholdedDiceMetric(_ThresholdedMetric):
    """QUBIQ's score over a data set: the mean over thresholds of the Dice of both maps, each cut.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out. For "dataset" the sizes at each
            threshold are added up over the items.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty at every threshold.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        thresholds: Where both maps are cut, in (0, 1]; a voxel belongs to a mask if its value is
            at or above the threshold. QUBIQ's 0.1 to 0.9 by default.
        ignore_index: Voxels with this label do not count.
        empty: Score of a threshold at which both masks are empty; NaN leaves it out of the mean.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or `thresholds` are not different numbers in (0, 1];
            on use, if shapes differ or a probability lies outside [0, 1].

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> metric = ThresholdedDiceMetric(thresholds=[0.25, 0.5])
        >>> _ = metric(torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]]))
        >>> metric.per_threshold().flatten()
        tensor([1.0000, 0.6667], dtype=torch.float64)
        >>> round(metric.aggregate().item(), 4)
        0.8333
    """

    ratio = staticmethod(scores.dice)


class ThresholdedIoUMetric(_ThresholdedMetric):
    """The mean over thresholds of the IoU of both maps, each cut, over a data set.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out. For "dataset" the sizes at each
            threshold are added up over the items.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where the target is empty at every threshold.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        thresholds: Where both maps are cut, in (0, 1]; a voxel belongs to a mask if its value is
            at or above the threshold. 0.1 to 0.9 by default.
        ignore_index: Voxels with this label do not count.
        empty: Score of a threshold at which both masks are empty; NaN leaves it out of the mean.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or `thresholds` are not different numbers in (0, 1];
            on use, if shapes differ or a probability lies outside [0, 1].

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> metric = ThresholdedIoUMetric(thresholds=[0.25, 0.5])
        >>> _ = metric(torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]]))
        >>> metric.aggregate().item()
        0.75
    """

    ratio = staticmethod(scores.iou)
