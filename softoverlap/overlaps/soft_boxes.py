"""Overlap of soft boxes, whose faces are uncertain: IoU, Dice, and what they share with others.

Both are those of the soft masks that the boxes are: on each axis the lesser probability is shared,
so the score is 1 exactly where both are equal, and with a box without uncertainty it is that of
`mask_box_iou` and `mask_box_dice`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import scores, soft_box
from softoverlap._checks import check_boxes, check_probabilities, check_rank
from softoverlap._types import Boxes, LesionMasks, OtherBoxes, plain, score_dtype
from softoverlap.overlaps._extremes import Layout
from softoverlap.overlaps.box_family import BoxOverlap, Parameters, Terms, score_of_nothing


class SoftBoxOverlap(BoxOverlap):
    """Overlap of soft boxes; of boxes without uncertainty, in up to 3D, it is that of boxes."""

    _layout = Layout(0, False, 480)  # no other boxes: rows are always checked

    def __call__(
        self,
        pred: Boxes,
        target: OtherBoxes,
        *,
        block_size: int | None = None,
        validate: bool | None = None,
        **parameters: float | None,
    ) -> Float[Tensor, "boxes others"]:
        """Score all pairs of soft boxes.

        Args:
            pred: Soft boxes as `soft_boxes` makes them, shape (N, 4 * ndim) in 2D and 3D, or
                boxes without uncertainty, shape (N, 2 * ndim) in 1D to 3D.
            target: Same layout, shape (M, 4 * ndim) or (M, 2 * ndim).
            parameters: Of the overlap, by name.
            block_size: Rows of `pred` that are scored at once, as in `box_iou`.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N, M); of aligned boxes by `.pairs`.

        Raises:
            ValueError: If a shape is wrong, a value is not finite, a deviation is negative or a
                maximum lies below its minimum by more than both deviations.
        """
        return self._of_all(pred, target, block_size, validate, parameters)

    def check(self, validate: bool | None, parameters: Parameters, /, **boxes: Any) -> None:
        """Refuse what is not two sets of soft boxes, or of boxes, of one layout."""
        (first, pred), (second, target) = boxes.items()
        check_boxes(**{first: pred}, validate=False)
        if soft_box.is_soft(pred) or pred.shape[1] > 6:
            soft_box.check_soft_boxes(**{first: pred}, validate=validate)
            check_boxes(**{second: target}, ndim=pred.shape[1] // 2, validate=False)
            soft_box.check_soft_boxes(**{second: target}, validate=validate)
        else:
            super().check(validate, parameters, **boxes)


@partial(SoftBoxOverlap, scale_free=True, zero_apart=False)
def soft_box_iou(a: Tensor, b: Tensor) -> Terms:
    """Intersection over union of soft boxes.

    References:
        Hall et al., Probabilistic object detection, https://arxiv.org/abs/1811.10800 (the boxes)

    Examples:
        >>> import torch
        >>> from softoverlap import soft_boxes
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> sure, unsure = soft_boxes(box), soft_boxes(box, 0.5)
        >>> soft_box_iou(unsure, torch.cat([sure, unsure]))
        tensor([[0.6813, 1.0000]])
        >>> soft_box_iou.pairs(unsure, sure)
        tensor([0.6813])
    """
    shared, *sizes = soft_box.shared_and_own(a, b)
    return scores.iou(shared, *sizes, empty=score_of_nothing(a, b, *sizes)), []


@partial(SoftBoxOverlap, scale_free=True, zero_apart=False)
def soft_box_dice(a: Tensor, b: Tensor) -> Terms:
    """Dice score of soft boxes: twice the intersection over the sum of the volumes.

    References:
        Hall et al., Probabilistic object detection, https://arxiv.org/abs/1811.10800 (the boxes)

    Examples:
        >>> import torch
        >>> from softoverlap import soft_boxes
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> sure, unsure = soft_boxes(box), soft_boxes(box, 0.5)
        >>> soft_box_dice(unsure, torch.cat([sure, unsure]))
        tensor([[0.8105, 1.0000]])
        >>> soft_box_dice.pairs(unsure, sure)
        tensor([0.8105])
    """
    shared, *sizes = soft_box.shared_and_own(a, b)
    return scores.dice(shared, *sizes, empty=score_of_nothing(a, b, *sizes)), []


soft_box_pair_iou, soft_box_pair_dice = soft_box_iou.pairs, soft_box_dice.pairs


def soft_box_mass(
    pred: Boxes, boxes: Shaped[Tensor, "others other_coords"], *, validate: bool | None = None
) -> Float[Tensor, "boxes others"]:
    """Mass of each soft box inside each box: the integral of its probability, in closed form.

    Args:
        pred: Soft boxes, shape (N, 4 * ndim).
        boxes: Minima, then maxima, shape (M, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Mass in units of the coordinates to the power ndim, at least 0, shape (N, M), in float32 or
        wider.

    Raises:
        ValueError: If a shape is wrong, a value is not finite or a box inverted.

    Examples:
        >>> import torch
        >>> from softoverlap import soft_boxes
        >>> soft = soft_boxes(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), 0.5)
        >>> soft_box_mass(soft, torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 9.0, 4.0]]))
        tensor([[12.9677,  0.7183]])
    """
    soft_box.check_soft_boxes(pred=pred, validate=validate)
    check_boxes(boxes=boxes, ndim=pred.shape[1] // 4, validate=validate)
    sure = plain(boxes)
    mass = soft_box.intersection(plain(pred)[:, None], torch.cat([sure, sure], dim=1)[None])
    return mass.to(torch.promote_types(score_dtype(pred, boxes), torch.float32))


def mask_soft_box_mass(
    masks: LesionMasks, boxes: Boxes, *, validate: bool | None = None
) -> Float[Tensor, "lesions boxes"]:
    """Mass of each mask inside each soft box: Σ of its values times the box's probability.

    It is the mean mass inside the box as one rater draws it. No mask of a soft box is made: the
    probability in a voxel is a product over the axes, which are summed one after the other.

    Args:
        masks: Probabilities, shape (K, *spatial).
        boxes: Soft boxes in voxels, shape (N, 4 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Mass in voxels, from 0 to the size of the mask, shape (K, N), in float32 or wider.

    Raises:
        ValueError: If a shape is wrong, a probability lies outside [0, 1], or these are no soft
            boxes.

    Examples:
        >>> import torch
        >>> from softoverlap import soft_boxes
        >>> soft = soft_boxes(torch.tensor([[0.0, 0.0, 1.0, 2.0]]), 0.5)
        >>> mask_soft_box_mass(torch.tensor([[[0.0, 0.5, 1.0]]]), soft)
        tensor([[0.4090]])
    """
    check_rank(2, "(K, *spatial)", masks=masks)
    check_probabilities(masks=masks, validate=validate)
    soft_box.check_soft_boxes(boxes=boxes, validate=validate)
    shares = soft_box.voxel_shares(plain(boxes), masks.shape[1:])
    mass = torch.einsum("...v,nv->...n", plain(masks).to(torch.float64), shares.pop())
    for share in reversed(shares):
        mass = torch.einsum("...vn,nv->...n", mass, share)
    return mass.to(torch.promote_types(score_dtype(masks, boxes), torch.float32))
