"""Soft Dice and a focal loss in one loss."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_weight, check_within
from softoverlap._types import Masks, Targets, plain
from softoverlap.losses.masks import MaskLoss, SoftDiceLoss, Weight, channel_weights
from softoverlap.losses.reduction import power, reduce


class SoftDiceFocalLoss(MaskLoss):
    """Weighted sum of `SoftDiceLoss` and a focal loss, in place of MONAI's `DiceFocalLoss`.

    The focal loss takes the input as logits of a sigmoid in each channel, whatever activation the
    Dice part is given: `|target - p|^gamma · BCE(p, target)`. On hard targets that is MONAI's; of
    soft ones it is smallest where p equals the target, as the Dice part is.

    Args:
        reduction: `"mean"`, `"sum"` or `"none"`; of the focal part, as in MONAI, `"sum"` adds up
            means over voxels, and `"none"` keeps the voxels.
        gamma: Power of the factor that quiets what is already right, at least 0.
        weight: Weight of each channel that counts, or one for all, at least 0, in both parts.
        lambda_dice: Weight of the Dice part, at least 0.
        lambda_focal: Weight of the focal part, at least 0.
        alpha: Weight of the target in the focal part, in [0, 1], against that of what is not
            target, `1 - alpha`; None for none.

    References:
        Lin et al., Focal loss for dense object detection, https://arxiv.org/abs/1708.02002
        Li et al., Generalized focal loss, https://arxiv.org/abs/2006.04388

    Examples:
        >>> import torch
        >>> logits, target = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
        >>> SoftDiceFocalLoss(sigmoid=True)(logits, target)
        tensor(0.)
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
        gamma: float = 2.0,
        weight: Weight = None,
        lambda_dice: float = 1.0,
        lambda_focal: float = 1.0,
        alpha: float | None = None,
        *,
        intersection: str | None = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        check_weight(gamma=gamma, lambda_dice=lambda_dice, lambda_focal=lambda_focal)
        if alpha is not None:
            check_within(0, 1, alpha=alpha)
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
            weight,
            intersection=intersection,
            validate=validate,
        )
        self.gamma, self.alpha = gamma, alpha
        self.lambda_dice, self.lambda_focal = lambda_dice, lambda_focal

    def extra_repr(self) -> str:
        """What `print` shows of the settings."""
        names = ("lambda_dice", "lambda_focal", "gamma", "alpha")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, "*reduced"]:
        """The loss of a batch, as of the other losses; shape () unless `reduction="none"`."""
        dice = self.dice(input, target)
        focal = self._focal(plain(input).to(dice.dtype), plain(target))
        if self.dice.class_weight is not None:
            weight = channel_weights(self.dice.class_weight, focal[..., :1].flatten(2)[..., 0])
            focal = focal * weight.view(-1, *[1] * (focal.ndim - 2))
        if self.dice.reduction == "sum":
            voxels = focal.flatten(2)
            focal = voxels.sum(dim=2) / max(1, voxels.shape[2])
        return self.lambda_dice * dice + self.lambda_focal * reduce(focal, self.dice.reduction)

    def _focal(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The focal loss of each voxel of each channel that counts."""
        prepare, channels = self.dice.prepare, logits.shape[1]
        truth = prepare.masks_of(labels, channels).to(logits.dtype)
        if prepare.hides_background(channels):
            logits, truth = logits[:, 1:], truth[:, 1:]
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        focal = power((truth - logits.sigmoid()).abs(), self.gamma) * entropy
        if self.alpha is None:
            return focal
        return focal * (self.alpha * truth + (1 - self.alpha) * (1 - truth))
