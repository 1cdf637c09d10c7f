"""Losses of this package on the logits and targets that nnU-Net hands to a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from softoverlap._types import Masks, Targets
from softoverlap.losses import SoftDiceCELoss

_IGNORED = 255  # what ignored voxels of regions hold: no probability, and no channel


class TargetLoss(nn.Module):
    """A loss on nnU-Net's targets, less 1, since nnU-Net counts -Dice where others count 1 - Dice.

    Args:
        loss: One of those below, or what is made of it.
        ignores: Whether targets have a channel more than there are regions, 1 where a voxel does
            not count.
    """

    def __init__(self, loss: nn.Module, *, ignores: bool) -> None:
        super().__init__()
        self.loss, self.ignores = loss, ignores

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, ""]:
        """The loss of a batch: logits (B, C, *spatial) and their target."""
        if self.ignores:
            left_out = target[:, -1:].bool()
            target = target[:, :-1].to(torch.float32).masked_fill(left_out, _IGNORED)
        return self.loss(input, target) - 1


def dice_ce_of_classes(*, soft: bool, batch: bool, ignore_label: int | None) -> SoftDiceCELoss:
    """On labels nnU-Net's own loss of classes; on soft targets the least at themselves.

    Args:
        soft: Whether targets are probabilities of each class, (B, C, *spatial), and not labels.
        batch: Whether Dice is of the whole batch and not of each item.
        ignore_label: Label of voxels that do not count; in soft targets they are 0 in all classes.
    """
    return SoftDiceCELoss(
        include_background=False,
        to_onehot_y=not soft,
        softmax=True,
        batch=batch,
        ignore_index=ignore_label,
        cross_entropy="classes",
    )


def dice_ce_of_regions(regions: int, *, batch: bool, ignores: bool) -> SoftDiceCELoss:
    """The same of regions, which may overlap; where `TargetLoss` ignores voxels, it marks them."""
    return SoftDiceCELoss(
        sigmoid=True,
        batch=batch,
        # with ignored voxels nnU-Net adds up the entropies of the regions, else it averages
        lambda_ce=float(regions if ignores else 1),
        ignore_index=_IGNORED if ignores else None,
        cross_entropy="regions",
    )


def over_ranks(
    of_sums: Callable[..., Tensor], gather: Callable[[Tensor], Tensor]
) -> Callable[..., Tensor]:
    """The loss of the sums of all ranks; `gather` stacks a tensor of each of them."""

    def of_all(sums: Sequence[Tensor], ndim: int) -> Tensor:
        each = [total.sum(dim=0, keepdim=True) for total in sums]  # ranks may differ in items
        return of_sums([gather(total).sum(dim=0) for total in each], ndim)

    return of_all


def shares_of_raters(
    labels: Shaped[Tensor, "batch raters *spatial"],
    groups: Sequence[Sequence[int]],
    ignore_label: int | None,
) -> tuple[Float[Tensor, "batch groups *spatial"], Bool[Tensor, "batch 1 *spatial"]]:
    """The share of raters whose label is in each group, and where any rater counts.

    Args:
        labels: One label map of each rater, (B, R, *spatial).
        groups: The labels of each class or region.
        ignore_label: What a rater has not looked at; the share is of the others.

    Returns:
        Shares (B, groups, *spatial), 0 where no rater counts, and (B, 1, *spatial), true where one
        does.
    """
    counted = torch.ones_like(labels) if ignore_label is None else labels != ignore_label
    count = counted.sum(dim=1, keepdim=True)
    marked = [
        torch.stack([(labels == label).sum(dim=1) for label in group]).sum(dim=0)
        for group in groups
    ]
    return torch.stack(marked, dim=1) / count.clamp(min=1), count > 0
