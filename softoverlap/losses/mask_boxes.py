"""Losses of aligned soft masks and boxes: `1 - overlap / best`, and a term that draws boxes near.

The overlap is the exact one of `softoverlap.overlaps`, with gradients to the boxes (to
fit a box to a lesion) and to the masks (to fit a mask to a box). A real lesion fills about a third
of its tight box, so the best box has a Dice well below 1: `best` says how high it can get.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import (
    check_boxes,
    check_probabilities,
    check_tensors,
    check_weight,
)
from softoverlap._types import Boxes, accumulation_dtype, plain, score_dtype
from softoverlap.losses.reduction import ReducedLoss
from softoverlap.mask_boxes import SummedVolume, as_summed_volume
from softoverlap.overlaps import (
    AnyMasks,
    MaskBoxOverlap,
    distance_penalty,
    mask_box_dice,
    mask_box_iou,
)

PerBox = Float[Tensor, "boxes"]


class MaskBoxLoss(ReducedLoss):
    """What the losses of masks and boxes share; use one of its subclasses.

    With `q = overlap / best` and the distance d in [0, 1] the loss is
    `(1 - q) · (1 + distance_weight · d)`: `1 - q` and a distance term that fades as the box comes
    to fit, since the centre of the best box is not the centre of mass.

    Args:
        distance_weight: Weight of the distance term, at least 0; 0 leaves it out.
        empty: Overlap of an empty mask with a box without volume, in [0, 1].
    """

    overlap: MaskBoxOverlap
    takes_masks = True
    """Tells a detector that it compares boxes with lesions, and not with their boxes."""

    def __init__(
        self,
        reduction: str = "mean",
        *,
        distance_weight: float = 1.0,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(reduction, validate=validate)
        check_weight(distance_weight=distance_weight)
        self.distance_weight = distance_weight
        self.overlap = self.overlap.with_(empty=empty)

    def forward(
        self,
        masks: AnyMasks,
        boxes: Boxes,
        weight: PerBox | None = None,
        *,
        best: PerBox | None = None,
    ) -> Float[Tensor, "*reduced"]:
        """The loss of mask i and box i.

        Args:
            masks: Probabilities, shape (K, *spatial), or K lesions, or a `SummedVolume`.
            boxes: Minima, then maxima, in voxels, shape (K, 2 * ndim).
            weight: Factor of each box's loss, at least 0, shape (K,); the mean is still over K.
            best: Highest overlap that any box has with each mask, in [0, 1], shape (K,), as
                `softoverlap.anchors.best_box` finds it; by default 1. It gets no gradient;
                a mask whose best is 0 is not divided.

        Returns:
            The loss, without unit, at least 0; shape (K,) for `reduction="none"`, else ().

        Raises:
            ValueError: If shapes disagree, a value is out of range or a box is inverted.
        """
        check_boxes(boxes=boxes, validate=self.validate)
        if isinstance(masks, Tensor) and masks.ndim != 1 + boxes.shape[1] // 2:
            raise ValueError(
                f"masks must have shape (K, *spatial) with {boxes.shape[1] // 2} spatial axes for "
                f"boxes of shape {tuple(boxes.shape)}, got {tuple(masks.shape)}"
            )
        volume = _volume(masks, boxes, self.validate)
        wide = _upright(plain(boxes).to(accumulation_dtype(boxes)))
        score = self.overlap.pairs(volume, wide, validate=False)
        shortfall = 1 - _share_of_best(score, best, self.validate)
        loss = shortfall
        if self.distance_weight:
            distance = distance_penalty(volume, wide).to(loss.dtype)
            loss = shortfall * (1 + self.distance_weight * distance)
        return self.reduced(loss, weight).to(score_dtype(torch.empty(0, dtype=volume.dtype), boxes))


class MaskBoxDiceLoss(MaskBoxLoss):
    """1 - soft Dice of a mask and a box, relative to the best box; boxes that miss come nearer.

    With `best` it is 0 exactly at a best box. The distance term is `distance_weight · (1 - q) · d`:
    the share q of the best overlap, and the squared distance d of the box's centre from the mask's
    centre of mass over the squared diagonal of the box around both (around the box and all voxels
    above 0). A box that misses has q = 0 and a gradient by d alone.

    On a predicted mask and a known box (weak supervision) the loss is smallest for the filled box:
    a network that learns from it alone fills boxes. Give it an image term or a size prior, and
    `distance_weight=0`, since the centre of mass of a faint map has steep gradients.

    An empty mask has the loss 1 with every box, without a gradient to the box, and `1 - empty`
    with a box without volume. An inverted box that is not looked at counts as flat.

    References:
        Milletari et al., V-Net, https://arxiv.org/abs/1606.04797
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287 (the distance)

    Examples:
        >>> import torch
        >>> from softoverlap.anchors import best_box
        >>> mask = torch.tensor([0.0, 0.2, 1.0, 0.9, 0.1])
        >>> box, score, _ = best_box(mask)
        >>> boxes = torch.stack([box, torch.tensor([1.0, 4.0]), torch.tensor([0.0, 1.0])])
        >>> masks, best = mask.expand(3, 5), torch.full((3,), score)
        >>> print(MaskBoxDiceLoss("none")(masks, boxes.float(), best=best))
        tensor([0.0000, 0.1084, 1.2321])
    """

    overlap = mask_box_dice


class MaskBoxIoULoss(MaskBoxLoss):
    """1 - soft IoU of a mask and a box, relative to the best box; boxes that miss come nearer.

    Everything else is as in `MaskBoxDiceLoss`; `best` is then the best IoU.

    References:
        Yu et al., UnitBox, https://arxiv.org/abs/1608.01471
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287 (the distance)

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[0.0, 0.5, 1.0, 0.0]])
        >>> MaskBoxIoULoss()(mask, torch.tensor([[1.0, 3.0]]), best=torch.tensor([0.75]))
        tensor(0.)
    """

    overlap = mask_box_iou


def _volume(masks: AnyMasks, boxes: Tensor, validate: bool | None) -> SummedVolume:
    """The tables; no lesions at all have tables without a row."""
    if not isinstance(masks, Tensor | SummedVolume) and not len(masks):
        masks = torch.zeros(0, *[1] * (boxes.shape[1] // 2), device=boxes.device)
    volume = as_summed_volume(masks, validate=validate)
    check_boxes(boxes=boxes, ndim=volume.ndim, validate=False)
    if len(volume) != len(boxes):
        raise ValueError(f"masks and boxes must be as many, got {len(volume)} and {len(boxes)}")
    return volume


def _upright(boxes: Tensor) -> Tensor:
    """An inverted edge becomes flat."""
    low, high = boxes.chunk(2, dim=1)
    return torch.cat([low, torch.where(high < low, low, high)], dim=1)


def _share_of_best(overlap: Tensor, best: Tensor | None, validate: bool | None) -> Tensor:
    if best is None:
        return overlap
    check_tensors(best=best)
    if tuple(best.shape) != tuple(overlap.shape):
        raise ValueError(
            f"best must have shape {tuple(overlap.shape)}, one a box, got {tuple(best.shape)}"
        )
    check_probabilities(best=best, validate=validate)
    best = plain(best).detach().to(overlap)
    return (overlap / torch.where(best > 0, best, 1)).clamp(max=1)
