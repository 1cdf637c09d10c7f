"""Trainers of nnU-Net 2, each of which differs from its own in one thing.

nnU-Net makes its trainers by their names, and calls what is defined here; none has arguments.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import (  # pyright: ignore[reportMissingImports]
    DeepSupervisionWrapper,
)
from nnunetv2.training.loss.dice import (  # pyright: ignore[reportMissingImports]
    get_tp_fp_fn_tn,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import (  # pyright: ignore[reportMissingImports]
    nnUNetTrainer,
)
from nnunetv2.utilities.ddp_allgather import (  # pyright: ignore[reportMissingImports]
    AllGatherGrad,
)
from torch import Tensor, nn

from softoverlap.for_nnunet.losses import (
    TargetLoss,
    dice_ce_of_classes,
    dice_ce_of_regions,
    over_ranks,
    shares_of_raters,
)
from softoverlap.lesion_losses import LesionwiseSoftLoss
from softoverlap.losses import SoftDiceCELoss


class nnUNetTrainerSoftDiceCE(nnUNetTrainer):
    """nnU-Net with `SoftDiceCELoss` in place of its own Dice and cross entropy.

    On labels both losses are equal. All else is nnU-Net's: deep supervision and its weights, batch
    Dice, also over ranks, regions, the ignore label, and whether the loss is compiled.
    """

    soft_targets = False

    def _build_loss(self) -> nn.Module:
        built = super()._build_loss()
        own = self._own_loss()
        if not isinstance(built, DeepSupervisionWrapper):
            return own
        built.loss = own  # the weights of the resolutions stay
        return built

    def _own_loss(self) -> TargetLoss:
        labels, batch = self.label_manager, self.configuration_manager.batch_dice
        ignores = labels.has_ignore_label
        if labels.has_regions:
            dice_ce = dice_ce_of_regions(
                len(labels.foreground_regions), batch=batch, ignores=ignores
            )
        else:
            dice_ce = dice_ce_of_classes(
                soft=self.soft_targets, batch=batch, ignore_label=labels.ignore_label
            )
        if batch and self.is_ddp:
            summed = over_ranks(dice_ce.dice.of_sums, AllGatherGrad.apply)
            dice_ce.dice.of_sums = summed  # pyright: ignore[reportAttributeAccessIssue]
        if self._do_i_compile():
            dice_ce.compile()
        return TargetLoss(self._made_of(dice_ce), ignores=labels.has_regions and ignores)

    def _made_of(self, dice_ce: SoftDiceCELoss) -> nn.Module:
        """The loss that is trained with."""
        return dice_ce


class nnUNetTrainerSoftRaters(nnUNetTrainerSoftDiceCE):
    """nnU-Net on the labels of several raters: the target is the share of raters, voxel by voxel.

    A file of labels is 4D, with the map of one rater after the other. All of them go through
    preprocessing and augmentation, and are then fused on the device. What a rater has not looked at
    has the ignore label, and the share is of the others.
    """

    soft_targets = True

    def initialize(self) -> None:
        """As nnU-Net does; the second stage of a cascade takes a second rater for its first."""
        if self.is_cascaded:
            raise ValueError(
                f"{type(self).__name__} must train a configuration without a previous stage, "
                f"got {self.configuration_name}"
            )
        super().initialize()

    @staticmethod
    def get_training_transforms(*args: Any, regions: object = None, **others: Any) -> Any:
        """nnU-Net's, but for regions, which it makes of the first rater alone."""
        return nnUNetTrainer.get_training_transforms(*args, **others)

    @staticmethod
    def get_validation_transforms(*args: Any, regions: object = None, **others: Any) -> Any:
        """nnU-Net's, but for regions."""
        return nnUNetTrainer.get_validation_transforms(*args, **others)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A step towards the shares of raters."""
        return super().train_step({**batch, "target": self._fused(batch["target"])})

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The loss, and the counts of nnU-Net's pseudo Dice, which are means over raters."""
        data, target = batch["data"].to(self.device), self._fused(batch["target"])
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            output = self.network(data)
            loss = self.loss(output, target)
        if self.enable_deep_supervision:
            output, target = output[0], target[0]
        truth, counted = self._counted(target)
        axes = [0, *range(2, output.ndim)]
        counts = get_tp_fp_fn_tn(self._decided(output), truth, axes, counted)[:3]
        first = 0 if self.label_manager.has_regions else 1  # the background has no Dice
        named = zip(("tp_hard", "fp_hard", "fn_hard"), counts, strict=True)
        found = {name: count[first:].cpu().numpy() for name, count in named}
        return {"loss": loss.detach().cpu().numpy(), **found}

    def _fused(self, target: Any) -> Any:
        """The shares of raters, at each resolution; of regions, what does not count comes last."""
        if isinstance(target, list):
            return [self._fused(labels) for labels in target]
        manager = self.label_manager
        groups = manager.foreground_regions if manager.has_regions else manager.all_labels
        groups = [group if isinstance(group, tuple) else (int(group),) for group in groups]
        labels = target.to(self.device, non_blocking=True)
        shares, counted = shares_of_raters(labels, groups, manager.ignore_label)
        if manager.has_regions and manager.has_ignore_label:
            return torch.cat([shares, (~counted).to(shares)], dim=1)
        return shares

    def _counted(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """The shares, and where any rater counts; None for everywhere."""
        if not self.label_manager.has_ignore_label:
            return target, None
        if self.label_manager.has_regions:
            return target[:, :-1], 1 - target[:, -1:]
        return target, (target.sum(dim=1, keepdim=True) > 0).to(target)

    def _decided(self, output: Tensor) -> Tensor:
        """The classes or regions that the network decides for, as masks."""
        if self.label_manager.has_regions:
            return (output > 0).to(torch.float32)
        likeliest = output.argmax(dim=1, keepdim=True)
        return torch.zeros_like(output, dtype=torch.float32).scatter_(1, likeliest, 1)


class nnUNetTrainerLesionwise(nnUNetTrainerSoftDiceCE):
    """nnU-Net with `LesionwiseSoftLoss`: the loss of the image and, as much, of each lesion's cell.

    Cells reach 8 voxels beyond a lesion, at each resolution of the deep supervision, and are found
    in the patch. Batch Dice is of the image's part alone. The loss is not compiled, since how many
    lesions there are decides shapes.
    """

    def _made_of(self, dice_ce: SoftDiceCELoss) -> nn.Module:
        return LesionwiseSoftLoss(dice_ce)
