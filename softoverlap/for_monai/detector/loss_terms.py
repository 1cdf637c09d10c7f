"""Per-anchor losses, their weights and their reduction."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from softoverlap._checks import check_choice, check_weight
from softoverlap.losses import AmodalBoxLoss, BoxLoss, CoarseToFineBoxLoss, QualityFocalLoss


class QualityFocal(nn.Module):
    """`QualityFocalLoss` of every element, to be reduced by `"positives"`.

    The detector divides the sum over all anchors by the number of positive ones, as RetinaNet
    does.

    Args:
        gamma: How much anchors that are already right count less.

    Examples:
        >>> import torch
        >>> QualityFocal()(torch.tensor([0.0]), torch.tensor([0.5]))
        tensor([0.])
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.loss = QualityFocalLoss("none", gamma=gamma, validate=False)
        self.reduction = "positives"

    def forward(
        self, logits: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """The loss of every element."""
        return self.loss(logits, target)


class HeatMapFocal(nn.Module):
    """Penalty-reduced focal loss of a heat map: the hotter a cell is, the less it is background.

    A cell counts as a lesion where its heat is 1, elsewhere as background. The detector divides
    the sum over all cells by the number of lesions.

    Args:
        gamma: How much cells that are already right count less.
        beta: How much hot cells count less as background.

    References:
        Law and Deng, CornerNet, https://arxiv.org/abs/1808.01244

    Examples:
        >>> import torch
        >>> HeatMapFocal()(torch.zeros(3), torch.tensor([1.0, 0.9, 0.0]))
        tensor([1.7329e-01, 1.7329e-05, 1.7329e-01])
    """

    def __init__(self, gamma: float | int = 2.0, beta: float | int = 4.0) -> None:
        super().__init__()
        check_weight(gamma=gamma, beta=beta)
        self.gamma, self.beta = gamma, beta
        self.reduction = "positives"

    def forward(
        self, logits: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """The loss of every element."""
        p = logits.sigmoid()
        lesion = (1 - p) ** self.gamma * F.logsigmoid(logits)
        background = (1 - target) ** self.beta * p**self.gamma * F.logsigmoid(-logits)
        return -torch.where(target == 1, lesion, background)


def takes_masks(loss: nn.Module | type) -> bool:
    """Whether the loss compares boxes with soft masks in place of boxes."""
    return bool(getattr(loss, "takes_masks", False))


def takes_field(loss: nn.Module) -> bool:
    """Whether the loss asks for the field of view of each box."""
    return bool(getattr(loss, "takes_field", False))


def taken_by(loss: nn.Module | type) -> str | None:
    """What a box loss of this package compares.

    Args:
        loss: The loss, or its class.

    Returns:
        `"masks"`, `"boxes"` or their `"codes"`; None for a loss of another package.

    Examples:
        >>> from softoverlap import BoxGIoULoss, MaskBoxDiceLoss
        >>> taken_by(BoxGIoULoss), taken_by(MaskBoxDiceLoss()), taken_by(nn.L1Loss)
        ('boxes', 'masks', None)
    """
    kind = loss if isinstance(loss, type) else type(loss)
    if takes_masks(loss):
        return "masks"
    if issubclass(kind, BoxLoss | AmodalBoxLoss):
        return "boxes"
    return "codes" if issubclass(kind, CoarseToFineBoxLoss) else None


def check_coding(loss: nn.Module, encode_gt: bool, decode_pred: bool) -> None:
    """A loss of masks or boxes takes boxes, never their codes."""
    taken = taken_by(loss)
    if taken in ("masks", "boxes") and (encode_gt or not decode_pred):
        raise ValueError(
            f"encode_gt and decode_pred must be False and True for "
            f"{type(loss).__name__}, which takes {taken}, got {encode_gt} and {decode_pred}: "
            "in the bundle, set `box_codes: false`"
        )


def unreduced(name: str, loss: nn.Module) -> tuple[nn.Module, str]:
    """A copy of the loss that returns every element, and the reduction that was asked for."""
    how = getattr(loss, "reduction", None)
    if not isinstance(loss, nn.Module) or not isinstance(how, str):
        raise TypeError(
            f"{name} must be a module with an attribute `reduction`, so that anchors can be "
            f"weighted, got {type(loss).__name__}"
        )
    check_choice(f"{name}.reduction", how, ("mean", "sum", "positives"))
    alone: Any = copy.copy(loss)
    alone.reduction = "none"
    return alone, how


def attached(
    losses: Mapping[str, Float[Tensor, ""]], *outputs: Tensor
) -> dict[str, Float[Tensor, ""]]:
    """The same losses, each with a gradient, if of 0, to all of the network's outputs."""
    nothing = sum(output.sum() * 0 for output in outputs)
    return {key: loss + nothing for key, loss in losses.items()}


def reduce(
    losses: Float[Tensor, "rows columns"],
    weights: Float[Tensor, "rows"],
    how: str,
    positives: Tensor | int,
) -> Float[Tensor, ""]:
    """Weighted sum over all; "mean" divides by the weights, "positives" by their number.

    In a distributed training both are means over ranks, so that the mean of the ranks' losses and
    gradients, which `DistributedDataParallel` takes, is that of one process with the whole batch.
    All ranks must therefore call it as often.
    """
    total = (losses * weights[:, None]).sum()
    if how == "sum":
        return total
    if how == "positives":
        count, least = _mean_of_ranks(torch.as_tensor(positives, device=total.device).to(total))
        return total / count.clamp(min=least)
    weight, _ = _mean_of_ranks(weights.sum() * losses.shape[1])
    return torch.where(weight > 0, total / torch.where(weight > 0, weight, 1), 0.0)


def _mean_of_ranks(value: Float[Tensor, ""]) -> tuple[Float[Tensor, ""], float]:
    """The mean over ranks, without gradient, and what a sum over all of 1 comes to."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value, 1.0
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size(), 1 / dist.get_world_size()
