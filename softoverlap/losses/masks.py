"""Losses of soft masks: one minus an overlap, with the arguments of MONAI's losses.

Each takes its MONAI counterpart's arguments in its order, so that one changed `_target_` runs; ours
follow keyword-only. Sums are in float32 or wider, also for half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softoverlap import scores
from softoverlap._checks import check_boolean, check_choice, check_weight
from softoverlap._docstrings import Family
from softoverlap._types import Masks, Targets
from softoverlap.losses._slabs import plain_sums, volume_sums
from softoverlap.losses.by_kernels import sums_by_kernels
from softoverlap.losses.inputs import Preparation
from softoverlap.losses.reduction import reduce, reduction_name

Weight = Sequence[float] | float | Tensor | None
PerChannel = Float[Tensor, "*channels"]


class MaskLoss(Family, nn.Module):
    """A loss of soft masks: what its arguments mean; use one of its subclasses.

    Args:
        include_background: Whether channel 0 counts.
        to_onehot_y: Turn a target of labels (B, 1, *spatial) into one channel a class.
        sigmoid: Apply a sigmoid to the input.
        softmax: Apply a softmax over the channels of the input.
        other_act: Apply this function to the input; at most one of the three.
        squared_pred: The squared form: intersection Σ input·target, sizes Σ input² and Σ target².
        jaccard: IoU in place of Dice.
        reduction: `"mean"` or `"sum"` over items and channels, or `"none"`.
        smooth_nr: Added to the numerator.
        smooth_dr: Added to the denominator.
        batch: Sum sizes and intersections over the batch before the ratio is formed.
        weight: Weight of each channel that counts, or one for all, at least 0; also of a single
            channel, whose weight MONAI ignores.
        soft_label: Accepted for MONAI's sake; every form here is right for soft targets but
            `intersection="product"`, whatever is said here.
        ignore_index: Voxels with this label do not count, nor are their values looked at. Of a
            target of several channels, as in MONAI, those of this channel; if it is no channel,
            those that are 0 in all channels, and those that hold it in all.
        intersection: `"min"` for Σ min(input, target), by default: the loss is 0 exactly where
            both are equal; `"product"` for Σ input·target, MONAI's form.
        validate: Look at the values too, after activation and one-hot; by default on for CPU
            tensors.

    Raises:
        TypeError: If `other_act` is not callable, or a switch neither True nor False.
        ValueError: If arguments exclude each other or are out of range; `squared_pred` excludes
            `intersection`.
    """


class OverlapLoss(nn.Module):
    """One minus an overlap, from the intersection and both sizes of each item and channel."""

    ratio: Callable[..., Tensor]
    class_weight: Tensor | None
    keeps_axes = False  # whether an unreduced loss has the masks' spatial axes, of one voxel each

    def _settle(
        self,
        prepare: Preparation,
        form: str,
        reduction: str,
        smooth: tuple[float, float],
        batch: bool,
        weight: Tensor | None = None,
    ) -> None:
        """Take what all of them are told."""
        self.prepare, self.form, self.batch = prepare, form, batch
        self.reduction = reduction_name(reduction)
        check_boolean(batch=batch)
        check_weight(smooth_nr=smooth[0], smooth_dr=smooth[1])
        self.smooth_nr, self.smooth_dr = map(float, smooth)
        self.register_buffer("class_weight", weight)

    @property
    def overlap(self) -> OverlapLoss:
        """The part of the loss that is one minus an overlap."""
        return self

    def extra_repr(self) -> str:
        """What `print` shows of the settings: those of the inputs that are on, and its own."""
        inputs = vars(self.prepare).items()
        on = {name: value for name, value in inputs if value is not None and value is not False}
        on["include_background"] = self.prepare.include_background
        shown = {**on, "intersection": self.form, **self._shown()}
        shown |= {"reduction": self.reduction, "batch": self.batch}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def _shown(self) -> Mapping[str, object]:
        """What `print` shows of the ratio."""
        return {}

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, "*reduced"]:
        """The loss of a batch.

        Args:
            input: Prediction, shape (B, C, *spatial).
            target: Target, the same shape, or labels (B, 1, *spatial) with `to_onehot_y`.

        Returns:
            The loss, without unit, in float32 or wider, a plain tensor: shape () or, for
            `reduction="none"`, as in MONAI (B, C, 1, ...) of Dice and IoU and (B, C) of Tversky,
            without B with `batch`.

        Raises:
            ValueError: If the shapes differ or a probability lies outside [0, 1] (were logits
                passed without an activation?).
        """
        return self.with_sums(input, target)[0]

    def with_sums(self, input: Masks, target: Targets) -> tuple[Tensor, Sequence[Tensor]]:
        """The loss, and of each item and channel the intersection and both sizes."""
        sums = sums_by_kernels(self.prepare, input, target, self.form)
        if sums is None:
            found = volume_sums(self.prepare, self.form, input, target)
            sums = None if found is None else found.sizes.unbind()
        if sums is None:
            sums = plain_sums(*self.prepare(input, target), self.form)
        return self.of_sums(sums, input.ndim), sums

    def of_sums(self, sums: Sequence[Tensor], ndim: int) -> Float[Tensor, "*reduced"]:
        """The loss, from the sums of each item and channel of masks of so many axes."""
        if self.batch:
            sums = [total.sum(dim=0) for total in sums]
        loss = self.unreduced(*sums)
        if self.reduction == "none" and self.keeps_axes:
            return loss.view(*loss.shape, *[1] * (ndim - 2))
        return reduce(loss, self.reduction)

    def unreduced(self, *sums: PerChannel) -> PerChannel:
        """The loss of each intersection and its two sizes; the channel is the last axis."""
        loss = 1 - self.ratio(*sums, smooth_nr=self.smooth_nr, smooth_dr=self.smooth_dr)
        if self.class_weight is None:
            return loss
        return loss * channel_weights(self.class_weight, loss)


class SoftDiceLoss(MaskLoss, OverlapLoss):
    """1 - soft Dice, in place of MONAI's `DiceLoss`.

    `1 - (2 · intersection + smooth_nr) / (size + size + smooth_dr)` for each item and channel. On
    hard targets it equals MONAI's in every form.

    References:
        Milletari et al., V-Net, https://arxiv.org/abs/1606.04797
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.2, 0.8, 0.5]]])
        >>> SoftDiceLoss()(target, target)
        tensor(0.)
    """

    keeps_axes = True
    always_iou = False

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
        weight: Weight = None,
        soft_label: bool = False,
        ignore_index: int | None = None,
        *,
        intersection: str | None = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        check_boolean(squared_pred=squared_pred, jaccard=jaccard, soft_label=soft_label)
        prepare = Preparation(
            include_background, to_onehot_y, sigmoid, softmax, other_act, ignore_index, validate
        )
        form = form_of(intersection, squared_pred)
        smooth = smooth_nr, smooth_dr
        self._settle(prepare, form, reduction, smooth, batch, checked_weight(weight))
        self.ratio = scores.smoothed_iou if jaccard or self.always_iou else scores.smoothed_dice

    def _shown(self) -> dict[str, object]:
        return {"jaccard": self.ratio is scores.smoothed_iou}


class SoftIoULoss(SoftDiceLoss):
    """1 - soft IoU, in place of MONAI's `DiceLoss(jaccard=True)`.

    Args:
        jaccard: Accepted for MONAI's sake: the loss is that of the IoU either way.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> SoftIoULoss()(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor(0.6667)
    """

    always_iou = True
    __signature__ = signature(SoftDiceLoss).replace(
        parameters=[
            parameter.replace(default=True) if parameter.name == "jaccard" else parameter
            for parameter in signature(SoftDiceLoss).parameters.values()
        ]
    )


class SoftTverskyLoss(MaskLoss, OverlapLoss):
    """1 - soft Tversky index, in place of MONAI's `TverskyLoss`.

    Args:
        alpha: Weight of the prediction outside the target (false positives), at least 0.
        beta: Weight of the target outside the prediction (false negatives), at least 0.

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> SoftTverskyLoss(alpha=1.0, beta=0.0)(pred, target)
        tensor(0.5000)
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[Tensor], Tensor] | None = None,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        soft_label: bool = False,
        ignore_index: int | None = None,
        *,
        intersection: str = "min",
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        check_boolean(soft_label=soft_label)
        check_weight(alpha=alpha, beta=beta)
        prepare = Preparation(
            include_background, to_onehot_y, sigmoid, softmax, other_act, ignore_index, validate
        )
        form = form_of(intersection, squared=False)
        self._settle(prepare, form, reduction, (smooth_nr, smooth_dr), batch)
        self.weights = {"alpha": alpha, "beta": beta}
        self.ratio = partial(scores.smoothed_tversky, **self.weights)

    def _shown(self) -> Mapping[str, object]:
        return self.weights


def form_of(intersection: str | None, squared: bool) -> str:
    """Which sums are formed: `"min"`, `"product"` or `"squared"`."""
    if squared:
        if intersection is not None:
            raise ValueError(
                f"squared_pred is a form of its own and excludes intersection, got {intersection!r}"
            )
        return "squared"
    check_choice("intersection", intersection, ("min", "product", None))
    return intersection or "min"


def checked_weight(weight: Weight) -> Tensor | None:
    """The weight as a tensor of its own, at least 0."""
    if weight is None:
        return None
    tensor = torch.as_tensor(weight).detach().clone()  # loading a state writes into it
    tensor = tensor if tensor.is_floating_point() else tensor.float()
    for number, value in enumerate(tensor.flatten().tolist()):
        check_weight(**{f"weight[{number}]": value})
    return tensor


def channel_weights(weight: Tensor, loss: PerChannel) -> Tensor:
    """The weights of the channels, shaped to multiply the loss."""
    if weight.ndim and weight.shape != loss.shape[-1:]:
        raise ValueError(
            f"weight must be one number or one for each of {loss.shape[-1]} channels that count, "
            f"got {weight.numel()}"
        )
    return weight.to(loss)
