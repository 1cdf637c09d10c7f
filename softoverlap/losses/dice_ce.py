"""Soft Dice and cross entropy in one loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from softoverlap._checks import check_choice, check_weight, check_within, should_validate
from softoverlap._types import Masks, Targets, accumulation_dtype, plain
from softoverlap.losses._slabs import Sums, volume_sums
from softoverlap.losses.masks import MaskLoss, SoftDiceLoss, checked_weight
from softoverlap.losses.reduction import reduction_name

_KINDS = ("classes", "regions")
_OVERLAP = 1.01  # what the channels of a voxel add up to: rounding is no overlap


class SoftDiceCELoss(MaskLoss):
    """Weighted sum of `SoftDiceLoss` and cross entropy, in place of MONAI's `DiceCELoss`.

    The cross entropy takes the input as logits, whatever activation the Dice part is given. Over
    classes, as MONAI's is, one channel wins each voxel. Over regions it is binary in each channel,
    which is what regions need that overlap, such as those of BraTS; a single channel always is one.
    Both parts are smallest at the target also where it is soft, and 0 where nothing counts.

    Args:
        include_background: Whether channel 0 counts; over classes it does in the cross entropy.
        reduction: `"mean"` or `"sum"`.
        weight: Weight of each channel in the Dice part, and of each class in the cross entropy;
            over regions, of the positive voxels of each channel.
        lambda_dice: Weight of the Dice part, at least 0.
        lambda_ce: Weight of the cross entropy, at least 0.
        label_smoothing: Smoothing of the labels in the cross entropy over classes, in [0, 1].
        ignore_index: Voxels with this label do not count in either part. Of a target of several
            channels: over classes voxels of this channel, or, if it is no channel, those that are
            0 or hold it in all; over regions those alone that hold this number, say 255, in all.
        cross_entropy: `"classes"` or `"regions"`; None for classes, with one warning where the
            channels of a target overlap.

    Raises:
        TypeError: If `other_act` is not callable, or a switch neither True nor False.
        ValueError: If arguments exclude each other or are out of range: `label_smoothing` is of
            classes, and a value or a channel of regions is no mark of ignored voxels.

    References:
        Isensee et al., nnU-Net, https://arxiv.org/abs/1809.10486

    Examples:
        >>> import torch
        >>> logits, target = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
        >>> SoftDiceCELoss(sigmoid=True)(logits, target)
        tensor(0.6931)
        >>> regions = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])  # the second lies in the first
        >>> loss = SoftDiceCELoss(sigmoid=True, cross_entropy="regions")
        >>> round(loss(40 * regions - 20, regions).item(), 4)
        0.0
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
        ignore_index: int | None = None,
        cross_entropy: str | None = None,
        intersection: str | None = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        check_weight(lambda_dice=lambda_dice, lambda_ce=lambda_ce)
        reduction = reduction_name(reduction)
        check_choice("reduction", reduction, ("mean", "sum"))
        check_within(0, 1, label_smoothing=label_smoothing)
        check_choice("cross_entropy", cross_entropy, (*_KINDS, None))
        if cross_entropy == "regions" and label_smoothing:
            raise ValueError(f"label_smoothing must be 0 over regions, got {label_smoothing}")
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
            ignore_index=ignore_index,
            intersection=intersection,
            validate=validate,
        )
        self.dice.prepare = replace(self.dice.prepare, regions=cross_entropy == "regions")
        self.kind, self._warns = cross_entropy, cross_entropy is None
        self.cross_entropy = nn.CrossEntropyLoss(
            weight=weight, reduction=reduction, label_smoothing=label_smoothing
        )
        self.binary_cross_entropy = nn.BCEWithLogitsLoss(pos_weight=weight, reduction=reduction)
        self.lambda_dice, self.lambda_ce = lambda_dice, lambda_ce

    @property
    def overlap(self) -> SoftDiceLoss:
        """The part of the loss that is one minus an overlap."""
        return self.dice

    def extra_repr(self) -> str:
        """What `print` shows of the settings."""
        weights = f"lambda_dice={self.lambda_dice}, lambda_ce={self.lambda_ce}"
        return f"{weights}, cross_entropy={self.kind!r}"

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, ""]:
        """The loss of a batch, as of the other losses, of shape ()."""
        return self.with_sums(input, target)[0]

    def with_sums(self, input: Masks, target: Targets) -> tuple[Tensor, Sequence[Tensor]]:
        """The loss, and the sums of its Dice part."""
        found = self._fused(input, target)
        if found is not None:
            self._warn_of_overlap(found.densest > _OVERLAP)
            entropy, sums = found.entropy, found.sizes.unbind()
            if self.dice.reduction == "mean":
                entropy = entropy / max(1, input.numel() // input.shape[1])
            dice = self.dice.of_sums(sums, input.ndim)
        else:
            dice, sums = self.dice.with_sums(input, target)
            self._warn_of_overlap(self._overlap(plain(target)))
            entropy = self._reduced(*self.entropies(input, target, dice.dtype))
        return self.lambda_dice * dice + self.lambda_ce * entropy, sums

    def entropies(
        self, input: Tensor, target: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """The cross entropy of each voxel, and how much it weighs in the mean; None for alike.

        There is one channel over classes, and one for each channel that counts over regions.
        """
        logits, labels = plain(input).to(dtype), plain(target)
        counted = self.dice.prepare.counted(labels)
        if counted is not None:
            left_out = ~(counted > 0)
            logits, labels = (values.masked_fill(left_out, 0) for values in (logits, labels))
        binary = logits.shape[1] == 1 or self.kind == "regions"
        entropy, weight = (self._of_regions if binary else self._of_classes)(logits, labels)
        if counted is None:
            return entropy, weight
        counted = counted.expand_as(entropy)
        return entropy * counted, counted if weight is None else counted * weight

    def _fused(self, input: Tensor, target: Tensor) -> Sums | None:
        """The sums of both parts in one pass, where the entropy is a plain one."""
        entropy, prepare = self.cross_entropy, self.dice.prepare
        changed = entropy.weight is not None or entropy.label_smoothing
        if changed or prepare.ignore_index is not None:
            return None
        if not isinstance(input, Tensor) or input.ndim < 3:
            return None
        if self.kind == "regions" and input.shape[1] > 1:
            return None
        return volume_sums(prepare, self.dice.form, input, target, entropy=True)

    def _of_regions(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        """Binary cross entropy of each channel that counts."""
        prepare, channels = self.dice.prepare, logits.shape[1]
        truth = prepare.masks_of(labels, channels).to(logits)
        weight = _cast(self.binary_cross_entropy.pos_weight, logits)
        if weight is not None:
            weight = weight.expand(channels).view(-1, *[1] * (logits.ndim - 2))
        entropy = F.binary_cross_entropy_with_logits(
            logits, truth, pos_weight=weight, reduction="none"
        )
        if prepare.hides_background(channels):
            entropy = entropy[:, 1:]
        return entropy, None

    def _of_classes(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Cross entropy over classes; of labels, each voxel weighs as its class in the mean."""
        weight = _cast(self.cross_entropy.weight, logits)
        truth = labels.to(logits.dtype) if labels.shape[1] > 1 else labels[:, 0].long()
        smoothing = self.cross_entropy.label_smoothing
        entropy = F.cross_entropy(
            logits, truth, weight=weight, reduction="none", label_smoothing=smoothing
        )
        if weight is None or labels.shape[1] > 1:
            return entropy.unsqueeze(1), None
        return entropy.unsqueeze(1), weight[truth].unsqueeze(1)

    def _reduced(self, entropy: Tensor, weight: Tensor | None) -> Tensor:
        """The sum over what counts, or its mean; 0, attached to the graph, over nothing."""
        total = entropy.sum()
        if self.dice.reduction == "sum":
            return total
        if weight is None:
            return total / max(1, entropy.numel())
        count = weight.to(total.dtype).sum()
        return total / torch.where(count > 0, count, 1)

    def _overlap(self, labels: Tensor) -> bool:
        """Whether a voxel lies in several regions, if that is asked and may be looked at."""
        if (
            not self._warns
            or labels.shape[1] == 1
            or not should_validate(self.dice.prepare.validate, labels)
        ):
            return False
        counts = labels.detach().to(accumulation_dtype(labels)).sum(dim=1)
        return bool((counts > _OVERLAP).any())

    def _warn_of_overlap(self, overlap: bool) -> None:
        """Once: a voxel of several regions has no class."""
        if overlap and self._warns:
            self._warns = False
            warnings.warn(
                "channels of target overlap, and the cross entropy is over classes, as MONAI's is: "
                "choose cross_entropy='regions' for a binary one in each channel (ignore_index "
                "then marks voxels, and not those that are 0 in all channels), or 'classes'",
                stacklevel=6,
            )


def _cast(weight: Tensor | None, like: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(like)
