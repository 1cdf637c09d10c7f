"""Losses of soft masks: one minus an overlap, with the arguments of MONAI's losses.

Each takes its MONAI counterpart's arguments in its order, so that one changed `_target_` runs; ours
follow keyword-only. Sums are in float32 or wider, also for half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from softoverlap import masks, scores
from softoverlap._checks import check_choice, check_weight
from softoverlap._types import Masks, Targets, plain
from softoverlap.losses.inputs import Preparation
from softoverlap.losses.reduction import reduce, reduction_name

Weight = Sequence[float] | float | Tensor | None
PerChannel = Float[Tensor, "*channels"]


class SoftDiceLoss(nn.Module):
    """1 - soft Dice, in place of MONAI's `DiceLoss`.

    `1 - (2 · intersection + smooth_nr) / (size + size + smooth_dr)` for each item and channel. On
    hard targets it equals MONAI's in every form.

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
        ignore_index: Voxels with this label do not count, nor are their values looked at.
        intersection: `"min"` for Σ min(input, target), by default: the loss is 0 exactly where
            both are equal; `"product"` for Σ input·target, MONAI's form.
        validate: Look at the values too, after activation and one-hot; by default on for CPU
            tensors.

    Raises:
        TypeError: If `other_act` is not callable.
        ValueError: If arguments exclude each other or are out of range; `squared_pred` excludes
            `intersection`.

    References:
        Milletari et al., V-Net, https://arxiv.org/abs/1606.04797
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.2, 0.8, 0.5]]])
        >>> SoftDiceLoss()(target, target)
        tensor(0.)
    """

    class_weight: Tensor | None

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
        self.prepare = Preparation(
            include_background, to_onehot_y, sigmoid, softmax, other_act, ignore_index, validate
        )
        self.form = _form(intersection, squared_pred)
        self.score = scores.smoothed_iou if jaccard else scores.smoothed_dice
        self.reduction = reduction_name(reduction)
        check_weight(smooth_nr=smooth_nr, smooth_dr=smooth_dr)
        self.smooth_nr, self.smooth_dr = float(smooth_nr), float(smooth_dr)
        self.batch = batch
        self.register_buffer("class_weight", _checked_weight(weight))

    def extra_repr(self) -> str:
        """What `print` shows of the settings."""
        jaccard = self.score is scores.smoothed_iou
        own = {"intersection": self.form, "jaccard": jaccard, "reduction": self.reduction}
        return _shown(self.prepare, **own, batch=self.batch)

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, "*reduced"]:
        """The loss of a batch.

        Args:
            input: Prediction, shape (B, C, *spatial).
            target: Target, the same shape, or labels (B, 1, *spatial) with `to_onehot_y`.

        Returns:
            The loss, without unit, in float32 or wider, a plain tensor: shape () or, for
            `reduction="none"`, (B, C, 1, ...), or (C, 1, ...) with `batch`.

        Raises:
            ValueError: If the shapes differ or a probability lies outside [0, 1] (were logits
                passed without an activation?).
        """
        pred, truth = self.prepare(input, target)
        loss = 1 - self.score(
            *_sums(pred, truth, self.form, self.batch),
            smooth_nr=self.smooth_nr,
            smooth_dr=self.smooth_dr,
        )
        loss = loss * _channel_weights(self.class_weight, loss)
        if self.reduction == "none":
            return loss.view(*loss.shape, *[1] * (pred.ndim - 2))
        return reduce(loss, self.reduction)


class SoftIoULoss(SoftDiceLoss):
    """1 - soft IoU, in place of MONAI's `DiceLoss(jaccard=True)`.

    Args:
        include_background: Whether channel 0 counts.
        to_onehot_y: Turn a target of labels (B, 1, *spatial) into one channel a class.
        sigmoid: Apply a sigmoid to the input.
        softmax: Apply a softmax over the channels of the input.
        other_act: Apply this function to the input; at most one of the three.
        squared_pred: The squared form: intersection Σ input·target, sizes Σ input² and Σ target².
        jaccard: Accepted for MONAI's sake: the loss is that of the IoU either way.
        reduction: `"mean"` or `"sum"` over items and channels, or `"none"`.
        smooth_nr: Added to the numerator.
        smooth_dr: Added to the denominator.
        batch: Sum sizes and intersections over the batch before the ratio is formed.
        weight: Weight of each channel that counts, or one for all, at least 0; also of a single
            channel, whose weight MONAI ignores.
        soft_label: Accepted for MONAI's sake; every form here is right for soft targets but
            `intersection="product"`, whatever is said here.
        ignore_index: Voxels with this label do not count, nor are their values looked at.
        intersection: `"min"` for Σ min(input, target), by default: the loss is 0 exactly where
            both are equal; `"product"` for Σ input·target, MONAI's form.
        validate: Look at the values too, after activation and one-hot; by default on for CPU
            tensors.

    Raises:
        TypeError: If `other_act` is not callable.
        ValueError: If arguments exclude each other or are out of range; `squared_pred` excludes
            `intersection`.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> SoftIoULoss()(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor(0.6667)
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[Tensor], Tensor] | None = None,
        squared_pred: bool = False,
        jaccard: bool = True,
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
        super().__init__(
            include_background,
            to_onehot_y,
            sigmoid,
            softmax,
            other_act,
            squared_pred,
            True,
            reduction,
            smooth_nr,
            smooth_dr,
            batch,
            weight,
            soft_label,
            ignore_index,
            intersection=intersection,
            validate=validate,
        )


class SoftTverskyLoss(nn.Module):
    """1 - soft Tversky index, in place of MONAI's `TverskyLoss`.

    Args:
        include_background: Whether channel 0 counts.
        to_onehot_y: Turn a target of labels (B, 1, *spatial) into one channel a class.
        sigmoid: Apply a sigmoid to the input.
        softmax: Apply a softmax over the channels of the input.
        other_act: Apply this function to the input; at most one of the three.
        alpha: Weight of the prediction outside the target (false positives), at least 0.
        beta: Weight of the target outside the prediction (false negatives), at least 0.
        reduction: `"mean"` or `"sum"` over items and channels, or `"none"`.
        smooth_nr: Added to the numerator.
        smooth_dr: Added to the denominator.
        batch: Sum sizes and intersections over the batch before the ratio is formed.
        soft_label: Accepted for MONAI's sake; every form here is right for soft targets but
            `intersection="product"`, whatever is said here.
        ignore_index: Voxels with this label do not count, nor are their values looked at.
        intersection: `"min"` for Σ min(input, target), by default: the loss is 0 exactly where
            both are equal; `"product"` for Σ input·target, MONAI's form.
        validate: Look at the values too, after activation and one-hot; by default on for CPU
            tensors.

    Raises:
        TypeError: If `other_act` is not callable.
        ValueError: If arguments exclude each other or are out of range.

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
        check_weight(alpha=alpha, beta=beta)
        self.prepare = Preparation(
            include_background, to_onehot_y, sigmoid, softmax, other_act, ignore_index, validate
        )
        self.form = _form(intersection, squared=False)
        self.alpha, self.beta = alpha, beta
        self.reduction = reduction_name(reduction)
        check_weight(smooth_nr=smooth_nr, smooth_dr=smooth_dr)
        self.smooth_nr, self.smooth_dr = float(smooth_nr), float(smooth_dr)
        self.batch = batch

    def extra_repr(self) -> str:
        """What `print` shows of the settings."""
        own = {"alpha": self.alpha, "beta": self.beta, "intersection": self.form}
        return _shown(self.prepare, **own, reduction=self.reduction, batch=self.batch)

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, "*reduced"]:
        """The loss of a batch.

        Args:
            input: Prediction, shape (B, C, *spatial).
            target: Target, the same shape, or labels (B, 1, *spatial) with `to_onehot_y`.

        Returns:
            The loss, without unit, in float32 or wider, a plain tensor: shape () or, for
            `reduction="none"`, (B, C), or (C,) with `batch`.

        Raises:
            ValueError: If the shapes differ or a probability lies outside [0, 1] (were logits
                passed without an activation?).
        """
        pred, truth = self.prepare(input, target)
        score = scores.smoothed_tversky(
            *_sums(pred, truth, self.form, self.batch),
            alpha=self.alpha,
            beta=self.beta,
            smooth_nr=self.smooth_nr,
            smooth_dr=self.smooth_dr,
        )
        return reduce(1 - score, self.reduction)


class SoftDiceCELoss(nn.Module):
    """Weighted sum of `SoftDiceLoss` and cross entropy, in place of MONAI's `DiceCELoss`.

    The cross entropy takes the input as logits, whatever activation the Dice part is given: over
    classes, or binary for one channel. Both are smallest at the target also where it is soft.

    Args:
        include_background: Whether channel 0 counts.
        to_onehot_y: Turn a target of labels (B, 1, *spatial) into one channel a class.
        sigmoid: Apply a sigmoid to the input of the Dice part.
        softmax: Apply a softmax over the channels to the input of the Dice part.
        other_act: Apply this function to the input of the Dice part; at most one of the three.
        squared_pred: The squared form: intersection Σ input·target, sizes Σ input² and Σ target².
        jaccard: IoU in place of Dice.
        reduction: `"mean"` or `"sum"`.
        smooth_nr: Added to the numerator.
        smooth_dr: Added to the denominator.
        batch: Sum sizes and intersections over the batch before the ratio is formed.
        weight: Weight of each class in both parts; for one channel that of the positive voxels in
            the cross entropy, and of the channel in the Dice part.
        lambda_dice: Weight of the Dice part, at least 0.
        lambda_ce: Weight of the cross entropy, at least 0.
        label_smoothing: Smoothing of the labels in the cross entropy over classes, in [0, 1].
        intersection: `"min"` for Σ min(input, target), by default: the loss is 0 exactly where
            both are equal; `"product"` for Σ input·target, MONAI's form.
        validate: Look at the values too, after activation and one-hot; by default on for CPU
            tensors.

    Raises:
        TypeError: If `other_act` is not callable.
        ValueError: If arguments exclude each other or are out of range.

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
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
        weight = _checked_weight(weight)
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
        """The loss of a batch.

        Args:
            input: Prediction, shape (B, C, *spatial).
            target: Target, the same shape, or labels (B, 1, *spatial).

        Returns:
            The loss, without unit, in float32 or wider, a plain tensor of shape ().

        Raises:
            ValueError: If the shapes differ or a probability lies outside [0, 1] (were logits
                passed without an activation?).
        """
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


def _shown(prepare: Preparation, **own: object) -> str:
    """The settings that are on, and those of the loss itself."""
    settings = vars(prepare).items()
    common = {name: value for name, value in settings if value is not None and value is not False}
    common["include_background"] = prepare.include_background
    return ", ".join(f"{name}={value!r}" for name, value in {**common, **own}.items())


def _cast(weight: Tensor | None, like: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(like)


def _form(intersection: str | None, squared: bool) -> str:
    """Which sums are formed: `"min"`, `"product"` or `"squared"`."""
    if squared:
        if intersection is not None:
            raise ValueError(
                f"squared_pred is a form of its own and excludes intersection, got {intersection!r}"
            )
        return "squared"
    check_choice("intersection", intersection, ("min", "product", None))
    return intersection or "min"


def _sums(pred: Masks, truth: Masks, form: str, batch: bool) -> list[PerChannel]:
    """Intersection, size of the prediction, size of the target."""
    size = masks.squared_size if form == "squared" else masks.size
    shared = masks.min_intersection if form == "min" else masks.product_intersection
    sums = [shared(pred, truth), size(pred), size(truth)]
    return [total.sum(dim=0) for total in sums] if batch else sums


def _checked_weight(weight: Weight) -> Tensor | None:
    if weight is None:
        return None
    tensor = torch.as_tensor(weight).detach().clone()  # loading a state writes into it
    tensor = tensor if tensor.is_floating_point() else tensor.float()
    for number, value in enumerate(tensor.flatten().tolist()):
        check_weight(**{f"weight[{number}]": value})
    return tensor


def _channel_weights(weight: Tensor | None, loss: PerChannel) -> Tensor | float:
    """The weights of the channels, shaped to multiply the loss."""
    if weight is None:
        return 1.0
    if weight.ndim and weight.shape != loss.shape[-1:]:
        raise ValueError(
            f"weight must be one number or one for each of {loss.shape[-1]} channels that count, "
            f"got {weight.numel()}"
        )
    return weight.to(loss)
