"""Overlap of oriented rectangles (2D) and yaw boxes (3D), differentiable in all parameters."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from softoverlap import rotated, scores
from softoverlap.overlaps.box_family import RotatedBoxOverlap, Terms, score_of_nothing


@partial(RotatedBoxOverlap, scale_free=True, zero_apart=True)
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


rotated_box_pair_iou, rotated_box_pair_iof = rotated_box_iou.pairs, rotated_box_iof.pairs
