"""Overlap of two soft masks: the intersection is the sum of minima.

So a score is 1 exactly where prediction equals target. On hard masks all of them are the usual
ones. At equal probabilities between 0 and 1 a gradient is the mean of both one-sided derivatives.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from softoverlap import masks, scores
from softoverlap._checks import check_probabilities, check_rank, check_same_shape, check_weight
from softoverlap._types import Masks, PerChannel, plain, score_dtype
from softoverlap.overlaps.overlap import Overlap


class MaskOverlap(Overlap):
    """Overlap of two soft masks, channel by channel; it has no form for all pairs.

    Its definition is a score from the intersection and the sizes of prediction and target.
    """

    def __call__(
        self, pred: Masks, target: Masks, *, validate: bool | None = None, **parameters: float
    ) -> PerChannel:
        """Score each channel of each item.

        Args:
            pred: Probabilities, shape (B, C, *spatial).
            target: Probabilities, same shape.
            parameters: Of the overlap, by name.
            empty: Score where both masks are empty.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (B, C); a plain tensor also for `MetaTensor`.

        Raises:
            ValueError: If the shapes differ, a probability lies outside [0, 1] or an argument is
                out of range.
        """
        ratio = self.defined(parameters)
        check_same_shape(pred=pred, target=target)
        check_rank(3, "(B, C, *spatial)", pred=pred, target=target)
        check_probabilities(pred=pred, target=target, validate=validate)
        pred, target = plain(pred), plain(target)
        sums = masks.min_intersection(pred, target), masks.size(pred), masks.size(target)
        score = ratio(*(total.double() for total in sums))  # else of subnormal sums is little left
        return score.to(score_dtype(pred, target))

    def ratio(self, shared: Tensor, pred: Tensor, target: Tensor, **parameters: float) -> Tensor:
        """The score of intersections and sizes that broadcast."""
        return self.defined(parameters)(shared, pred, target)

    @property
    def pairs(self) -> MaskOverlap:
        """Itself: each mask meets the one in its place."""
        return self


@partial(MaskOverlap, zero_apart=True)
def mask_dice(shared: Tensor, pred: Tensor, target: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft Dice score of each channel of each item.

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[[0.25, 0.75]]])
        >>> mask_dice(mask, mask)
        tensor([[1.]])
    """
    return scores.dice(shared, pred, target, empty=empty)


@partial(MaskOverlap, zero_apart=True)
def mask_iou(shared: Tensor, pred: Tensor, target: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft IoU (Jaccard index) of each channel of each item: Σ min / Σ max.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> mask_iou(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([[0.3333]])
    """
    return scores.iou(shared, pred, target, empty=empty)


@partial(
    MaskOverlap,
    zero_apart=True,
    symmetric=False,
    check=lambda alpha, beta, empty: check_weight(alpha=alpha, beta=beta),
)
def mask_tversky(  # noqa: D417
    shared: Tensor,
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    empty: float = 1.0,
) -> Tensor:
    """Soft Tversky index of each channel of each item.

    Args:
        alpha: Weight of the prediction outside the target (false positives), at least 0.
        beta: Weight of the target outside the prediction (false negatives), at least 0.

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> mask_tversky(pred, target, alpha=1.0, beta=0.0)
        tensor([[0.5000]])
    """
    return scores.tversky(shared, pred, target, alpha=alpha, beta=beta, empty=empty)
