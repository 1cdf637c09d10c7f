"""Overlap of a soft mask and a box that also counts their distance: every box is ranked."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._types import Boxes
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps._mask_box_scores import Aligned, aligned_penalty, within_reach
from softoverlap.overlaps.mask_box_family import MaskBoxOverlap


def distance_penalty(volume: SummedVolume, boxes: Boxes) -> Aligned:
    """What `mask_box_diou` takes off mask i and box i, in [0, 1], float64; 0 for an empty mask."""
    return aligned_penalty(_penalty, volume, boxes)


def _penalty(centre: Tensor, support: Tensor, boxes: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal around support and box."""
    boxes = within_reach(boxes)
    middle = torch.cat([centre, centre], dim=-1)  # as a box without edges
    distance = geometry.squared_centre_distance(middle, boxes)
    return scores.distance_penalty(distance, geometry.squared_diagonal(support, boxes))


@partial(MaskBoxOverlap, range=(-1.0, 1.0), zero_apart=False, form="iou", penalty=_penalty)
def mask_box_diou(mass: Tensor, volume: Tensor, size: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft distance IoU of masks and boxes, also of those that don't meet.

    Soft IoU less the squared distance of the box's centre from the mask's centre of mass over the
    squared diagonal of the smallest box around both the box and the mask's support: the tight
    box around all voxels above 0. A layer of voxels whose mass is lost in the float64 sum of the
    mask (a share of 1e-16) is not part of the support. The support moves in steps of whole voxels
    and carries no gradient; centre of mass and IoU do.

    For a full box this is `box_diou`. A mask without mass has no centre: nothing is taken off. The
    score is 1 only for the box that the mask fills, and never above `mask_box_iou`.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
        >>> mask_box_diou(mask, torch.tensor([[1.0, 3.0], [3.0, 5.0], [4.0, 6.0]]))
        tensor([[ 1.0000, -0.2500, -0.3600]])
        >>> mask_box_diou.pairs(mask, torch.tensor([[3.0, 5.0]]))
        tensor([-0.2500])
    """
    return scores.iou(mass, volume, size, empty=empty)


mask_box_pair_diou = mask_box_diou.pairs
