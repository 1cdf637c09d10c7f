"""Metrics that take the place of MONAI's, with its arguments in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._checks import check_no_components
from softoverlap._docstrings import own_init
from softoverlap.for_monai.metrics import MeasureMetric
from softoverlap.for_monai.reduction import DATASET_REDUCTIONS, checked_reduction, reduce_scores
from softoverlap.measures import (
    QUBIQ_THRESHOLDS,
    LesionCounts,
    LesionwiseDice,
    SoftDice,
    SoftIoU,
    SoftTversky,
    ThresholdedDice,
)


class _SoftMetric(MeasureMetric):
    """What the soft metrics share: the arguments of MONAI's `DiceMetric`."""

    kind: type[SoftDice | SoftIoU | SoftTversky]

    def __init_subclass__(cls) -> None:
        own_init(cls)

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
        check_no_components(per_component)
        measure = self._made(
            include_background=include_background,
            ignore_empty=ignore_empty,
            num_classes=num_classes,
            ignore_index=ignore_index,
            empty=empty,
            validate=validate,
        )
        super().__init__(measure, reduction, get_not_nans, return_with_label)

    def _made(self, **settings: Any) -> SoftDice | SoftIoU | SoftTversky:
        return self.kind(**settings)


class SoftDiceMetric(_SoftMetric):
    """Soft Dice over a data set, in place of MONAI's `DiceMetric`, which rounds probabilities.

    Args:
        include_background, ignore_empty, num_classes, ignore_index, empty, validate: As in
            `SoftDice`.
        reduction, get_not_nans, return_with_label: As in `MeasureMetric`.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.

    Examples:
        >>> import torch
        >>> metric = SoftDiceMetric()
        >>> _ = metric(torch.full((1, 1, 4), 0.6), torch.full((1, 1, 4), 0.6))
        >>> metric.aggregate().item()
        1.0
    """

    kind = SoftDice


class SoftIoUMetric(_SoftMetric):
    """Soft IoU over a data set, in place of MONAI's `MeanIoU`, whose iou(p, p) is below 1.

    Args:
        include_background, ignore_empty, num_classes, ignore_index, empty, validate: As in
            `SoftIoU`.
        reduction, get_not_nans, return_with_label, per_component: As in `SoftDiceMetric`.

    Examples:
        >>> import torch
        >>> metric = SoftIoUMetric()
        >>> _ = metric(torch.full((1, 1, 4), 0.3), torch.full((1, 1, 4), 0.6))
        >>> round(metric.aggregate().item(), 6)
        0.5
    """

    kind = SoftIoU


class SoftTverskyMetric(_SoftMetric):
    """Soft Tversky index over a data set.

    Args:
        include_background, ignore_empty, num_classes, ignore_index, alpha, beta, empty, validate:
            As in `SoftTversky`.
        reduction, get_not_nans, return_with_label, per_component: As in `SoftDiceMetric`.

    Examples:
        >>> import torch
        >>> metric = SoftTverskyMetric(alpha=1.0, beta=0.0)
        >>> _ = metric(torch.ones(1, 1, 4), torch.full((1, 1, 4), 0.25))
        >>> metric.aggregate().item()
        0.25
    """

    kind = SoftTversky

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
        self._weights: dict[str, Any] = {"alpha": alpha, "beta": beta}
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

    def _made(self, **settings: Any) -> SoftTversky:
        return SoftTversky(**settings, **self._weights)


class ThresholdedDiceMetric(MeasureMetric):
    """QUBIQ's score over a data set: the mean over thresholds of the Dice of both masks, each cut.

    Args:
        include_background, ignore_empty, num_classes, thresholds, ignore_index, empty, validate:
            As in `ThresholdedDice`.
        reduction, get_not_nans, return_with_label: As in `MeasureMetric`.

    Examples:
        >>> import torch
        >>> metric = ThresholdedDiceMetric(thresholds=[0.25, 0.5])
        >>> _ = metric(torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]]))
        >>> metric.per_threshold().flatten()
        tensor([1.0000, 0.6667], dtype=torch.float64)
        >>> round(metric.aggregate().item(), 4)
        0.8333
    """

    measure: ThresholdedDice

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
        measure = ThresholdedDice(
            include_background=include_background,
            ignore_empty=ignore_empty,
            num_classes=num_classes,
            thresholds=thresholds,
            ignore_index=ignore_index,
            empty=empty,
            validate=validate,
        )
        super().__init__(measure, reduction, get_not_nans, return_with_label)

    def per_threshold(
        self, reduction: MetricReduction | str | None = None
    ) -> Float[Tensor, "levels *reduced"]:
        """The reduced score at each threshold, from the lowest to the highest.

        Args:
            reduction: One of MONAI's or of ours, in place of the one given at the start.

        Returns:
            One row a threshold, float64: shape (T, 1) for one number, (T, C) for one a class.

        Raises:
            ValueError: If nothing was collected.
        """
        name = checked_reduction(reduction or self.reduction)
        sizes = self.statistics()
        if name in DATASET_REDUCTIONS:
            sizes = sizes.sum(0, keepdim=True)
        levels = self.measure.curve(sizes).unbind(-1)
        return torch.stack([torch.atleast_1d(reduce_scores(level, name)[0]) for level in levels])


class LesionwiseDiceMetric(MeasureMetric):
    """Lesion-wise Dice of BraTS 2023 over a data set.

    Reduction "mean" is the challenge's: the mean over scans. "dataset" adds Dice scores and
    counts up over all scans first, so that every lesion weighs the same.

    Args:
        include_background, num_classes, ignore_index, validate: As in `MaskMeasure`.
        reduction, get_not_nans, return_with_label: As in `MeasureMetric`.
        threshold, target_threshold, connectivity, halo, spacing: As in `LesionMeasure`.
        ignore_empty, soft, dilation, min_mm3, empty: As in `LesionwiseDice`.

    Examples:
        >>> import torch
        >>> metric = LesionwiseDiceMetric(dilation=1, min_mm3=0.0)
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]])
        >>> _ = metric(target, target)
        >>> metric.aggregate().item(), metric.counts()["label_0"]
        (1.0, LesionCounts(tp=2, fp=0, fn=0, left_out=0))
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        threshold: float = 0.5,
        target_threshold: float | None = None,
        soft: bool = True,
        dilation: int = 3,
        connectivity: int = 26,
        min_mm3: float | None = None,
        halo: float = 0.01,
        spacing: Sequence[float] | float | None = None,
        ignore_index: int | None = None,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        measure = LesionwiseDice(
            include_background=include_background,
            ignore_empty=ignore_empty,
            num_classes=num_classes,
            threshold=threshold,
            target_threshold=target_threshold,
            soft=soft,
            dilation=dilation,
            connectivity=connectivity,
            min_mm3=min_mm3,
            halo=halo,
            spacing=spacing,
            ignore_index=ignore_index,
            empty=empty,
            validate=validate,
        )
        super().__init__(measure, reduction, get_not_nans, return_with_label)

    def counts(self) -> dict[str, LesionCounts]:
        """TP, FP and FN of each class over all scans, and how many were too small."""
        return self.details()
