"""Overlap of soft masks and oriented boxes in the plane, exact and with gradients to both.

The mass in a turned box is an integral along its sides, so that the cost grows with the length of
the mask's sides, not with the area of the box. Masks come first, and the box is the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from softoverlap import rotated, rotated_hulls, scores
from softoverlap._checks import check_rotated_boxes
from softoverlap._types import Boxes, plain
from softoverlap.mask_boxes import SummedVolume, as_summed_volume, meeting_pairs, polygon_masses
from softoverlap.overlaps._mask_box_scores import (
    Aligned,
    AnyMasks,
    Pairwise,
    Ratio,
    check_as_many,
    result_dtype,
    within_reach,
)
from softoverlap.overlaps.overlap import Overlap, Pairs


class MaskRotatedBoxOverlap(Overlap):
    """Overlap of a soft mask and an oriented box.

    Args:
        definition: A score from the mass of the mask in the box, the area of the box and the size
            of the mask; `empty` is one of its parameters.
        facts: What is said of every `Overlap`.
    """

    def __init__(self, definition: Ratio, **facts: Any) -> None:
        super().__init__(definition, symmetric=False, **facts)

    def __call__(
        self,
        masks: AnyMasks,
        boxes: Boxes,
        *,
        validate: bool | None = None,
        **parameters: float,
    ) -> Pairwise:
        """Score all pairs of masks and boxes.

        Args:
            masks: Probabilities, shape (K, H, W), or K lesions of two axes, or a `SummedVolume` to
                reuse.
            boxes: `(cx, cy, w, h, angle)` in voxels, radians counter-clockwise from axis 0 to
                axis 1, shape (N, 5).
            parameters: Of the overlap, by name.
            empty: Score where the mask is empty and the box has no area.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (K, N); of mask i and box i by `.pairs`.

        Raises:
            ValueError: If shapes disagree, a mask has not two axes or comes round, a probability
                lies outside [0, 1], an edge is negative or an argument is out of range.
        """
        volume, moved = _prepared(masks, boxes, validate)
        return _of_all(self.defined(parameters), volume, moved, result_dtype(volume, boxes))

    @property
    def pairs(self) -> MaskRotatedBoxPairs:
        """The aligned form."""
        return self._pairs

    def _aligned(self) -> MaskRotatedBoxPairs:
        return MaskRotatedBoxPairs(self)

    def _of_pairs(
        self, masks: AnyMasks, boxes: Tensor, validate: bool | None, parameters: Mapping[str, Any]
    ) -> Tensor:
        ratio = self.defined(parameters, self.pairs.__name__)
        volume, moved = _prepared(masks, boxes, validate)
        check_as_many(volume, moved)
        rows = torch.arange(moved.shape[0], device=moved.device)
        return _of_rows(ratio, volume, moved, rows, rows).to(result_dtype(volume, boxes))


class MaskRotatedBoxPairs(Pairs):
    """Overlap of mask i and oriented box i."""

    overlap: MaskRotatedBoxOverlap

    def __call__(
        self,
        masks: AnyMasks,
        boxes: Boxes,
        *,
        validate: bool | None = None,
        **parameters: float,
    ) -> Aligned:
        """Score mask i and box i.

        Args:
            masks: Probabilities, shape (N, H, W), or N lesions, or a `SummedVolume`.
            boxes: As many, `(cx, cy, w, h, angle)` in voxels, shape (N, 5).
            parameters: Of the overlap, by name.
            empty: Score where the mask is empty and the box has no area.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N,).

        Raises:
            ValueError: As in the form for all pairs, or if masks and boxes are not as many.
        """
        return self.overlap._of_pairs(masks, boxes, validate, parameters)


def mask_rotated_box_mass(
    masks: AnyMasks, boxes: Boxes, *, validate: bool | None = None
) -> Pairwise:
    """Mass of each mask inside each oriented box: the integral of the probability over the box.

    Exact up to the rounding of the box's edges (of billions of voxels, digits are lost), and
    differentiable in the masks and in all five parameters. Where a side of the box lies on a voxel
    edge, its derivative is the mean of the two one-sided ones.

    Args:
        masks: Probabilities, shape (K, H, W), or K lesions of two axes, or a `SummedVolume`.
        boxes: `(cx, cy, w, h, angle)` in voxels, radians counter-clockwise from axis 0 to axis 1,
            shape (N, 5).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Mass in voxels, from 0 to the size of the mask, shape (K, N), in float32 or wider.

    Raises:
        ValueError: If shapes disagree, a mask has not two axes or comes round, a probability lies
            outside [0, 1] or an edge is negative.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 4, 4)
        >>> boxes = torch.tensor([[2.0, 2.0, 2.0, 1.0, 0.5], [4.0, 2.0, 2.0, 2.0, torch.pi / 4]])
        >>> mask_rotated_box_mass(mask, boxes)
        tensor([[2., 2.]])
    """
    volume, moved = _prepared(masks, boxes, validate)
    dtype = result_dtype(volume, boxes, torch.float32)
    return _of_all(lambda mass, area, size: mass, volume, moved, dtype)


@partial(MaskRotatedBoxOverlap, zero_apart=True)
def mask_rotated_box_dice(
    mass: Tensor, area: Tensor, size: Tensor, *, empty: float = 1.0
) -> Tensor:
    """Soft Dice score of masks and oriented boxes: `2 · mass / (size + area)`.

    Examples:
        >>> import torch
        >>> mask, box = torch.ones(1, 4, 4), torch.tensor([[2.0, 2.0, 4.0, 4.0, torch.pi / 4]])
        >>> mask_rotated_box_dice(mask, box), mask_rotated_box_dice.pairs(mask, box)
        (tensor([[0.8284]]), tensor([0.8284]))
    """
    return scores.dice(mass, area, size, empty=empty)


@partial(MaskRotatedBoxOverlap, zero_apart=True)
def mask_rotated_box_iou(mass: Tensor, area: Tensor, size: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft IoU of masks and oriented boxes: `mass / (size + area - mass)`.

    Examples:
        >>> import torch
        >>> mask, box = torch.ones(1, 4, 4), torch.tensor([[2.0, 2.0, 4.0, 4.0, torch.pi / 4]])
        >>> mask_rotated_box_iou(mask, box), mask_rotated_box_iou.pairs(mask, box)
        (tensor([[0.7071]]), tensor([0.7071]))
    """
    return scores.iou(mass, area, size, empty=empty)


mask_rotated_box_pair_dice = mask_rotated_box_dice.pairs
mask_rotated_box_pair_iou = mask_rotated_box_iou.pairs


def _prepared(masks: AnyMasks, boxes: Tensor, validate: bool | None) -> tuple[SummedVolume, Tensor]:
    """Tables of masks in the plane, and the boxes as plain float64; both checked."""
    check_rotated_boxes(boxes=boxes, parameters=5, validate=validate)
    if isinstance(masks, Tensor) and masks.ndim != 3:
        raise ValueError(
            f"masks must have shape (K, H, W) for oriented boxes, got {tuple(masks.shape)}"
        )
    volume = as_summed_volume(masks, validate=validate)
    if volume.ndim != 2 or any(volume.turns):
        raise ValueError(
            "masks must have two axes that do not come round for oriented boxes, got "
            f"{volume.ndim} axes, which come round after {volume.turns or 'no'} voxels"
        )
    if boxes.device != volume.device:
        raise ValueError(
            f"boxes must be on {volume.device}, where the masks are, got {boxes.device}"
        )
    return volume, within_reach(plain(boxes))


def _of_all(ratio: Ratio, volume: SummedVolume, boxes: Tensor, dtype: torch.dtype) -> Tensor:
    """The ratio of all pairs; those that don't meet have 0 without being read."""
    masks, count = volume.starts.shape[0], boxes.shape[0]  # no len(), which a graph forgets
    result = torch.zeros(masks * count, dtype=dtype, device=volume.device)
    for rows, columns in meeting_pairs(volume, rotated.circumscribed(boxes)):
        score = _of_rows(ratio, volume, boxes, rows, columns).to(dtype)
        result.index_put_((rows * count + columns,), score)
    return result.view(masks, count)


def _of_rows(
    ratio: Ratio, volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor
) -> Aligned:
    """The ratio of masks and boxes by their numbers, float64."""
    mass = polygon_masses(volume, rotated_hulls.corners(boxes), rows, columns)
    return ratio(mass, rotated.volume(boxes)[columns], volume.sizes[rows])
