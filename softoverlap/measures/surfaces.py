"""Surface Dice and Hausdorff distance of soft masks at a stated threshold, measured by MONAI.

A soft mask has no surface until it is cut: the threshold has no default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures._surfaces import (
    Cut,
    Hausdorff,
    SurfaceDice,
    SurfaceMeasure,
    filled,
    measured,
)
from softoverlap.measures.mask_inputs import MaskInputs, Spacing

Scores = Float[Tensor, "batch classes"]


def compute_thresholded_surface_dice(
    y_pred: Masks,
    y: Targets,
    class_thresholds: Sequence[float] | float,
    include_background: bool = False,
    distance_metric: str = "euclidean",
    spacing: Spacing | None = None,
    use_subvoxels: bool = False,
    ignore_index: int | None = None,
    *,
    threshold: float,
    target_threshold: float | None = None,
    num_classes: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = math.nan,
    validate: bool | None = None,
) -> Scores:
    """Normalised surface Dice of each item and class at a threshold, by MONAI's function.

    It is the share of both surfaces that lies within a tolerance of the other one.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial) in 2D or 3D, or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        class_thresholds: Tolerance in mm of each class that counts, or one for all (MONAI's name).
        include_background: Whether channel 0 counts where there are several, by default not.
        distance_metric: "euclidean" in mm, or "chessboard" or "taxicab" in voxels.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        use_subvoxels: Weigh elements of the surface by their area, as DeepMind's package does.
        ignore_index: Voxels with this label are background in both masks, as in MONAI.
        threshold: Lowest probability inside the predicted mask, in (0, 1].
        target_threshold: The same of the target, by default `threshold`.
        num_classes: Number of classes of single-channel labels, background included.
        mask: 1 where a voxel counts, shape (B, 1, *spatial); others are background in both masks.
        empty: Score where both masks are empty, by default NaN.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1], 0 where exactly one mask is empty, float64 (MONAI's distances are
        float32), shape (B, C).

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a threshold outside
            (0, 1], a tolerance is negative or missing, or there is no spacing.

    References:
        Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and
        neck anatomy for radiotherapy, https://arxiv.org/abs/1809.04430

    Examples:
        >>> import torch
        >>> pred = torch.zeros(1, 1, 8, 8)
        >>> pred[..., 2:6, 2:6] = 0.6
        >>> compute_thresholded_surface_dice(pred, pred, 1.0, threshold=0.5, spacing=1.0)
        tensor([[1.]], dtype=torch.float64)
    """
    measure = SurfaceDice(class_thresholds, distance_metric, use_subvoxels)
    cut = Cut(threshold, target_threshold)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    found = measured(measure, cut, inputs, y_pred, y, mask=mask, spacing=spacing)
    return filled(found, empty, one_empty=0.0)


def compute_thresholded_hausdorff(
    y_pred: Masks,
    y: Targets,
    include_background: bool = False,
    distance_metric: str = "euclidean",
    percentile: float | None = 95.0,
    directed: bool = False,
    spacing: Spacing | None = None,
    ignore_index: int | None = None,
    *,
    threshold: float,
    target_threshold: float | None = None,
    num_classes: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = math.nan,
    one_empty: float = math.inf,
    validate: bool | None = None,
) -> Scores:
    """Hausdorff distance of the surfaces of each item and class at a threshold, by MONAI.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial) in 2D or 3D, or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts where there are several, by default not.
        distance_metric: "euclidean" in mm, or "chessboard" or "taxicab" in voxels.
        percentile: Of each direction's distances, in [1, 100]; None for the maximum.
        directed: Only from the prediction's surface to the target's.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        ignore_index: Voxels with this label are background in both masks, as in MONAI.
        threshold: Lowest probability inside the predicted mask, in (0, 1].
        target_threshold: The same of the target, by default `threshold`.
        num_classes: Number of classes of single-channel labels, background included.
        mask: 1 where a voxel counts, shape (B, 1, *spatial); others are background in both masks.
        empty: Distance where both masks are empty, by default NaN.
        one_empty: Distance where exactly one is, by default infinity.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Distance in mm, lower is better, float64 (MONAI's distances are float32), shape (B, C).

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], a threshold outside
            (0, 1] or the percentile outside [1, 100], or there is no spacing.

    References:
        Huttenlocher et al., Comparing images using the Hausdorff distance,
        https://doi.org/10.1109/34.232073

    Examples:
        >>> import torch
        >>> pred = torch.zeros(1, 1, 8, 8)
        >>> pred[..., 2:6, 2:6] = 0.6
        >>> moved = pred.roll(1, dims=2)
        >>> compute_thresholded_hausdorff(pred, moved, threshold=0.5, spacing=2.0)
        tensor([[2.]], dtype=torch.float64)
    """
    measure = Hausdorff(distance_metric, percentile, directed)
    cut = Cut(threshold, target_threshold)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    found = measured(measure, cut, inputs, y_pred, y, mask=mask, spacing=spacing)
    return filled(found, empty, one_empty)


class _SurfaceMetric(MaskMetric):
    """A score of surfaces: one number an item and class, infinite where exactly one is empty."""

    width = 1
    adds_up = False
    measure: SurfaceMeasure
    cut: Cut
    spacing: Spacing | None
    empty: float
    one_empty: float

    def one_empty_counts(self) -> dict[str, int]:
        """In how many items exactly one mask was empty, by the class's name.

        Raises:
            ValueError: If nothing was collected.
        """
        counts = self.statistics()[..., 0].isinf().sum(dim=0).tolist()
        return dict(zip(self.class_names(len(counts)), counts, strict=True))

    def _statistics(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None, spacing: Any = None
    ) -> Tensor:
        told = self.spacing if spacing is None else spacing
        found = measured(self.measure, self.cut, self.inputs, y_pred, y, mask=mask, spacing=told)
        return found[..., None]

    def _score(self, statistics: Tensor) -> Tensor:
        return filled(statistics[..., 0], self.empty, self.one_empty)


class ThresholdedSurfaceDiceMetric(_SurfaceMetric):
    """Normalised surface Dice over a data set, of soft masks cut at a stated threshold.

    The arguments are those of MONAI's `SurfaceDiceMetric`, which takes 0.6 for background. A call
    takes `mask` and `spacing` too, the latter in place of the one given at the start.

    Args:
        class_thresholds: Tolerance in mm of each class that counts, or one for all (MONAI's name).
        include_background: Whether channel 0 counts where there are several, by default not.
        distance_metric: "euclidean" in mm, or "chessboard" or "taxicab" in voxels.
        reduction: One of MONAI's reductions, "image" or "class"; not "dataset", since there is no
            surface of a data set. NaN is left out.
        get_not_nans: Return how many values were counted as well.
        use_subvoxels: Weigh elements of the surface by their area, as DeepMind's package does.
        ignore_index: Voxels with this label are background in both masks, as in MONAI.
        threshold: Lowest probability inside the predicted mask, in (0, 1].
        target_threshold: The same of the target, by default `threshold`.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        empty: Score where both masks are empty, by default NaN. Where exactly one is, it is 0.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or needs sums, a threshold lies outside (0, 1] or a
            tolerance is negative; on use, if shapes differ, a probability lies outside [0, 1],
            tolerances are not as many as the classes, or there is no spacing.

    References:
        Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and
        neck anatomy for radiotherapy, https://arxiv.org/abs/1809.04430

    Examples:
        >>> import torch
        >>> metric = ThresholdedSurfaceDiceMetric([1.0], threshold=0.5, spacing=1.0)
        >>> _ = metric(torch.full((1, 1, 4, 4), 0.6), torch.ones(1, 1, 4, 4))
        >>> metric.aggregate().item()
        1.0
    """

    def __init__(
        self,
        class_thresholds: Sequence[float] | float,
        include_background: bool = False,
        distance_metric: str = "euclidean",
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        use_subvoxels: bool = False,
        ignore_index: int | None = None,
        *,
        threshold: float,
        target_threshold: float | None = None,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        spacing: Spacing | None = None,
        empty: float = math.nan,
        validate: bool | None = None,
    ) -> None:
        self.measure = SurfaceDice(class_thresholds, distance_metric, use_subvoxels)
        self.cut, self.spacing = Cut(threshold, target_threshold), spacing
        self.empty, self.one_empty = empty, 0.0
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )


class ThresholdedHausdorffMetric(_SurfaceMetric):
    """Hausdorff distance over a data set, of soft masks cut at a stated threshold.

    The arguments are those of MONAI's `HausdorffDistanceMetric`, but for the percentile of 95.
    Where exactly one mask is empty the distance is infinite, and so is a mean over it: name a
    penalty in mm (`one_empty=374.0`, say), or NaN to leave such scans out; `one_empty_counts` says
    how many there were. A call takes `mask` and `spacing` too, the latter in place of the one
    given at the start.

    Args:
        include_background: Whether channel 0 counts where there are several, by default not.
        distance_metric: "euclidean" in mm, or "chessboard" or "taxicab" in voxels.
        percentile: Of each direction's distances, in [1, 100]; None for the maximum.
        directed: Only from the prediction's surface to the target's.
        reduction: One of MONAI's reductions, "image" or "class"; not "dataset", since there is no
            surface of a data set. NaN is left out.
        get_not_nans: Return how many values were counted as well.
        ignore_index: Voxels with this label are background in both masks, as in MONAI.
        threshold: Lowest probability inside the predicted mask, in (0, 1].
        target_threshold: The same of the target, by default `threshold`.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        empty: Distance where both masks are empty, by default NaN.
        one_empty: Distance where exactly one is, by default infinity.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If `reduction` is unknown or needs sums, a threshold lies outside (0, 1] or the
            percentile outside [1, 100]; on use, if shapes differ, a probability lies outside
            [0, 1], or there is no spacing.

    References:
        Huttenlocher et al., Comparing images using the Hausdorff distance,
        https://doi.org/10.1109/34.232073

    Examples:
        >>> import torch
        >>> metric = ThresholdedHausdorffMetric(threshold=0.5, spacing=1.0)
        >>> _ = metric(torch.full((1, 1, 4, 4), 0.6), torch.zeros(1, 1, 4, 4))
        >>> metric.aggregate().item(), metric.one_empty_counts()
        (inf, {'label_1': 1})
    """

    def __init__(
        self,
        include_background: bool = False,
        distance_metric: str = "euclidean",
        percentile: float | None = 95.0,
        directed: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_index: int | None = None,
        *,
        threshold: float,
        target_threshold: float | None = None,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        spacing: Spacing | None = None,
        empty: float = math.nan,
        one_empty: float = math.inf,
        validate: bool | None = None,
    ) -> None:
        self.measure = Hausdorff(distance_metric, percentile, directed)
        self.cut, self.spacing = Cut(threshold, target_threshold), spacing
        self.empty, self.one_empty = empty, one_empty
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
