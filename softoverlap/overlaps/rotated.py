"""Overlap of oriented rectangles (2D) and yaw boxes (3D), differentiable in all parameters."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import rotated, scores
from softoverlap._checks import check_rotated_boxes
from softoverlap._types import Boxes, OtherBoxes
from softoverlap.overlaps._pairs import aligned, pairwise


def rotated_box_iou(
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Intersection over union of all pairs of oriented boxes.

    Exact up to rounding: one-sided Green integral in float64, after centres and angles are
    subtracted, so identical, edge-sharing, far, tiny and needle-like boxes are right.

    Args:
        pred: `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians counter-clockwise
            from axis 0 to axis 1, shape (N, 5) or (N, 7).
        target: Same layout, shape (M, 5) or (M, 7).
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or an edge is negative.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> turned = torch.tensor([[0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_iou(square, turned)
        tensor([[0.7071]])
    """
    return pairwise(rotated_iou_of, pred, target, block_size, validate, _check)


def rotated_box_pair_iou(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Intersection over union of aligned pairs of oriented boxes.

    Args:
        pred: `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians counter-clockwise
            from axis 0 to axis 1, shape (N, 5) or (N, 7).
        target: Same layout, shape (N, 5) or (N, 7).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or an edge is negative.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> turned = torch.tensor([[0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_pair_iou(square, turned)
        tensor([0.7071])
    """
    return aligned(rotated_iou_of, pred, target, validate, _check)


def rotated_box_iof(
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Intersection over the first box, of all pairs of oriented boxes.

    Args:
        pred: `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians counter-clockwise
            from axis 0 to axis 1, shape (N, 5) or (N, 7).
        target: Same layout, shape (M, 5) or (M, 7).
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or an edge is negative.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> turned = torch.tensor([[0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_iof(square, turned)
        tensor([[0.8284]])
    """
    return pairwise(_iof, pred, target, block_size, validate, _check)


def rotated_box_pair_iof(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Intersection over the first box, of aligned pairs of oriented boxes.

    Args:
        pred: `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians counter-clockwise
            from axis 0 to axis 1, shape (N, 5) or (N, 7).
        target: Same layout, shape (N, 5) or (N, 7).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite or an edge is negative.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> turned = torch.tensor([[0.0, 0.0, 2.0, 2.0, torch.pi / 4]])
        >>> rotated_box_pair_iof(square, turned)
        tensor([0.8284])
    """
    return aligned(_iof, pred, target, validate, _check)


def rotated_iou_of(a: Tensor, b: Tensor) -> Tensor:
    """IoU of oriented boxes that broadcast."""
    sizes = rotated.volume(a), rotated.volume(b)
    return scores.iou(rotated.intersection(a, b), *sizes, empty=_equal(a, b))


def _iof(a: Tensor, b: Tensor) -> Tensor:
    return scores.iof(rotated.intersection(a, b), rotated.volume(a), empty=_equal(a, b))


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """1 where all parameters are equal, else 0: the score where there is no volume."""
    return (a == b).all(dim=-1).to(torch.float64)


def _check(pred: Tensor, target: Tensor, validate: bool | None) -> None:
    check_rotated_boxes(pred=pred, validate=validate)
    check_rotated_boxes(target=target, parameters=pred.shape[1], validate=validate)
