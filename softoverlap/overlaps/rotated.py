"""Overlap of oriented rectangles (2D) and yaw boxes (3D), differentiable in all parameters."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from softoverlap import rotated, rotated_hulls as hulls, scores
from softoverlap.overlaps.box_family import (
    RotatedBoxOverlap,
    Terms,
    at_most_the_iou,
    score_of_nothing,
)


@partial(RotatedBoxOverlap, scale_free=True, zero_apart=True, least_iou=at_most_the_iou)
def rotated_box_iou(a: Tensor, b: Tensor) -> Terms:
    """Intersection over union of oriented boxes.

    Exact up to rounding: one-sided Green integral in float64, after centres and angles are
    subtracted, so identical, edge-sharing, far, tiny and needle-like boxes are right.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> turned = torch.tensor([[0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_iou(square, turned), rotated_box_iou.pairs(square, turned)
        (tensor([[0.7071]]), tensor([0.7071]))
    """
    sizes = rotated.volume(a), rotated.volume(b)
    empty = score_of_nothing(a, b, *sizes)
    return scores.iou(rotated.intersection(a, b), *sizes, empty=empty), []


@partial(RotatedBoxOverlap, scale_free=True, zero_apart=True, symmetric=False)
def rotated_box_iof(a: Tensor, b: Tensor) -> Terms:
    """Intersection over the first of two oriented boxes.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> turned = torch.tensor([[0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_iof(square, turned), rotated_box_iof.pairs(square, turned)
        (tensor([[0.8284]]), tensor([0.8284]))
    """
    sizes = rotated.volume(a), rotated.volume(b)
    empty = score_of_nothing(a, b, *sizes)
    return scores.iof(rotated.intersection(a, b), sizes[0], empty=empty), []


@partial(
    RotatedBoxOverlap,
    scale_free=True,
    range=(-1.0, 1.0),
    zero_apart=False,
    least_iou=at_most_the_iou,
)
def rotated_box_giou(a: Tensor, b: Tensor) -> Terms:
    """Generalised IoU of oriented boxes: falls below 0 as disjoint boxes move apart.

    Less than the IoU by the share of the enclosing set that is empty. That set is the convex hull
    of both, as in GIoU's definition; of boxes with yaw the prism over the hull in the plane. It
    turns with the boxes and fits them closer than the box that `box_giou` puts around upright
    ones, so of these it is at least as high as `box_giou`, and equal in value where the hull is
    that box.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> others = torch.tensor([[4.0, 0.0, 2.0, 2.0, 0.0], [0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_giou(square, others)
        tensor([[-0.3333,  0.5355]])
        >>> rotated_box_giou.pairs(square, others[:1])
        tensor([-0.3333])
    """
    shared, *sizes = rotated.intersection(a, b), rotated.volume(a), rotated.volume(b)
    iou = scores.iou(shared, *sizes, empty=score_of_nothing(a, b, *sizes))
    return iou, [scores.hull_penalty(sum(sizes) - shared, hulls.enclosing_volume(a, b))]


@partial(
    RotatedBoxOverlap,
    scale_free=True,
    range=(-1.0, 1.0),
    zero_apart=False,
    least_iou=at_most_the_iou,
)
def rotated_box_diou(a: Tensor, b: Tensor) -> Terms:
    """Distance IoU of oriented boxes.

    IoU less the squared distance of the centres over the squared diameter of the set that
    `rotated_box_giou` puts around both: in the plane, the longest distance between any two of
    their corners. It turns with the boxes, and is at most the diagonal of the box that `box_diou`
    puts around upright ones, so of these this DIoU is at most `box_diou`.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> others = torch.tensor([[4.0, 0.0, 2.0, 2.0, 0.0], [0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_diou(square, others)
        tensor([[-0.4000,  0.7071]])
        >>> rotated_box_diou.pairs(square, others[:1])
        tensor([-0.4000])
    """
    distance = hulls.squared_centre_distance(a, b)
    penalty = scores.distance_penalty(distance, hulls.squared_diameter(a, b))
    return rotated_box_iou.defined({})(a, b)[0], [penalty]


rotated_box_pair_iou, rotated_box_pair_iof = rotated_box_iou.pairs, rotated_box_iof.pairs
rotated_box_pair_giou, rotated_box_pair_diou = rotated_box_giou.pairs, rotated_box_diou.pairs
