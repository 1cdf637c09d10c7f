"""A loss of soft masks that sees every lesion, however small."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from softoverlap._checks import (
    check_positive,
    check_rank,
    check_tensors,
    check_weight,
    should_validate,
)
from softoverlap._types import Masks, Targets, plain
from softoverlap.lesion_losses.regions import LesionCells, OthersMasked
from softoverlap.losses import (
    MaskLoss,
    RegionSums,
    SoftDiceCELoss,
    SoftDiceLoss,
    SoftTverskyLoss,
    region_sums,
)

Regions = Shaped[Tensor, "batch region_channel *spatial"]
PerRegion = Float[Tensor, "batch regions channel"]
LesionWeight = Callable[[Tensor, Tensor], Tensor]
_TAKEN = SoftDiceLoss, SoftTverskyLoss, SoftDiceCELoss  # an IoU is a kind of the first


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
            activation and all else that is said of inputs; `reduction="mean"`.
        view: Where a lesion is judged: `LesionCells(reach)` or `OthersMasked()`.
        weight: Weight of each lesion, from its size in voxels and its highest probability, both of
            shape (B, regions, C): `weigh_by_volume`, `weigh_by_existence` or another function, at
            least 0; None for all alike.
        lambda_lesions: Weight of the lesions' part, at least 0.
        lambda_global: Weight of the whole image, at least 0.
        lambda_false: Weight of false lesions, at least 0.
        false_volume: Mass in voxels at which a false lesion costs log 2, above 0.

    Raises:
        TypeError: If `loss` is none of these, or `view` none of the two.
        ValueError: If an argument is out of range.

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
        loss: MaskLoss,
        view: LesionCells | OthersMasked = LesionCells(),  # noqa: B008 (frozen)
        weight: LesionWeight | None = None,
        *,
        lambda_lesions: float | int = 1.0,
        lambda_global: float | int = 1.0,
        lambda_false: float | int = 0.0,
        false_volume: float | int = 100.0,
    ) -> None:
        super().__init__()
        if not isinstance(loss, _TAKEN):
            expected = ", ".join(kind.__name__ for kind in _TAKEN)
            raise TypeError(f"loss must be one of {expected}, got {type(loss).__name__}")
        if not isinstance(view, LesionCells | OthersMasked):
            raise TypeError(f"view must be LesionCells or OthersMasked, got {type(view).__name__}")
        if loss.overlap.reduction != "mean":
            raise ValueError(f"loss must have reduction='mean', got {loss.overlap.reduction!r}")
        check_weight(
            lambda_lesions=lambda_lesions, lambda_global=lambda_global, lambda_false=lambda_false
        )
        check_positive(false_volume=false_volume)
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
            numbers = self._checked(numbers, input)
            count = int(numbers.max()) + 1 if numbers.numel() else 1
        sums = region_sums(self.loss, input, target, numbers, count)
        peak = None if self.weight is None else self._peaks(input, target, numbers, count)
        terms = _Terms.of(sums, self.view)
        lesions = self._mean(self._of_regions(terms.seen), terms.there, sums.sizes[2], peak)
        return (
            self.lambda_lesions * lesions
            + self.lambda_global * self._of_image(sums, input.ndim)
            + self.lambda_false * self._of_rest(terms.rest)
        )

    def _of_regions(self, sums: RegionSums) -> PerRegion:
        """The loss of each region of each item and channel."""
        loss = self.loss.overlap.unreduced(*sums.sizes.unbind())
        if not isinstance(self.loss, SoftDiceCELoss):
            return loss
        entropy = sums.entropy / torch.where(sums.counts > 0, sums.counts, 1)
        return self.loss.lambda_dice * loss + self.loss.lambda_ce * entropy

    def _of_image(self, sums: RegionSums, ndim: int) -> Float[Tensor, ""]:
        """The loss of the whole image, from what its regions add up to."""
        loss = self.loss.overlap.of_sums(sums.sizes.sum(dim=2).unbind(), ndim)
        if not isinstance(self.loss, SoftDiceCELoss):
            return loss
        count = sums.counts.sum()
        entropy = sums.entropy.sum() / torch.where(count > 0, count, 1)
        return self.loss.lambda_dice * loss + self.loss.lambda_ce * entropy

    def _of_rest(self, rest: Tensor) -> Float[Tensor, ""]:
        """What false lesions cost, from the sums over the rest."""
        shared, size, _ = rest
        cost = torch.log1p((size - shared).clamp(min=0) / self.false_volume)
        return cost.sum() / max(1, cost.numel())

    def _mean(
        self, loss: PerRegion, there: Tensor, size: PerRegion, peak: PerRegion | None
    ) -> Float[Tensor, ""]:
        """The mean over lesions by weight, then over the items and channels that have any."""
        weight = there.to(loss.dtype)
        if self.weight is not None and peak is not None:
            weight = torch.where(there, self.weight(size.detach(), peak), 0)
        total = weight.sum(dim=1)
        has_any = total > 0
        mean = torch.where(there, weight * loss, 0).sum(dim=1) / torch.where(has_any, total, 1)
        return torch.where(has_any, mean, 0).sum() / has_any.sum().clamp(min=1)

    @torch.no_grad()
    def _peaks(self, input: Tensor, target: Tensor, numbers: Tensor, count: int) -> PerRegion:
        """The highest probability of the target in each region."""
        truth = self.loss.overlap.prepare(input, target)[1].flatten(2)
        peaks = torch.zeros(*truth.shape[:2], count, dtype=truth.dtype, device=truth.device)
        places = numbers.flatten(2).expand(truth.shape)
        return peaks.scatter_reduce(2, places, truth, "amax").transpose(1, 2)

    def _regions(self, input: Tensor, target: Tensor) -> Tensor:
        """The regions that are found in the target."""
        return self.view.regions(self.loss.overlap.prepare(input, target)[1])

    def _checked(self, regions: Tensor, input: Tensor) -> Tensor:
        """The regions as int64, if they are such and fit to the input."""
        check_tensors(regions=regions)
        prepare = self.loss.overlap.prepare
        channels = input.shape[1] - int(input.shape[1] > 1 and not prepare.include_background)
        shapes = [(len(input), count, *input.shape[2:]) for count in (1, channels)]
        if tuple(regions.shape) not in shapes:
            expected = " or ".join(dict.fromkeys(map(str, shapes)))
            raise ValueError(f"regions must have shape {expected}, got {tuple(regions.shape)}")
        numbers = plain(regions)
        whole = numbers.to(torch.int64)
        if not should_validate(prepare.validate, numbers):
            return whole
        if bool((whole != numbers).any() | (whole < 0).any()):
            raise ValueError(
                "regions must hold whole numbers from 0 for the rest, "
                f"got values in [{numbers.min().item():g}, {numbers.max().item():g}]"
            )
        return whole


class _Terms(NamedTuple):
    """Which regions hold a lesion, the sums by which each is judged, the sizes of the rest."""

    there: Tensor
    seen: RegionSums
    rest: Tensor

    @classmethod
    def of(cls, sums: RegionSums, view: LesionCells | OthersMasked) -> _Terms:
        size = sums.sizes[2].detach()
        first = torch.arange(size.shape[1], device=size.device).view(-1, 1) == 0
        there = (size > 0) & ~first
        rest = RegionSums(*(torch.where(there, 0, each).sum(dim=-2, keepdim=True) for each in sums))
        seen = RegionSums(*(view.seen(*pair) for pair in zip(sums, rest, strict=True)))
        return cls(there, seen, rest.sizes)
