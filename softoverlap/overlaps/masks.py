"""Overlap of two soft masks: the intersection is the sum of minima.

So a score is 1 exactly where prediction equals target. On hard masks all of them are the usual
ones. At equal probabilities between 0 and 1 a gradient is the mean of both one-sided derivatives.
"""

from __future__ import annotations

from torch import Tensor

from softoverlap import masks, scores
from softoverlap._checks import check_probabilities, check_rank, check_same_shape, check_weight
from softoverlap._types import Masks, PerChannel, plain, score_dtype


def mask_dice(
    pred: Masks, target: Masks, *, empty: float = 1.0, validate: bool | None = None
) -> PerChannel:
    """Soft Dice score of each channel of each item.

    Args:
        pred: Probabilities, shape (B, C, *spatial).
        target: Probabilities, same shape.
        empty: Score where both masks are empty.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (B, C); a plain tensor also for `MetaTensor`.

    Raises:
        ValueError: If the shapes differ or a probability lies outside [0, 1].

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[[0.25, 0.75]]])
        >>> mask_dice(mask, mask)
        tensor([[1.]])
    """
    pred, target = _checked(pred, target, validate)
    shared = masks.min_intersection(pred, target)
    score = scores.dice(shared, masks.size(pred), masks.size(target), empty=empty)
    return score.to(score_dtype(pred, target))


def mask_iou(
    pred: Masks, target: Masks, *, empty: float = 1.0, validate: bool | None = None
) -> PerChannel:
    """Soft IoU (Jaccard index) of each channel of each item: Σ min / Σ max.

    Args:
        pred: Probabilities, shape (B, C, *spatial).
        target: Probabilities, same shape.
        empty: Score where both masks are empty.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (B, C); a plain tensor also for `MetaTensor`.

    Raises:
        ValueError: If the shapes differ or a probability lies outside [0, 1].

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> mask_iou(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([[0.3333]])
    """
    pred, target = _checked(pred, target, validate)
    shared = masks.min_intersection(pred, target)
    score = scores.iou(shared, masks.size(pred), masks.size(target), empty=empty)
    return score.to(score_dtype(pred, target))


def mask_tversky(
    pred: Masks,
    target: Masks,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    empty: float = 1.0,
    validate: bool | None = None,
) -> PerChannel:
    """Soft Tversky index of each channel of each item.

    Args:
        pred: Probabilities, shape (B, C, *spatial).
        target: Probabilities, same shape.
        alpha: Weight of the prediction outside the target (false positives), at least 0.
        beta: Weight of the target outside the prediction (false negatives), at least 0.
        empty: Score where both masks are empty.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (B, C); a plain tensor also for `MetaTensor`.

    Raises:
        ValueError: If the shapes differ, a weight is negative, or a probability lies outside
            [0, 1].

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> mask_tversky(pred, target, alpha=1.0, beta=0.0)
        tensor([[0.5000]])
    """
    check_weight(alpha=alpha, beta=beta)
    pred, target = _checked(pred, target, validate)
    score = scores.tversky(
        masks.min_intersection(pred, target),
        masks.size(pred),
        masks.size(target),
        alpha=alpha,
        beta=beta,
        empty=empty,
    )
    return score.to(score_dtype(pred, target))


def _checked(pred: Tensor, target: Tensor, validate: bool | None) -> tuple[Tensor, Tensor]:
    check_same_shape(pred=pred, target=target)
    check_rank(3, "(B, C, *spatial)", pred=pred, target=target)
    check_probabilities(pred=pred, target=target, validate=validate)
    return plain(pred), plain(target)
