"""Soft volumes in ml: how far predicted ones lie from those of the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap import masks
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap._units import MM3_PER_ML
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.agreement import BlandAltman, compute_bland_altman
from softoverlap.measures.mask_inputs import MaskInputs, Spacing, voxel_spacing

Scores = Float[Tensor, "batch classes"]


def compute_volume_bias(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    num_classes: int | None = None,
    *,
    ignore_index: int | None = None,
    spacing: Spacing | None = None,
    mask: VoxelWeights | None = None,
    validate: bool | None = None,
) -> Scores:
    """Soft volume of the prediction less that of the target, of each item and class.

    A soft volume is Σ probability times the volume of a voxel. In 2D a pixel is 1 mm deep.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of single-channel labels, background included.
        ignore_index: Voxels with this label do not count.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Bias in ml, above 0 where too much is predicted, float64, shape (B, C). A scan without
        lesions counts like any other.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1] or there is no spacing.

    References:
        Bland and Altman, Measuring agreement in method comparison studies,
        https://doi.org/10.1177/096228029900800204

    Examples:
        >>> import torch
        >>> pred, target = torch.full((1, 1, 10, 10, 10), 0.5), torch.zeros(1, 1, 10, 10, 10)
        >>> compute_volume_bias(pred, target, spacing=(1.0, 1.0, 2.0))
        tensor([[1.]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    return _bias(_volumes(inputs, y_pred, y, mask=mask, spacing=spacing))


def compute_relative_volume_bias(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    num_classes: int | None = None,
    *,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    validate: bool | None = None,
) -> Scores:
    """Volume bias as a share of the target's soft volume, of each item and class.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of single-channel labels, background included.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Relative bias, at least -1, without unit (0.1: 10 % too much), float64, shape (B, C); NaN
        where the target is empty.

    Raises:
        ValueError: If the shapes differ or a probability lies outside [0, 1].

    References:
        Bland and Altman, Measuring agreement in method comparison studies,
        https://doi.org/10.1177/096228029900800204

    Examples:
        >>> import torch
        >>> compute_relative_volume_bias(torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[1.0, 0.0]]]))
        tensor([[0.5000]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    return _relative_bias(_volumes(inputs, y_pred, y, mask=mask, spacing=1.0))


class VolumeBiasMetric(MaskMetric):
    """Volume bias in ml over a data set, and its Bland–Altman figures.

    A call takes `mask` and `spacing` too, the latter in place of the one given at the start.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or ours (see `softoverlap.measures.reduction`);
            "dataset" is the bias of the total volume.
        get_not_nans: Return how many values were counted as well.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given.
        ignore_index: Voxels with this label do not count.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown; on use, if shapes differ, a probability lies outside
            [0, 1] or there is no spacing.

    References:
        Bland and Altman, Measuring agreement in method comparison studies,
        https://doi.org/10.1177/096228029900800204

    Examples:
        >>> import torch
        >>> metric = VolumeBiasMetric(spacing=10.0)
        >>> _ = metric(torch.ones(2, 1, 1, 1, 3), torch.ones(2, 1, 1, 1, 3) / 2)
        >>> metric.aggregate().item()
        1.5
        >>> metric.bland_altman()["label_0"].mean_difference
        1.5
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
        spacing: Spacing | None = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.spacing = spacing

    def volumes(self) -> Float[Tensor, "items classes 2"]:
        """Soft volumes of prediction and target of every item of every rank, in ml.

        Raises:
            ValueError: If nothing was collected.
        """
        return self.statistics()

    def bland_altman(self, *, confidence: float = 0.95) -> dict[str, BlandAltman]:
        """The figures of each class in ml over all items, by the class's name.

        Args:
            confidence: Level of the confidence intervals, in (0, 1).

        Returns:
            The figures (see `BlandAltman`); scans without lesions count.

        Raises:
            ValueError: If nothing was collected, or `confidence` lies outside (0, 1).
        """
        classes = self.volumes().unbind(1)
        names = self.class_names(len(classes))
        return {
            name: compute_bland_altman(found[:, 0], found[:, 1], confidence=confidence)
            for name, found in zip(names, classes, strict=True)
        }

    def _statistics(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None, spacing: Any = None
    ) -> Tensor:
        told = self.spacing if spacing is None else spacing
        return _volumes(self.inputs, y_pred, y, mask=mask, spacing=told)

    def _score(self, statistics: Tensor) -> Tensor:
        return _bias(statistics)


class RelativeVolumeBiasMetric(VolumeBiasMetric):
    """Volume bias as a share of the target's volume, over a data set.

    A call takes `mask` and `spacing` too. Scans without lesions have no such share: they count in
    "dataset", and in `bland_altman`, which stays in ml.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or ours (see `softoverlap.measures.reduction`);
            "dataset" is the bias of the total volume as a share of it; NaN is left out.
        get_not_nans: Return how many values were counted as well.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given.
        ignore_index: Voxels with this label do not count.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown; on use, if shapes differ, a probability lies outside
            [0, 1] or there is no spacing.

    References:
        Bland and Altman, Measuring agreement in method comparison studies,
        https://doi.org/10.1177/096228029900800204

    Examples:
        >>> import torch
        >>> metric = RelativeVolumeBiasMetric(spacing=1.0)
        >>> _ = metric(torch.ones(1, 1, 3), torch.ones(1, 1, 3) / 2)
        >>> metric.aggregate().item()
        1.0
    """

    def _score(self, statistics: Tensor) -> Tensor:
        return _relative_bias(statistics)


def _volumes(
    inputs: MaskInputs, y_pred: Tensor, y: Tensor, *, mask: Tensor | None, spacing: Spacing | None
) -> Float[Tensor, "batch channel 2"]:
    """Soft volumes of prediction and target in ml."""
    pair = inputs(y_pred, y, mask=mask)
    items, ndim = len(pair.pred), pair.pred.ndim - 2
    edges = voxel_spacing(spacing, y_pred, y, items=items, ndim=ndim)
    voxel = pair.pred.new_tensor(edges).prod(dim=1)[:, None, None] / MM3_PER_ML
    return torch.stack([masks.size(pair.pred), masks.size(pair.truth)], dim=-1) * voxel


def _bias(volumes: Tensor) -> Tensor:
    pred, truth = volumes.unbind(-1)
    return pred - truth


def _relative_bias(volumes: Tensor) -> Tensor:
    pred, truth = volumes.unbind(-1)
    safe = torch.where(truth > 0, truth, 1)
    return torch.where(truth > 0, (pred - truth) / safe, torch.nan)
