"""Soft Dice and IoU as MONAI metrics: nothing is rounded to 0 or 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.metrics.metric import CumulativeIterationMetric
from monai.utils import evenly_divisible_all_gather
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._checks import check_rank, check_same_shape
from softoverlap._types import Masks, Targets, plain
from softoverlap.losses.inputs import counted_masks, counted_voxels, one_hot
from softoverlap.metrics.reduction import reduce_scores
from softoverlap.overlaps import mask_dice, mask_iou

Score = Callable[..., Tensor]
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
    prepared = _prepared(y_pred, y, include_background, num_classes, ignore_index, validate)
    return _scored(mask_dice, *prepared, ignore_empty, empty)


def compute_soft_iou(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    per_component: bool = False,
    ignore_index: int | None = None,
    *,
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
    prepared = _prepared(y_pred, y, include_background, num_classes, ignore_index, validate)
    return _scored(mask_iou, *prepared, ignore_empty, empty)


class _SoftOverlapMetric(CumulativeIterationMetric):
    """What the soft metrics share: MONAI's arguments, and the reduction of a float64 buffer."""

    compute: Score

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | list[str] = False,
        per_component: bool = False,
        ignore_index: int | None = None,
        *,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        _refuse_components(per_component)
        self.include_background = include_background
        self.reduction = MetricReduction(reduction)
        self.get_not_nans = get_not_nans
        self.return_with_label = return_with_label
        self.options = {
            "include_background": include_background,
            "ignore_empty": ignore_empty,
            "num_classes": num_classes,
            "ignore_index": ignore_index,
            "empty": empty,
            "validate": validate,
        }

    def _compute_tensor(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> Tensor:  # pyright: ignore
        return type(self).compute(y_pred, y, **self.options)

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Any:
        counts = [
            len(items) if isinstance(items, Sequence | Tensor) else 0 for items in (y_pred, y)
        ]
        if counts[0] != counts[1] or not counts[0]:
            raise ValueError(
                "y_pred and y must hold as many items, one or more, "
                f"got {counts[0]} and {counts[1]}"
            )
        return super()._compute_list(y_pred, y, **kwargs)

    def _sync(self) -> None:
        """Gather every rank's scores; MONAI's own method leaves a rank without data waiting."""
        if self._synced:
            return
        local = torch.stack(self._buffers[0]) if self._buffers else torch.zeros(0, 0).double()
        widths = evenly_divisible_all_gather(torch.tensor([local.shape[1]]), concat=True)
        if local.numel() == 0:
            local = local.new_zeros(0, int(widths.max()))
        gathered = evenly_divisible_all_gather(local, concat=True)
        self._synced_tensors = [gathered] if len(gathered) else None
        self._synced = True

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Any:
        """Reduce what was collected over all items, processes included.

        Args:
            reduction: One of MONAI's, in place of the one given at the start.

        Returns:
            The score in float64, NaN where nothing counted, or numbers by label for one score a
            channel with `return_with_label`; with `get_not_nans` also how many values counted.

        Raises:
            ValueError: If nothing was collected, or the labels are not as many as the channels.
        """
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("nothing was collected: call the metric before aggregate()")
        chosen = MetricReduction(reduction or self.reduction)
        score, counted = reduce_scores(data, chosen)
        result: Any = score
        per_channel = chosen in (MetricReduction.MEAN_BATCH, MetricReduction.SUM_BATCH)
        if self.return_with_label and per_channel:
            result = dict(zip(self._labels(len(score)), score.tolist(), strict=True))
        return (result, counted) if self.get_not_nans else result

    def _labels(self, channels: int) -> list[str]:
        if isinstance(self.return_with_label, bool):
            first = 0 if self.include_background else 1
            return [f"label_{first + number}" for number in range(channels)]
        if len(self.return_with_label) != channels:
            raise ValueError(
                f"return_with_label must name {channels} channels, got {self.return_with_label}"
            )
        return self.return_with_label


class SoftDiceMetric(_SoftOverlapMetric):
    """Soft Dice over a data set, in place of MONAI's `DiceMetric`, which rounds probabilities.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions; NaN is left out.
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

    compute = staticmethod(compute_soft_dice)


class SoftIoUMetric(_SoftOverlapMetric):
    """Soft IoU over a data set, in place of MONAI's `MeanIoU`, whose iou(p, p) is below 1.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions; NaN is left out.
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

    compute = staticmethod(compute_soft_iou)


def _refuse_components(per_component: bool) -> None:
    if per_component:
        raise ValueError(
            "per_component must be False: components are cut by a threshold, "
            "which a soft metric does not have"
        )


def _prepared(
    y_pred: Tensor,
    y: Tensor,
    include_background: bool,
    num_classes: int | None,
    ignore_index: int | None,
    validate: bool | None,
) -> tuple[Tensor, Tensor]:
    """Probabilities of one shape, in float64, so that sums and scores keep full precision."""
    check_rank(3, "(B, C, *spatial)", y_pred=y_pred, y=y)
    validate = validate is not False  # a metric may wait for the device
    pred, labels = plain(y_pred).detach(), plain(y).detach()
    classes = pred.shape[1] if num_classes is None else num_classes
    if pred.shape[1] not in (1, classes):
        raise ValueError(
            f"y_pred must have 1 or num_classes={classes} channels, got {pred.shape[1]}"
        )
    truth = labels
    if pred.shape[1] == 1 and classes > 1:
        pred = one_hot(pred, classes, ignore_index, validate, name="y_pred")
    if labels.shape[1] == 1 and classes > 1:
        truth = one_hot(labels, classes, ignore_index, validate, name="y")
    check_same_shape(y_pred=pred, y=truth)
    counted = counted_voxels(labels, ignore_index)
    if not include_background and classes > 1:
        pred, truth = pred[:, 1:], truth[:, 1:]
    pred, truth = counted_masks(counted, torch.float64, validate, y_pred=pred, y=truth)
    return pred, truth


def _scored(score: Score, pred: Tensor, truth: Tensor, ignore_empty: bool, empty: float) -> Tensor:
    result = score(pred, truth, empty=empty, validate=False)
    if not ignore_empty:
        return result
    return torch.where(truth.flatten(2).sum(dim=2) > 0, result, torch.nan)
