"""Overlap of axis-aligned boxes in any number of dimensions: IoU, Dice, IoF and GIoU.

Boxes whose union is zero score 1 if they are equal, else 0. Integer and half inputs are computed
in float32, float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._checks import check_boxes, check_positive
from softoverlap._periodic import Period
from softoverlap._types import Boxes, plain
from softoverlap.overlaps._extremes import power_of_two
from softoverlap.overlaps.box_family import BoxOverlap, Terms, at_most_the_iou, score_of_nothing


def box_volume(boxes: Boxes, *, validate: bool | None = None) -> Float[Tensor, "boxes"]:
    """Volume of each box: the product of its edges (length in 1D, area in 2D).

    Args:
        boxes: Minima, then maxima, shape (N, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Volume in units of the coordinates to the power ndim, at least 0, shape (N,), in float32
        or wider.

    Raises:
        ValueError: If the shape is wrong, a value is not finite or a maximum is below its
            minimum.

    Examples:
        >>> import torch
        >>> box_volume(torch.tensor([[0, 0, 0, 2, 3, 4]]))
        tensor([24.])
    """
    check_boxes(boxes=boxes, validate=validate)
    return geometry.volume(plain(boxes))


@partial(BoxOverlap, stretch_free=True, zero_apart=True, least_iou=at_most_the_iou)
def box_iou(a: Tensor, b: Tensor, *, period: Period = None) -> Terms:
    """Intersection over union of boxes.

    Examples:
        >>> import torch
        >>> box, others = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]])
        >>> box_iou(box, others)
        tensor([[0.3333, 1.0000]])
        >>> box_iou.pairs(box, others[:1])
        tensor([0.3333])
    """
    shared, *sizes = geometry.shared_and_own(a, b, period)
    return scores.iou(shared, *sizes, empty=score_of_nothing(a, b, *sizes, period=period)), []


@partial(BoxOverlap, stretch_free=True, zero_apart=True, least_iou=lambda dice: dice / (2 - dice))
def box_dice(a: Tensor, b: Tensor, *, period: Period = None) -> Terms:
    """Dice score of boxes: twice the intersection over the sum of the volumes.

    Examples:
        >>> import torch
        >>> box, others = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]])
        >>> box_dice(box, others)
        tensor([[0.5000, 1.0000]])
        >>> box_dice.pairs(box, others[:1])
        tensor([0.5000])
    """
    shared, *sizes = geometry.shared_and_own(a, b, period)
    return scores.dice(shared, *sizes, empty=score_of_nothing(a, b, *sizes, period=period)), []


@partial(BoxOverlap, stretch_free=True, zero_apart=True, symmetric=False)
def box_iof(a: Tensor, b: Tensor, *, period: Period = None) -> Terms:
    """Intersection over the first box.

    Not symmetric. Also known as coverage or intersection over foreground; used to let a large
    ignore region absorb the boxes inside it. A flat first box scores 1 where it equals the second,
    else 0.

    References:
        Everingham et al., The Pascal Visual Object Classes challenge, IJCV 2010 (`difficult`)

    Examples:
        >>> import torch
        >>> box, others = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 9.0]])
        >>> box_iof(box, others)
        tensor([[0.5000, 1.0000]])
        >>> box_iof.pairs(box, others[:1])
        tensor([0.5000])
    """
    shared, *sizes = geometry.shared_and_own(a, b, period)
    return scores.iof(shared, sizes[0], empty=score_of_nothing(a, b, *sizes, period=period)), []


@partial(
    BoxOverlap, stretch_free=True, range=(-1.0, 1.0), zero_apart=False, least_iou=at_most_the_iou
)
def box_giou(a: Tensor, b: Tensor, *, period: Period = None) -> Terms:
    """Generalised IoU of boxes: falls below 0 as disjoint boxes move apart.

    Less than the IoU by the share of the enclosing box that is empty. Known weakness: growing a
    box that misses its target raises the score as well.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> box, others = torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> box_giou(box, others)
        tensor([[-0.5000,  1.0000]])
        >>> box_giou.pairs(box, others[:1])
        tensor([-0.5000])
    """
    shared, *sizes, enclosing = geometry.all_volumes(a, b, period)
    empty = score_of_nothing(a, b, *sizes, period=period)
    iou, union = scores.iou(shared, *sizes, empty=empty), sizes[0] + sizes[1] - shared
    return iou, [scores.hull_penalty(union, enclosing, empty=None if empty is None else 0.0)]


box_pair_iou, box_pair_dice = box_iou.pairs, box_dice.pairs
box_pair_iof, box_pair_giou = box_iof.pairs, box_giou.pairs


def best_iou_of_size(lesion_boxes: Boxes, size: Sequence[float | int]) -> Float[Tensor, "boxes"]:
    """The highest IoU with each box that any box of given edges can have.

    A box of the size of a detector's smallest anchor says which lesions are out of its reach. The
    best one shares the lesser of both edges on every axis.

    Args:
        lesion_boxes: Boxes, minima, then maxima, shape (N, 2 * ndim).
        size: Edges of the other box, one an axis, above 0.

    Returns:
        IoU in [0, 1], shape (N,), in float32 or wider.

    Raises:
        ValueError: If the shape of the boxes is wrong, or the size has not one edge above 0 for
            each axis.

    Examples:
        >>> import torch
        >>> best_iou_of_size(torch.tensor([[0.0, 0.0, 4.0, 1.0], [3.0, 3.0, 5.0, 5.0]]), (2, 2))
        tensor([0.3333, 1.0000])
    """
    check_boxes(lesion_boxes=lesion_boxes)
    edges = torch.stack(geometry.edges(plain(lesion_boxes)), dim=1)
    if len(size) != edges.shape[1]:
        raise ValueError(f"size must hold {edges.shape[1]} edges, one an axis, got {tuple(size)}")
    check_positive(**{f"size[{axis}]": float(edge) for axis, edge in enumerate(size)})
    edges, other = _of_about_one(edges, edges.new_tensor(size))
    shared = edges.minimum(other).prod(dim=1)
    return scores.iou(shared, edges.prod(dim=1), other.prod(dim=1), empty=0.0)


def _of_about_one(*edges: Tensor) -> list[Tensor]:
    """The edges over a power of two near the longest of their axis, so that no product is lost."""
    longest = reduce(torch.maximum, edges).detach()
    factor = power_of_two(-torch.frexp(longest).exponent.long())
    return [(edge.double() * factor).to(edge.dtype) for edge in edges]
