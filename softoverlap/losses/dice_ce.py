"""Soft Dice and cross entropy in one loss."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from softoverlap._checks import check_choice, check_weight, check_within
from softoverlap._types import Masks, Targets, plain
from softoverlap.losses.masks import MaskLoss, SoftDiceLoss, checked_weight
from softoverlap.losses.reduction import reduction_name


class SoftDiceCELoss(MaskLoss):
    """Weighted sum of `SoftDiceLoss` and cross entropy, in place of MONAI's `DiceCELoss`.

    The cross entropy takes the input as logits, whatever activation the Dice part is given: over
    classes, or binary for one channel. Both are smallest at the target also where it is soft.

    Args:
        reduction: `"mean"` or `"sum"`.
        weight: Weight of each class in both parts; for one channel that of the positive voxels in
            the cross entropy, and of the channel in the Dice part.
        lambda_dice: Weight of the Dice part, at least 0.
        lambda_ce: Weight of the cross entropy, at least 0.
        label_smoothing: Smoothing of the labels in the cross entropy over classes, in [0, 1].

    References:
        Isensee et al., nnU-Net, https://arxiv.org/abs/1809.10486

    Examples:
        >>> import torch
        >>> logits, target = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
        >>> SoftDiceCELoss(sigmoid=True)(logits, target)
        tensor(0.6931)
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[Tensor], Tensor] | None = None,
        squared_pred: bool = False,
        jaccard: bool = False,
        reduction: str = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        weight: Tensor | None = None,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        label_smoothing: float = 0.0,
        *,
        intersection: str | None = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        check_weight(lambda_dice=lambda_dice, lambda_ce=lambda_ce)
        reduction = reduction_name(reduction)
        check_choice("reduction", reduction, ("mean", "sum"))
        check_within(0, 1, label_smoothing=label_smoothing)
        weight = checked_weight(weight)
        foreground = weight
        if weight is not None and weight.numel() > 1 and not include_background:
            foreground = weight[1:]
        self.dice = SoftDiceLoss(
            include_background,
            to_onehot_y,
            sigmoid,
            softmax,
            other_act,
            squared_pred,
            jaccard,
            reduction,
            smooth_nr,
            smooth_dr,
            batch,
            foreground,
            intersection=intersection,
            validate=validate,
        )
        self.cross_entropy = nn.CrossEntropyLoss(
            weight=weight, reduction=reduction, label_smoothing=label_smoothing
        )
        self.binary_cross_entropy = nn.BCEWithLogitsLoss(pos_weight=weight, reduction=reduction)
        self.lambda_dice, self.lambda_ce = lambda_dice, lambda_ce

    def extra_repr(self) -> str:
        """What `print` shows of the settings."""
        return f"lambda_dice={self.lambda_dice}, lambda_ce={self.lambda_ce}"

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, ""]:
        """The loss of a batch, as of the other losses, of shape ()."""
        dice = self.dice(input, target)
        logits, truth = plain(input).to(dice.dtype), plain(target)
        return self.lambda_dice * dice + self.lambda_ce * self._entropy(logits, truth)

    def _entropy(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Cross entropy over classes, or binary for one channel."""
        if logits.shape[1] == 1:
            entropy = self.binary_cross_entropy
            return F.binary_cross_entropy_with_logits(
                logits,
                truth.to(logits.dtype),
                pos_weight=_cast(entropy.pos_weight, logits),
                reduction=entropy.reduction,
            )
        entropy = self.cross_entropy
        labels = truth[:, 0].long() if truth.shape[1] == 1 else truth.to(logits.dtype)
        return F.cross_entropy(
            logits,
            labels,
            weight=_cast(entropy.weight, logits),
            reduction=entropy.reduction,
            label_smoothing=entropy.label_smoothing,
        )


def _cast(weight: Tensor | None, like: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(like)
