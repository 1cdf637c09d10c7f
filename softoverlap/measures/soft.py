"""Soft Dice, IoU and Tversky: nothing is rounded to 0 or 1."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_no_components, check_weight
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures.inputs import MaskPair
from softoverlap.measures.measure import Scores, VoxelMeasure, WithEmpty, counted_sum


@dataclass(frozen=True, kw_only=True)
class SoftOverlap(WithEmpty, VoxelMeasure):
    """What the soft overlaps share: the sizes of intersection, prediction and target."""

    @property
    def width(self) -> int:
        """Three sizes."""
        return 3

    @abstractmethod
    def overlap(self, shared: Tensor, pred: Tensor, truth: Tensor) -> Tensor:
        """The overlap of these sizes."""

    def sums(self, pair: MaskPair) -> Float[Tensor, "batch 3"]:
        """Sizes of the intersection, the prediction and the target."""
        parts = (torch.minimum(pair.pred, pair.truth), pair.pred, pair.truth)
        return torch.stack([counted_sum(part, pair.counted) for part in parts], dim=-1)

    def score(self, statistics: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape"]:
        """The overlap, in [0, 1] or NaN."""
        shared, pred, truth = statistics.unbind(-1)
        result = self.overlap(shared, pred, truth)
        return torch.where(truth > 0, result, torch.nan) if self.ignore_empty else result


@dataclass(frozen=True, kw_only=True)
class SoftDice(SoftOverlap):
    """Soft Dice score, 2 Σ min / (Σ prediction + Σ target), in [0, 1].

    Args:
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        empty: Score where both are empty and `ignore_empty` is False.

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> SoftDice()(torch.tensor([[[0.6, 0.0]]]), torch.tensor([[[0.6, 0.4]]]))
        tensor([[0.7500]], dtype=torch.float64)
    """

    def overlap(self, shared: Tensor, pred: Tensor, truth: Tensor) -> Tensor:
        """Dice of these sizes."""
        return scores.dice(shared, pred, truth, empty=self.empty)


@dataclass(frozen=True, kw_only=True)
class SoftIoU(SoftOverlap):
    """Soft IoU, Σ min / Σ max, in [0, 1].

    Args:
        ignore_empty: NaN where the target is empty; else 0, or `empty` where both are.
        empty: Score where both are empty and `ignore_empty` is False.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> SoftIoU()(torch.tensor([[[0.6, 0.0]]]), torch.tensor([[[0.6, 0.4]]]))
        tensor([[0.6000]], dtype=torch.float64)
    """

    def overlap(self, shared: Tensor, pred: Tensor, truth: Tensor) -> Tensor:
        """IoU of these sizes."""
        return scores.iou(shared, pred, truth, empty=self.empty)


@dataclass(frozen=True, kw_only=True)
class SoftTversky(SoftOverlap):
    """Soft Tversky index, in [0, 1]; weights of 0.5 give Dice, of 1 IoU.

    Args:
        alpha: Weight of the prediction outside the target (false positives), at least 0.
        beta: Weight of the target outside the prediction (false negatives), at least 0.

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> SoftTversky(alpha=1.0, beta=0.0)(pred, target)
        tensor([[0.5000]], dtype=torch.float64)
    """

    alpha: float = 0.5
    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight(alpha=self.alpha, beta=self.beta)

    def overlap(self, shared: Tensor, pred: Tensor, truth: Tensor) -> Tensor:
        """Tversky's index of these sizes."""
        weights = {"alpha": self.alpha, "beta": self.beta, "empty": self.empty}
        return scores.tversky(shared, pred, truth, **weights)


def compute_soft_dice(  # noqa: D417 (said once, in the measure)
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
    """`SoftDice` as a function, with the arguments of MONAI's `compute_dice`.

    Args:
        y_pred, y, mask: As in `Measure.statistics`.
        include_background, num_classes, ignore_index, validate: As in `MaskMeasure`.
        ignore_empty, empty: As in `SoftDice`.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1] or `per_component` is
            True.

    Examples:
        >>> import torch
        >>> compute_soft_dice(torch.tensor([[[0.6, 0.0]]]), torch.tensor([[[0.6, 0.4]]]))
        tensor([[0.7500]], dtype=torch.float64)
    """
    check_no_components(per_component)
    measure = SoftDice(
        include_background=include_background, ignore_empty=ignore_empty, num_classes=num_classes,
        ignore_index=ignore_index, empty=empty, validate=validate,
    )  # fmt: skip
    return measure(y_pred, y, mask=mask)


def compute_soft_iou(  # noqa: D417 (said once, in the measure)
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
    """`SoftIoU` as a function; see `compute_soft_dice`.

    Args:
        y_pred, y, mask: As in `Measure.statistics`.
        include_background, num_classes, ignore_index, validate: As in `MaskMeasure`.
        ignore_empty, empty: As in `SoftIoU`.
        per_component: Not on offer for soft masks; accepted as False for MONAI's sake.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: As `compute_soft_dice`.

    Examples:
        >>> import torch
        >>> compute_soft_iou(torch.tensor([[[0.6, 0.0]]]), torch.tensor([[[0.6, 0.4]]]))
        tensor([[0.6000]], dtype=torch.float64)
    """
    check_no_components(per_component)
    measure = SoftIoU(
        include_background=include_background, ignore_empty=ignore_empty, num_classes=num_classes,
        ignore_index=ignore_index, empty=empty, validate=validate,
    )  # fmt: skip
    return measure(y_pred, y, mask=mask)
