"""Projection loss: a mask casts the same shadow on every axis as its box."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._checks import check_boxes, check_probabilities, check_rank, check_same_rows
from softoverlap._types import Boxes, LesionMasks, accumulation_dtype, plain
from softoverlap.losses.reduction import ReducedLoss

PerBox = Float[Tensor, "boxes"]


class BoxedMaskLoss(ReducedLoss):
    """What the losses of a mask that has only a box share; use one of its subclasses."""

    def forward(
        self, masks: LesionMasks, boxes: Boxes, weight: PerBox | None = None
    ) -> Float[Tensor, "*reduced"]:
        """The loss of mask i and box i.

        Args:
            masks: Probabilities, shape (K, *spatial); all of a map counts.
            boxes: Minima, then maxima, in voxels of the masks, shape (K, 2 * ndim).
            weight: Factor of each box's loss, at least 0, shape (K,); the mean is still over K.

        Returns:
            The loss, without unit, at least 0, in float32 or wider; shape (K,) for
            `reduction="none"`, else ().

        Raises:
            ValueError: If shapes disagree, a value is out of range or a box is inverted.
        """
        return self.reduced(self._loss(*checked_pairs(masks, boxes, self.validate)), weight)

    def _loss(self, masks: Tensor, boxes: Tensor) -> PerBox:
        """The loss of each mask, of one floating type with its box."""
        raise NotImplementedError


class BoxProjectionLoss(BoxedMaskLoss):
    """How far the shadows of a mask on the axes are from those of its box.

    The shadow on an axis is the maximum over all voxels of each layer across it. The box's is that
    of its coverage: the share of each voxel that the box fills, so real-valued boxes count exactly.
    The loss is the mean over the axes of `1 - 2 Σ m·b / (Σ m² + Σ b²)`.

    It asks for one full voxel in each layer of the box and for nothing outside: the filled box has
    the loss 0 and so has, for instance, its diagonal. By itself it doesn't say what lies within
    the box; give it an image term (`PairwiseAffinityLoss`) or a size prior (`SizePriorLoss`).

    References:
        Tian et al., BoxInst, https://arxiv.org/abs/2012.02310

    Examples:
        >>> import torch
        >>> box, mask = torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.zeros(3, 4, 4)
        >>> mask[0, 1:3, 1:3] = 1  # the filled box
        >>> mask[1] = torch.diag(torch.tensor([0.0, 1.0, 1.0, 0.0]))
        >>> mask[2, 1, 1:3] = 1  # one row
        >>> BoxProjectionLoss("none")(mask, box.expand(3, 4))
        tensor([0.0000, 0.0000, 0.1667])
    """

    def _loss(self, masks: Tensor, boxes: Tensor) -> PerBox:
        loss = torch.zeros_like(boxes[:, 0])
        targets = projections(box_coverage(boxes, tuple(masks.shape[1:])))
        for axis, target in enumerate(targets):
            others = [a + 1 for a in range(len(targets)) if a != axis]
            shadow = _highest(masks, others) if others else masks
            dice = scores.dice(
                (shadow * target).sum(dim=1),
                (shadow * shadow).sum(dim=1),
                (target * target).sum(dim=1),
            )
            loss = loss + (1 - dice) / len(targets)
        return loss


def checked_pairs(
    masks: Tensor, boxes: Tensor, validate: bool | None
) -> tuple[Float[Tensor, "lesions *spatial"], Float[Tensor, "boxes coords"]]:
    """Masks and their boxes in one dtype, float32 or wider, after a look at both."""
    check_rank(2, "(K, *spatial)", masks=masks)
    check_boxes(boxes=boxes, validate=False)
    if masks.ndim != 1 + boxes.shape[1] // 2:
        raise ValueError(
            f"masks must have shape (K, *spatial) with {boxes.shape[1] // 2} spatial axes, one a "
            f"box, for boxes of shape {tuple(boxes.shape)}, got {tuple(masks.shape)}"
        )
    check_boxes(boxes=boxes, validate=validate)
    check_same_rows(masks=masks, boxes=boxes)
    check_probabilities(masks=masks, validate=validate)
    dtype = accumulation_dtype(masks, boxes)
    return plain(masks).to(dtype), plain(boxes).to(dtype)


def box_coverage(
    boxes: Float[Tensor, "boxes coords"], spatial: tuple[int, ...]
) -> list[Float[Tensor, "boxes voxels"]]:
    """For each axis the share of every layer of voxels that lies between a box's faces."""
    shares = []
    for low, high, side in zip(*geometry.split(boxes), spatial, strict=True):
        edge = torch.arange(side, dtype=boxes.dtype, device=boxes.device)
        shared = torch.minimum(high[:, None], edge + 1) - torch.maximum(low[:, None], edge)
        shares.append(torch.maximum(shared, shared.new_zeros(())))  # half of the gradient at 0
    return shares


def projections(shares: list[Tensor]) -> list[Float[Tensor, "boxes voxels"]]:
    """The shadows of the product of these shares: each times the highest of the others."""
    shadows = []
    for axis, share in enumerate(shares):
        for other, its_share in enumerate(shares):
            if other != axis:
                share = share * _highest(its_share, [1], keepdim=True)
        shadows.append(share)
    return shadows


def _highest(values: Tensor, dim: list[int], *, keepdim: bool = False) -> Tensor:
    """The highest value along some axes, 0 where they are without voxels."""
    over = values.amax if values.numel() else values.sum
    return over(dim=dim, keepdim=keepdim)
