"""Calibration near the lesions: the Brier score, the calibration error, the reliability curve.

All three take soft targets: a probability of 0.6 is right where 60 % of the raters marked a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.bins import (
    ReliabilityCurve,
    bin_edges,
    bin_sums,
    calibration_error,
    check_bins,
    ratio,
    reliability_curve,
)
from softoverlap.measures.mask_inputs import MaskInputs, Spacing
from softoverlap.measures.near import CountedVoxels, NearVoxels

Scores = Float[Tensor, "batch classes"]


def compute_brier(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    num_classes: int | None = None,
    *,
    ignore_index: int | None = None,
    margin: float | None = 5.0,
    margin_mm: float | None = None,
    union_threshold: float = 0.1,
    spacing: Spacing | None = None,
    mask: VoxelWeights | None = None,
    validate: bool | None = None,
) -> Scores:
    """Brier score of each item and class: mean squared difference of the voxels that matter.

    Those are the voxels within a margin of the union: of a voxel where the target is above 0 or
    the prediction at or above `union_threshold`. Distances are between centres of voxels. A
    target whose tails never reach 0 (a Gaussian blur) puts the whole image into the union.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of single-channel labels, background included.
        ignore_index: Voxels with this label do not count.
        margin: Voxels around the union that count, or None for the whole image.
        margin_mm: The same in mm; it goes before `margin`.
        union_threshold: From this probability on, in (0, 1], a predicted voxel is in the union.
        spacing: Edges of a voxel in mm, for `margin_mm`; by default those of a MetaTensor.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1], lower is better, float64, shape (B, C); NaN where no voxel counts.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a margin is negative,
            or `margin_mm` comes without a spacing.

    References:
        Brier, Verification of forecasts expressed in terms of probability,
        https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

    Examples:
        >>> import torch
        >>> compute_brier(torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[1.0, 0.0]]]))
        tensor([[0.1250]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    near = NearVoxels(margin, margin_mm, union_threshold, spacing)
    return _brier(_squared_differences(near(inputs, y_pred, y, mask=mask)))


def compute_calibration_error(
    y_pred: Masks,
    y: Targets,
    num_bins: int = 20,
    include_background: bool = True,
    calibration_reduction: str = "expected",
    right: bool = False,
    num_classes: int | None = None,
    *,
    ignore_index: int | None = None,
    margin: float | None = 5.0,
    margin_mm: float | None = None,
    union_threshold: float = 0.1,
    spacing: Spacing | None = None,
    mask: VoxelWeights | None = None,
    validate: bool | None = None,
) -> Scores:
    """Calibration error of each item and class, on the voxels that matter.

    Voxels are put into bins of equal width by their predicted probability; the error of a bin is
    the difference of the mean probabilities of prediction and target. Voxels matter within a
    margin of the union: of a voxel where the target is above 0 or the prediction at or above
    `union_threshold`.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        num_bins: Number of bins of equal width on [0, 1].
        include_background: Whether channel 0 counts.
        calibration_reduction: "expected" for the mean error of the bins by their voxels (ECE),
            "average" for that of all filled bins alike, "maximum" for the largest.
        right: Put a probability on an edge into the bin below it, not the one above.
        num_classes: Number of classes of single-channel labels, background included.
        ignore_index: Voxels with this label do not count.
        margin: Voxels around the union that count, or None for the whole image.
        margin_mm: The same in mm; it goes before `margin`.
        union_threshold: From this probability on, in (0, 1], a predicted voxel is in the union.
        spacing: Edges of a voxel in mm, for `margin_mm`; by default those of a MetaTensor.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Error in [0, 1], lower is better, float64, shape (B, C); NaN where no voxel counts.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a margin is negative,
            `margin_mm` comes without a spacing, or the bins or the reduction are none.

    References:
        Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[0.75, 0.75]]]), torch.tensor([[[1.0, 0.0]]])
        >>> compute_calibration_error(pred, target)
        tensor([[0.2500]], dtype=torch.float64)
    """
    check_bins(num_bins, calibration_reduction)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    near = NearVoxels(margin, margin_mm, union_threshold, spacing)
    voxels = near(inputs, y_pred, y, mask=mask)
    sums = bin_sums(voxels, bin_edges(num_bins, y_pred.dtype), right)
    return calibration_error(sums, calibration_reduction)


class _NearMetric(MaskMetric):
    """A metric of the voxels near the union."""

    near: NearVoxels

    def _voxels(
        self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None, spacing: Any = None
    ) -> CountedVoxels:
        return self.near(self.inputs, y_pred, y, mask=mask, spacing=spacing)


class BrierMetric(_NearMetric):
    """Brier score over a data set, on the voxels that matter (see `compute_brier`).

    A call takes `mask` and `spacing` too, the latter in place of the one given at the start.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or ours (see `softoverlap.measures.reduction`):
            "mean" counts every scan alike, "dataset" every voxel; NaN is left out.
        get_not_nans: Return how many values were counted as well.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given.
        ignore_index: Voxels with this label do not count.
        margin: Voxels around the union that count, or None for the whole image.
        margin_mm: The same in mm; it goes before `margin`.
        union_threshold: From this probability on, in (0, 1], a predicted voxel is in the union.
        spacing: Edges of a voxel in mm, for `margin_mm`; by default those of a MetaTensor.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or a margin is negative; on use, if shapes differ, a
            probability lies outside [0, 1], or `margin_mm` comes without a spacing.

    References:
        Brier, Verification of forecasts expressed in terms of probability,
        https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

    Examples:
        >>> import torch
        >>> metric = BrierMetric(margin=None)
        >>> _ = metric(torch.full((1, 1, 4), 0.5), torch.ones(1, 1, 4))
        >>> metric.aggregate().item()
        0.25
    """

    width = 2

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        ignore_index: int | None = None,
        margin: float | None = 5.0,
        margin_mm: float | None = None,
        union_threshold: float = 0.1,
        spacing: Spacing | None = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.near = NearVoxels(margin, margin_mm, union_threshold, spacing)

    def _statistics(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> Tensor:
        return _squared_differences(self._voxels(y_pred, y, **kwargs))

    def _score(self, statistics: Tensor) -> Tensor:
        return _brier(statistics)


class CalibrationErrorMetric(_NearMetric):
    """Calibration error over a data set, on the voxels that matter, also of soft targets.

    The arguments are those of MONAI's metric of this name, which counts the whole image
    (`margin=None`) in float32. A call takes `mask` and `spacing` too, the latter in place of the
    one given at the start.

    Args:
        num_bins: Number of bins of equal width on [0, 1].
        include_background: Whether channel 0 counts.
        calibration_reduction: "expected" for the mean error of the bins by their voxels (ECE),
            "average" for that of all filled bins alike, "maximum" for the largest.
        metric_reduction: One of MONAI's reductions, or ours (see `softoverlap.measures.reduction`):
            "mean" is the mean of the scans' errors, "dataset" puts all voxels into the same bins;
            NaN is left out.
        get_not_nans: Return how many values were counted as well.
        right: Put a probability on an edge into the bin below it, not the one above.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given.
        ignore_index: Voxels with this label do not count.
        margin: Voxels around the union that count, or None for the whole image.
        margin_mm: The same in mm; it goes before `margin`.
        union_threshold: From this probability on, in (0, 1], a predicted voxel is in the union.
        spacing: Edges of a voxel in mm, for `margin_mm`; by default those of a MetaTensor.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If a reduction is unknown, there is no bin or a margin is negative; on use, if
            shapes differ, a probability lies outside [0, 1], or `margin_mm` comes without a
            spacing.

    References:
        Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599

    Examples:
        >>> import torch
        >>> metric = CalibrationErrorMetric(num_bins=10)
        >>> _ = metric(torch.full((1, 1, 4), 0.75), torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]))
        >>> metric.aggregate().item()
        0.25
    """

    def __init__(
        self,
        num_bins: int = 20,
        include_background: bool = True,
        calibration_reduction: str = "expected",
        metric_reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        right: bool = False,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        ignore_index: int | None = None,
        margin: float | None = 5.0,
        margin_mm: float | None = None,
        union_threshold: float = 0.1,
        spacing: Spacing | None = None,
        validate: bool | None = None,
    ) -> None:
        check_bins(num_bins, calibration_reduction)
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=metric_reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.near = NearVoxels(margin, margin_mm, union_threshold, spacing)
        self.num_bins, self.right, self.width = num_bins, right, 3 * num_bins
        self.calibration_reduction = calibration_reduction

    def reliability(self) -> dict[str, ReliabilityCurve]:
        """The curve of each class over the voxels of all items, by the class's name.

        Raises:
            ValueError: If nothing was collected.
        """
        sums = self.statistics().sum(dim=0)
        edges = tuple(bin_edges(self.num_bins, torch.float64).tolist())
        names = self.class_names(len(sums))
        return {name: reliability_curve(edges, row) for name, row in zip(names, sums, strict=True)}

    def _statistics(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> Tensor:
        voxels = self._voxels(y_pred, y, **kwargs)
        return bin_sums(voxels, bin_edges(self.num_bins, y_pred.dtype), self.right)

    def _score(self, statistics: Tensor) -> Tensor:
        return calibration_error(statistics, self.calibration_reduction)


def _squared_differences(voxels: CountedVoxels) -> Float[Tensor, "batch channel 2"]:
    """Σ squared difference and how many voxels counted."""
    difference = voxels.pred - voxels.truth
    terms = (voxels.weight * difference * difference, voxels.weight)
    return torch.stack([term.flatten(2).sum(dim=2) for term in terms], dim=-1)


def _brier(statistics: Tensor) -> Tensor:
    return ratio(*statistics.unbind(-1))
