"""Overlap of axis-aligned boxes in any number of dimensions.

`box_*` scores all pairs, (N, M); `box_pair_*` scores aligned ones, (N,). Boxes whose union is
zero score 1 if they are equal, else 0. Integer and half inputs are computed in float32, float64
stays float64.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._checks import check_boxes, check_same_rows
from softoverlap._types import Boxes, OtherBoxes, plain, score_dtype


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


def box_iou(
    pred: Boxes, target: OtherBoxes, *, validate: bool | None = None
) -> Float[Tensor, "boxes others"]:
    """Intersection over union of all pairs of boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_iou(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
        tensor([[0.3333, 1.0000]])
    """
    return _pairwise(_iou, pred, target, validate)


def box_pair_iou(
    pred: Boxes, target: Boxes, *, validate: bool | None = None
) -> Float[Tensor, "boxes"]:
    """Intersection over union of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_pair_iou(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.3333])
    """
    return _aligned(_iou, pred, target, validate)


def box_dice(
    pred: Boxes, target: OtherBoxes, *, validate: bool | None = None
) -> Float[Tensor, "boxes others"]:
    """Dice score of all pairs of boxes: twice the intersection over the sum of the volumes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_dice(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
        tensor([[0.5000, 1.0000]])
    """
    return _pairwise(_dice, pred, target, validate)


def box_pair_dice(
    pred: Boxes, target: Boxes, *, validate: bool | None = None
) -> Float[Tensor, "boxes"]:
    """Dice score of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_pair_dice(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.5000])
    """
    return _aligned(_dice, pred, target, validate)


def box_giou(
    pred: Boxes, target: OtherBoxes, *, validate: bool | None = None
) -> Float[Tensor, "boxes others"]:
    """Generalised IoU of all pairs of boxes: falls below 0 as disjoint boxes move apart.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or a maximum is below its minimum.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> box_giou(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[-0.5000,  1.0000]])
    """
    return _pairwise(_giou, pred, target, validate)


def box_pair_giou(
    pred: Boxes, target: Boxes, *, validate: bool | None = None
) -> Float[Tensor, "boxes"]:
    """Generalised IoU of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or a maximum is below its minimum.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> box_pair_giou(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([-0.5000])
    """
    return _aligned(_giou, pred, target, validate)


def _pairwise(
    score: Callable[[Tensor, Tensor], Tensor], pred: Tensor, target: Tensor, validate: bool | None
) -> Tensor:
    check_boxes(pred=pred, validate=validate)
    check_boxes(target=target, ndim=pred.shape[1] // 2, validate=validate)
    result = score(plain(pred)[:, None], plain(target)[None])
    return result.to(score_dtype(pred, target))


def _aligned(
    score: Callable[[Tensor, Tensor], Tensor], pred: Tensor, target: Tensor, validate: bool | None
) -> Tensor:
    check_boxes(pred=pred, validate=validate)
    check_boxes(target=target, ndim=pred.shape[1] // 2, validate=validate)
    check_same_rows(pred=pred, target=target)
    return score(plain(pred), plain(target)).to(score_dtype(pred, target))


def _iou(a: Tensor, b: Tensor) -> Tensor:
    equal = geometry.equal(a, b).to(geometry.volume(a).dtype)
    shared = geometry.intersection(a, b)
    return scores.iou(shared, geometry.volume(a), geometry.volume(b), empty=equal)


def _dice(a: Tensor, b: Tensor) -> Tensor:
    equal = geometry.equal(a, b).to(geometry.volume(a).dtype)
    shared = geometry.intersection(a, b)
    return scores.dice(shared, geometry.volume(a), geometry.volume(b), empty=equal)


def _giou(a: Tensor, b: Tensor) -> Tensor:
    union = geometry.volume(a) + geometry.volume(b) - geometry.intersection(a, b)
    return scores.giou(_iou(a, b), union, geometry.enclosing_volume(a, b))
