"""What a box does not say about the mask in it: alike neighbours belong together; a usual size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import (
    check_positive,
    check_same_shape,
    check_threshold,
    should_validate,
)
from softoverlap._types import Boxes, LesionMasks, plain
from softoverlap.losses.projection import BoxedMaskLoss, checked_pairs
from softoverlap.losses.reduction import ReducedLoss

PerBox = Float[Tensor, "boxes"]


class PairwiseAffinityLoss(ReducedLoss):
    """Neighbouring voxels of alike intensity should have the same label.

    An edge joins two voxels that touch by face, edge or corner (8 neighbours in 2D, 26 in 3D), or
    that are `dilation` voxels apart in these directions. Its affinity is
    `exp(-|difference of intensity| / scale)`. The loss is the mean of
    `-log(p·q + (1 - p)·(1 - q))` over the edges with an affinity of at least `threshold` and the
    centre of at least one of the two voxels in the box; 0 where there is none. The logarithm ends
    at the rounding error of the type, beyond which there is no gradient.

    All voxels of one label have the loss 0: it needs another loss beside it that says what is
    lesion and what is background, such as `BoxProjectionLoss`. There is no gradient to images or
    boxes.

    Args:
        scale: Difference of intensity at which the affinity is 1/e, above 0, in the unit of the
            images.
        threshold: Least affinity of edges that count, in (0, 1].
        dilation: Distance of neighbours in voxels, at least 1.

    References:
        Tian et al., BoxInst, https://arxiv.org/abs/2012.02310

    Examples:
        >>> import torch
        >>> image, box = torch.tensor([[0.0, 5.0, 5.0, 0.0]]), torch.tensor([[1.0, 3.0]])
        >>> PairwiseAffinityLoss()(torch.tensor([[0.0, 1.0, 1.0, 0.0]]), image, box)
        tensor(0.)
        >>> PairwiseAffinityLoss()(torch.tensor([[0.0, 0.5, 1.0, 0.0]]), image, box)
        tensor(0.6931)
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        scale: float = 1.0,
        threshold: float = 0.3,
        dilation: int = 1,
        validate: bool | None = None,
    ) -> None:
        super().__init__(reduction, validate=validate)
        check_positive(scale=scale)
        check_threshold(threshold=threshold)
        if dilation < 1:
            raise ValueError(f"dilation must be at least 1, got {dilation}")
        self.scale = scale
        self.threshold = threshold
        self.dilation = dilation

    def forward(
        self,
        masks: LesionMasks,
        images: Shaped[Tensor, "lesions *spatial"],
        boxes: Boxes,
        weight: PerBox | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss of mask i on image i in box i.

        Args:
            masks: Probabilities, shape (K, *spatial).
            images: Intensities, same shape.
            boxes: Minima, then maxima, in voxels of the masks, shape (K, 2 * ndim).
            weight: Factor of each box's loss, at least 0, shape (K,); the mean is still over K.

        Returns:
            The loss, without unit, at least 0, in float32 or wider; shape (K,) for
            `reduction="none"`, else ().

        Raises:
            ValueError: If shapes disagree, a value is out of range or a box is inverted.
        """
        masks_, boxes_ = checked_pairs(masks, boxes, self.validate)
        check_same_shape(masks=masks, images=images)
        if should_validate(self.validate, images) and not torch.isfinite(images).all():
            raise ValueError("images must hold finite intensities, got NaN or infinity")
        images_ = plain(images).detach().to(masks_.dtype)
        inside = _centres_inside(boxes_.detach(), tuple(masks.shape[1:]))
        total = masks_.flatten(1).sum(dim=1) * 0  # attached, whatever counts
        count = torch.zeros(len(masks_), dtype=torch.int64, device=masks_.device)
        for first, second in _neighbours(masks_.ndim - 1, self.dilation):
            affinity = torch.exp(-(images_[first] - images_[second]).abs() / self.scale)
            counts = (affinity >= self.threshold) & (inside[first] | inside[second])
            disagreement = torch.where(counts, _disagreement(masks_[first], masks_[second]), 0)
            total = total + disagreement.flatten(1).sum(dim=1)
            count = count + counts.flatten(1).sum(dim=1)
        loss = total / count.clamp(min=1)
        return self.reduced(loss, weight)


class SizePriorLoss(BoxedMaskLoss):
    """The share of its box that a mask fills should lie in a range; quadratic outside.

    The share is the size of the mask (Σ probability) over the volume of the box. Below `low` the
    loss is `(low - share)²`, above `high` `(share - high)²`, between them 0, and 0 for a box
    without volume. By itself it says nothing about where the mask lies; all of a map counts, so
    take the map inside its box.

    Args:
        low: Least share, at least 0.
        high: Greatest share, at least `low`.

    References:
        Kervadec et al., Constrained-CNN losses for weakly supervised segmentation,
        https://arxiv.org/abs/1805.04628

    Examples:
        >>> import torch
        >>> mask, box = torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]])
        >>> SizePriorLoss(0.3, 0.6)(mask, box)
        tensor(0.1600)
    """

    def __init__(
        self, low: float, high: float, reduction: str = "mean", *, validate: bool | None = None
    ) -> None:
        super().__init__(reduction, validate=validate)
        if not 0 <= low <= high < float("inf"):
            raise ValueError(f"low and high must satisfy 0 <= low <= high, got {low} and {high}")
        self.low = low
        self.high = high

    def _loss(self, masks: Tensor, boxes: Tensor) -> PerBox:
        volume = geometry.volume(boxes)
        solid = torch.stack(geometry.edges(boxes)).gt(0).all(dim=0)
        share = masks.flatten(1).sum(dim=1) / torch.where(solid, volume, 1)
        outside = (self.low - share).clamp(min=0) + (share - self.high).clamp(min=0)
        return torch.where(solid, outside**2, 0)


def _disagreement(p: Tensor, q: Tensor) -> Tensor:
    """-log of the probability that two independent labels agree."""
    agreement = p * q + (1 - p) * (1 - q)
    return -torch.log(agreement.clamp(min=torch.finfo(p.dtype).eps))


def _centres_inside(boxes: Tensor, spatial: tuple[int, ...]) -> Bool[Tensor, "boxes *spatial"]:
    """Voxels whose centre lies in the box."""
    ndim = len(spatial)
    inside = torch.ones(len(boxes), *spatial, dtype=torch.bool, device=boxes.device)
    for axis, side in enumerate(spatial):
        centre = torch.arange(side, dtype=boxes.dtype, device=boxes.device) + 0.5
        between = (centre >= boxes[:, axis, None]) & (centre < boxes[:, axis + ndim, None])
        inside = inside & between.view(len(boxes), *[1] * axis, side, *[1] * (ndim - 1 - axis))
    return inside


def _neighbours(ndim: int, dilation: int) -> Iterator[tuple[tuple[slice, ...], ...]]:
    """Slices of (K, *spatial) that put each voxel beside one neighbour; each pair once."""
    every = slice(None)
    for step in product((-1, 0, 1), repeat=ndim):
        if step <= (0,) * ndim:
            continue
        first = [slice(dilation, None) if s < 0 else slice(None, -dilation) for s in step]
        second = [slice(None, -dilation) if s < 0 else slice(dilation, None) for s in step]
        yield tuple(
            (every, *(edge if s else every for edge, s in zip(side, step, strict=True)))
            for side in (first, second)
        )
