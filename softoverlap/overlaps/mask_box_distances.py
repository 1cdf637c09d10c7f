"""Overlap of a soft mask and a box that also counts their distance: every box is ranked.

The conventions are those of `softoverlap.overlaps.mask_boxes`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._types import Boxes
from softoverlap.mask_boxes import SummedVolume, centres_of_mass, supports
from softoverlap.overlaps.mask_boxes import (
    VOXELS_AT_ONCE,
    Aligned,
    AnyMasks,
    Pairwise,
    mask_box_iou,
    mask_box_pair_iou,
    prepared,
)

_PAIRS_PER_BLOCK = 1 << 20


def mask_box_diou(
    masks: AnyMasks, boxes: Boxes, *, empty: float = 1.0, validate: bool | None = None
) -> Pairwise:
    """Soft distance IoU of each mask and each box, also of those that don't meet.

    Soft IoU less the squared distance of the box's centre from the mask's centre of mass over the
    squared diagonal of the smallest box around both the box and the mask's support: the tight
    box around all voxels above 0. A layer of voxels whose mass is lost in the float64 sum of the
    mask (a share of 1e-16) is not part of the support. The support moves in steps of whole voxels
    and carries no gradient; centre of mass and IoU do.

    For a full box this is `box_diou`. A mask without mass has no centre: nothing is taken off.

    Args:
        masks: Probabilities, shape (K, *spatial), or K lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1, 1], without unit, shape (K, N). It is 1 only for the box that the mask
        fills, and never above `mask_box_iou`.

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
        >>> mask_box_diou(mask, torch.tensor([[1.0, 3.0], [3.0, 5.0], [4.0, 6.0]]))
        tensor([[ 1.0000, -0.2500, -0.3600]])
    """
    if isinstance(masks, Tensor) and masks.numel() > VOXELS_AT_ONCE and len(masks) > 1:
        parts = masks.split(max(1, VOXELS_AT_ONCE // masks[0].numel()))
        return torch.cat([mask_box_diou(p, boxes, empty=empty, validate=validate) for p in parts])
    volume, boxes = prepared(masks, boxes, validate)
    score = mask_box_iou(volume, boxes, empty=empty, validate=False)
    centre, support = centres_of_mass(volume), supports(volume)
    in_place = not score.requires_grad
    rows = []
    for part in _parts(len(volume), len(boxes)):
        penalty = _penalty(centre[part, None], support[part, None], boxes[None])
        penalty = torch.where(volume.sizes[part, None] == 0, 0, penalty).to(score.dtype)
        rows.append(score[part].sub_(penalty) if in_place else score[part] - penalty)
    return score if in_place else torch.cat(rows)


def mask_box_pair_diou(
    masks: AnyMasks, boxes: Boxes, *, empty: float = 1.0, validate: bool | None = None
) -> Aligned:
    """Soft distance IoU of mask i and box i: the terms are those of `mask_box_diou`.

    Args:
        masks: Probabilities, shape (N, *spatial), or N lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1, 1], without unit, shape (N,).

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
        >>> mask_box_pair_diou(mask, torch.tensor([[3.0, 5.0]]))
        tensor([-0.2500])
    """
    volume, boxes = prepared(masks, boxes, validate)
    iou = mask_box_pair_iou(volume, boxes, empty=empty, validate=False)
    return iou - pair_penalty(volume, boxes).to(iou.dtype)


def pair_penalty(volume: SummedVolume, boxes: Boxes) -> Aligned:
    """What the distance of mask i and box i takes off, in [0, 1], float64; 0 for an empty mask."""
    penalty = _penalty(centres_of_mass(volume), supports(volume), boxes)
    return torch.where(volume.sizes == 0, 0, penalty)


def _penalty(centre: Tensor, support: Tensor, boxes: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal around support and box, float64."""
    boxes = boxes.to(torch.float64)
    middle = torch.cat([centre, centre], dim=-1)  # as a box without edges
    distance = geometry.squared_centre_distance(middle, boxes)
    return scores.distance_penalty(distance, geometry.squared_diagonal(support, boxes))


def _parts(masks: int, boxes: int) -> Iterator[slice]:
    rows = max(1, _PAIRS_PER_BLOCK // max(1, boxes))
    return (slice(start, start + rows) for start in range(0, masks, rows))
