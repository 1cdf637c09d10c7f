"""A loss of soft masks that sees every lesion, however small."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from softoverlap._checks import (
    check_positive,
    check_rank,
    check_tensors,
    check_weight,
    refusal,
    should_validate,
)
from softoverlap._types import Masks, Targets, plain
from softoverlap.lesion_losses.regions import LesionCells, OthersMasked
from softoverlap.lesion_losses.sums import (
    Picked,
    RegionLoss,
    RegionSums,
    image_entropy,
    region_sums,
)
from softoverlap.losses import SoftDiceCELoss

Regions = Shaped[Tensor, "batch region_channel *spatial"]
PerRegion = Float[Tensor, "batch regions channel"]
LesionWeight = Callable[[Tensor, Tensor], Tensor]
_MOST = 1 << 20  # regions of a channel: their numbers are looked up in a table


def weigh_by_volume(size: PerRegion, peak: PerRegion) -> PerRegion:
    """A lesion counts by its size; for `LesionwiseSoftLoss(weight=...)`.

    Args:
        size: Σ target over the region of each lesion, in voxels.
        peak: Highest probability of the target there.

    Returns:
        The size.

    Examples:
        >>> weigh_by_volume(torch.tensor([[[30.0]]]), torch.tensor([[[1.0]]]))
        tensor([[[30.]]])
    """
    return size


def weigh_by_existence(size: PerRegion, peak: PerRegion) -> PerRegion:
    """A lesion counts by the share of raters that agree on one of its voxels.

    That is the highest probability of a target that is a mean of raters: the lesion's existence,
    unless raters marked different voxels of it; then it is less.

    Args:
        size: Σ target over the region of each lesion, in voxels.
        peak: Highest probability of the target there.

    Returns:
        The peak.

    Examples:
        >>> weigh_by_existence(torch.tensor([[[30.0]]]), torch.tensor([[[0.75]]]))
        tensor([[[0.7500]]])
    """
    return peak


class LesionwiseSoftLoss(nn.Module):
    """A loss of masks in a region for each lesion, beside the same loss of the whole image.

    `lambda_lesions · L + lambda_global · G + lambda_false · F`. G is `loss(input, target)`. L is
    that loss of each lesion by itself, averaged by weight over the lesions of an item and channel,
    and then over the items and channels that have a lesion; 0 if none has. F is the mean of
    `log(1 + m / false_volume)` over items and channels, where m is the mass that is predicted
    beyond the target in the rest, which is nobody's region; so false lesions cost something far
    from true ones too, and in items without any.

    A channel's lesion is a region in which its target is above 0. What a patch leaves of a lesion
    is the lesion; where it leaves nothing, the region belongs to the rest.

    Two published losses are special cases, of targets of 0 and 1 in items with a lesion:

    - CC-DiceCE: a `SoftDiceCELoss`, and `LesionCells` whose reach is the image's diagonal. There
      is no rest then. Items without a lesion have the global part alone.
    - Blob loss: a `SoftDiceLoss`, and `OthersMasked()`; its α and β are `lambda_global` and
      `lambda_lesions`.

    The number of regions decides shapes, so a step on a GPU waits for it once.

    Args:
        loss: `SoftDiceLoss`, `SoftIoULoss`, `SoftTverskyLoss` or `SoftDiceCELoss`, which has the
            activation and all else that is said of inputs; `reduction="mean"`, and no `other_act`,
            which would see voxels in a row, without their place.
        view: Where a lesion is judged: `LesionCells(reach)` or `OthersMasked()`.
        weight: Weight of each lesion, from Σ target in voxels and its highest probability, both of
            shape (B, regions, C): `weigh_by_volume`, `weigh_by_existence` or another function, at
            least 0 and finite where there is a lesion; None for all alike.
        lambda_lesions: Weight of the lesions' part, at least 0.
        lambda_global: Weight of the whole image, at least 0.
        lambda_false: Weight of false lesions, at least 0; 0 unless `loss` sums up minima.
        false_volume: Mass in voxels at which a false lesion costs log 2, above 0.

    Raises:
        TypeError: If `loss` is none of these, or `view` none of the two.
        ValueError: If an argument is out of range, all three weights are 0, `loss` has an
            `other_act` or another reduction, or `lambda_false` is above 0 and `loss` has
            `squared_pred` or `intersection="product"`, with which a soft target itself would have
            a false mass.

    References:
        Bouteille et al., CC-DiceCE, https://arxiv.org/abs/2511.17146
        Kofler et al., Blob loss, https://arxiv.org/abs/2205.08209

    Examples:
        >>> from softoverlap import SoftDiceLoss
        >>> target = torch.tensor([[[0.0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0]]])
        >>> without_small = target * (torch.arange(14) < 9)
        >>> SoftDiceLoss()(without_small, target)
        tensor(0.0769)
        >>> LesionwiseSoftLoss(SoftDiceLoss(), LesionCells(2), lambda_global=0)(
        ...     without_small, target
        ... )
        tensor(0.5000)
    """

    def __init__(
        self,
        loss: RegionLoss,
        view: LesionCells | OthersMasked = LesionCells(),  # noqa: B008 (frozen)
        weight: LesionWeight | None = None,
        *,
        lambda_lesions: float | int = 1.0,
        lambda_global: float | int = 1.0,
        lambda_false: float | int = 0.0,
        false_volume: float | int = 100.0,
    ) -> None:
        super().__init__()
        if not isinstance(loss, RegionLoss):
            expected = ", ".join(kind.__name__ for kind in get_args(RegionLoss))
            raise TypeError(f"loss must be one of {expected}, got {type(loss).__name__}")
        if not isinstance(view, LesionCells | OthersMasked):
            raise TypeError(f"view must be LesionCells or OthersMasked, got {type(view).__name__}")
        if weight is not None and not callable(weight):
            raise TypeError(f"weight must be a function such as weigh_by_volume, got {weight!r}")
        if loss.overlap.reduction != "mean":
            raise ValueError(f"loss must have reduction='mean', got {loss.overlap.reduction!r}")
        if loss.overlap.prepare.other_act is not None:
            raise ValueError(f"loss must have no other_act, got {loss.overlap.prepare.other_act!r}")
        check_weight(
            lambda_lesions=lambda_lesions, lambda_global=lambda_global, lambda_false=lambda_false
        )
        check_positive(false_volume=false_volume)
        if not (lambda_lesions or lambda_global or lambda_false):
            expected = "must be above 0 where `lambda_global=` and `lambda_false=` are 0"
            raise refusal("lambda_lesions", f"{expected}, got {lambda_lesions}")
        if lambda_false and loss.overlap.form != "min":
            expected = 'must be 0 unless loss has intersection="min" and no squared_pred'
            raise refusal("lambda_false", f"{expected}, got {lambda_false}")
        self.loss, self.view, self.weight = loss, view, weight
        self.lambda_lesions, self.lambda_global = lambda_lesions, lambda_global
        self.lambda_false, self.false_volume = lambda_false, false_volume

    def extra_repr(self) -> str:
        """What `print` shows of the settings."""
        names = ("view", "lambda_lesions", "lambda_global", "lambda_false", "false_volume")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def forward(
        self, input: Masks, target: Targets, regions: Regions | None = None
    ) -> Float[Tensor, ""]:
        """The loss of a batch.

        Args:
            input: Prediction, shape (B, channels, *spatial).
            target: Target, as `loss` takes it.
            regions: Number of the region of each voxel, whole numbers from 0 for the rest, not
                all of which need to occur, shape (B, 1, *spatial) for all channels, or
                (B, C, *spatial) for each channel that counts, as `LesionRegionsd` gives them.
                None to find them in the target, which takes longer than the loss.

        Returns:
            The loss, without unit, in float32 or wider, shape ().

        Raises:
            ValueError: If the shapes differ, a probability lies outside [0, 1], or a region has no
                whole number from 0.
        """
        check_rank(3, "(B, C, *spatial)", input=input, target=target)
        with torch.no_grad():
            numbers = self._regions(input, target) if regions is None else regions
            numbers, count = self._checked(numbers, input)
            picked = Picked(numbers, self._channels(input), count)
        input, logits = picked.beside(input)
        whole, image = self.loss.with_sums(input, target)
        own = region_sums(self.loss, picked, logits, target)
        there = (own.sizes[2].detach() > 0) & (torch.arange(count, device=input.device) > 0)[
            :, None
        ]
        rest = torch.stack(list(image)).unsqueeze(2) - _summed(own.sizes, there)
        seen = own
        if isinstance(self.view, OthersMasked):
            seen = self._with_rest(own, there, rest, input, target)
        lesions = self._mean(self._of_regions(seen), self._weights(own, there))
        return (
            self.lambda_lesions * lesions
            + self.lambda_global * whole
            + self.lambda_false * self._of_rest(rest)
        )

    def _with_rest(
        self, own: RegionSums, there: Tensor, rest: Tensor, input: Tensor, target: Tensor
    ) -> RegionSums:
        """The sums over each lesion and the rest."""
        if not isinstance(self.loss, SoftDiceCELoss):
            return own._replace(sizes=own.sizes + rest)
        image = image_entropy(self.loss, input, target, rest.dtype)
        entropy, counts = (
            part + whole.unsqueeze(1) - _summed(part, there)
            for part, whole in zip((own.entropy, own.counts), image, strict=True)
        )
        return own._replace(sizes=own.sizes + rest, entropy=entropy, counts=counts)

    def _of_regions(self, sums: RegionSums) -> PerRegion:
        """The loss of each region of each item and channel."""
        loss = self.loss.overlap.unreduced(*sums.sizes.unbind())
        if not isinstance(self.loss, SoftDiceCELoss):
            return loss
        entropy = sums.entropy / torch.where(sums.counts > 0, sums.counts, 1)
        return self.loss.lambda_dice * loss + self.loss.lambda_ce * entropy

    def _of_rest(self, rest: Tensor) -> Float[Tensor, ""]:
        """What false lesions cost, from the sums over the rest."""
        shared, size, _ = rest
        cost = torch.log1p((size - shared).clamp(min=0) / self.false_volume)
        return cost.sum() / max(1, cost.numel())

    def _weights(self, own: RegionSums, there: Tensor) -> PerRegion:
        """The weight of each lesion, 0 where there is none."""
        if self.weight is None:
            return there.to(own.sizes.dtype)
        weight = torch.where(there, self.weight(*own.size_and_peak()), 0)
        if should_validate(self.loss.overlap.prepare.validate, weight):
            wrong = weight[~((weight >= 0) & weight.isfinite())]
            if wrong.numel():
                expected = "must be at least 0 and finite for each lesion"
                raise refusal("weight", f"{expected}, got {wrong[0].item():g}")
        return weight

    def _mean(self, loss: PerRegion, weight: PerRegion) -> Float[Tensor, ""]:
        """The mean over lesions by weight, then over the items and channels that have any."""
        total = weight.sum(dim=1)
        has_any = total > 0
        summed = torch.where(weight > 0, weight * loss, 0).sum(dim=1)
        mean = torch.where(has_any, summed / torch.where(has_any, total, 1), 0)
        return mean.sum() / has_any.sum().clamp(min=1)

    def _regions(self, input: Tensor, target: Tensor) -> Tensor:
        """The regions that are found in the target."""
        return self.view.regions(self.loss.overlap.prepare(input, target)[1])

    def _channels(self, input: Tensor) -> int:
        """How many channels count."""
        channels = input.shape[1]
        return channels - int(self.loss.overlap.prepare.hides_background(channels))

    def _checked(self, regions: Tensor, input: Tensor) -> tuple[Tensor, int]:
        """The regions as int32, if they are such and fit to the input, and how many there are."""
        check_tensors(regions=regions)
        shapes = [(len(input), count, *input.shape[2:]) for count in (1, self._channels(input))]
        if tuple(regions.shape) not in shapes:
            expected = " or ".join(dict.fromkeys(map(str, shapes)))
            raise ValueError(f"regions must have shape {expected}, got {tuple(regions.shape)}")
        numbers = plain(regions)
        if not numbers.numel():
            return numbers.to(torch.int32), 1
        low, high = (bound.item() for bound in torch.aminmax(numbers))
        fractions = numbers.is_floating_point() and bool((numbers != numbers.floor()).any())
        if not 0 <= low <= high < _MOST or fractions:
            raise ValueError(
                f"regions must hold whole numbers from 0 for the rest, below {_MOST}, got values "
                f"in [{low:g}, {high:g}]"
            )
        return numbers.to(torch.int32), int(high) + 1


def _summed(sums: Tensor, there: Tensor) -> Tensor:
    """The sums of all lesions, (..., B, 1, C)."""
    return torch.where(there, sums, 0).sum(dim=-2, keepdim=True)
