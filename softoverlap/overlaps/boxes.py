"""Overlap of axis-aligned boxes in any number of dimensions: IoU, Dice, IoF and GIoU.

`box_*` scores all pairs, (N, M); `box_pair_*` scores aligned ones, (N,). Boxes whose union is
zero score 1 if they are equal, else 0. Integer and half inputs are computed in float32, float64
stays float64.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._checks import check_boxes
from softoverlap._types import Boxes, OtherBoxes, plain
from softoverlap.overlaps._pairs import aligned, pairwise
from softoverlap.overlaps.terms import Terms, equality, giou_terms, iou_terms


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
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Intersection over union of all pairs of boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_iou(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
        tensor([[0.3333, 1.0000]])
    """
    return pairwise(score_of(iou_terms), pred, target, block_size, validate)


def box_pair_iou(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Intersection over union of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_pair_iou(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.3333])
    """
    return aligned(score_of(iou_terms), pred, target, validate)


def box_dice(
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Dice score of all pairs of boxes: twice the intersection over the sum of the volumes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_dice(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
        tensor([[0.5000, 1.0000]])
    """
    return pairwise(_dice, pred, target, block_size, validate)


def box_pair_dice(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Dice score of aligned boxes: twice the intersection over the sum of the volumes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    Examples:
        >>> import torch
        >>> box_pair_dice(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.5000])
    """
    return aligned(_dice, pred, target, validate)


def box_iof(
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Intersection over the first box of all pairs of boxes.

    Not symmetric. Also known as coverage or intersection over foreground; used to let a large
    ignore region absorb the boxes inside it. A flat first box scores 1 where it equals the second,
    else 0.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Everingham et al., The Pascal Visual Object Classes challenge, IJCV 2010 (`difficult`)

    Examples:
        >>> import torch
        >>> box_iof(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0], [0.0, 9.0]]))
        tensor([[0.5000, 1.0000]])
    """
    return pairwise(_iof, pred, target, block_size, validate)


def box_pair_iof(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Intersection over the first box of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Everingham et al., The Pascal Visual Object Classes challenge, IJCV 2010 (`difficult`)

    Examples:
        >>> import torch
        >>> box_pair_iof(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.5000])
    """
    return aligned(_iof, pred, target, validate)


def box_giou(
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Generalised IoU of all pairs of boxes: falls below 0 as disjoint boxes move apart.

    Known weakness: growing a box that misses its target raises the score as well.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> box_giou(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[-0.5000,  1.0000]])
    """
    return pairwise(score_of(giou_terms), pred, target, block_size, validate)


def box_pair_giou(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Generalised IoU of aligned boxes: falls below 0 as disjoint boxes move apart.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> box_pair_giou(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([-0.5000])
    """
    return aligned(score_of(giou_terms), pred, target, validate)


def score_of(terms: Callable[[Tensor, Tensor], Terms]) -> Callable[[Tensor, Tensor], Tensor]:
    """The IoU less its penalties."""

    def score(a: Tensor, b: Tensor) -> Tensor:
        result, penalties = terms(a, b)
        for penalty in penalties:
            result = result - penalty
        return result

    return score


def _dice(a: Tensor, b: Tensor) -> Tensor:
    sizes = geometry.volume(a), geometry.volume(b)
    return scores.dice(geometry.intersection(a, b), *sizes, empty=equality(a, b, *sizes))


def _iof(a: Tensor, b: Tensor) -> Tensor:
    sizes = geometry.volume(a), geometry.volume(b)
    return scores.iof(geometry.intersection(a, b), sizes[0], empty=equality(a, b, *sizes))
