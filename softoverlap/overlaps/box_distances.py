"""Overlap of axis-aligned boxes that also counts distance and shape: DIoU, CIoU, EIoU and NWD.

They rank boxes that miss, and lead them to their target. The conventions are those of
`softoverlap.overlaps.boxes`.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap import scores
from softoverlap._checks import check_positive
from softoverlap._types import Boxes, OtherBoxes
from softoverlap.overlaps._pairs import aligned, pairwise
from softoverlap.overlaps.boxes import iou_of


def box_diou(
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Distance IoU of all pairs of boxes.

    IoU less the squared distance of the centres over the squared diagonal of the enclosing box.

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
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> box_diou(torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 4.0], [0.0, 2.0]]))
        tensor([[-0.2500,  1.0000]])
    """
    return pairwise(_diou, pred, target, block_size, validate)


def box_pair_diou(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Distance IoU of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> box_pair_diou(torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 4.0]]))
        tensor([-0.2500])
    """
    return aligned(_diou, pred, target, validate)


def box_ciou(
    pred: Boxes,
    target: OtherBoxes,
    *,
    gate: float | None = None,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Complete IoU of all pairs of boxes.

    DIoU less `alpha · v`: v is the mean over all pairs of axes (i, j) of
    `4/π² (atan(pred_i / pred_j) - atan(target_i / target_j))²`, 0 in 1D and the usual form in 2D,
    and `alpha = v / (1 - IoU + v)` carries no gradient. Two 3D boxes have no accepted CIoU; this
    one is symmetric in the axes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        gate: The aspect counts only where the IoU exceeds this; None: everywhere.
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1.5, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Zheng et al., Enhancing geometric factors, https://arxiv.org/abs/2005.03572

    Examples:
        >>> import torch
        >>> square, flat = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 4.0, 1.0]])
        >>> box_ciou(square, torch.cat([flat, square]))
        tensor([[0.2530, 1.0000]])
    """
    return pairwise(partial(_ciou, gate=gate), pred, target, block_size, validate)


def box_pair_ciou(
    pred: Boxes,
    target: Boxes,
    *,
    gate: float | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Complete IoU of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        gate: The aspect counts only where the IoU exceeds this; None: everywhere.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1.5, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Zheng et al., Enhancing geometric factors, https://arxiv.org/abs/2005.03572

    Examples:
        >>> import torch
        >>> square, flat = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 4.0, 1.0]])
        >>> box_pair_ciou(square, flat)
        tensor([0.2530])
    """
    return aligned(partial(_ciou, gate=gate), pred, target, validate)


def box_eiou(
    pred: Boxes,
    target: OtherBoxes,
    *,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Efficient IoU of all pairs of boxes.

    DIoU less, for every axis, the squared difference of the edges over the squared edge of the
    enclosing box: CIoU's aspect, said per axis, so it has a natural form in any dimension.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1 - ndim, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Zhang et al., Focal and efficient IOU loss, https://arxiv.org/abs/2101.08158

    Examples:
        >>> import torch
        >>> box_eiou(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 4.0], [0.0, 2.0]]))
        tensor([[0.1875, 1.0000]])
    """
    return pairwise(_eiou, pred, target, block_size, validate)


def box_pair_eiou(
    pred: Boxes,
    target: Boxes,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Efficient IoU of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1 - ndim, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Zhang et al., Focal and efficient IOU loss, https://arxiv.org/abs/2101.08158

    Examples:
        >>> import torch
        >>> box_pair_eiou(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
        tensor([0.1875])
    """
    return aligned(_eiou, pred, target, validate)


def box_nwd(
    pred: Boxes,
    target: OtherBoxes,
    *,
    constant: float = 12.7,
    block_size: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes others"]:
    """Normalised Wasserstein similarity of all pairs of boxes.

    `exp(-sqrt(|Δcentre|² + |Δedges|² / 4) / constant)`: boxes as Gaussians, whose distance does not
    care whether they overlap; meant for tiny objects. It does not ignore scale: `constant` is a
    length, about the mean side of the objects.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same layout, shape (M, 2 * ndim).
        constant: Length over which the similarity falls to 1/e, above 0, in units of the boxes.
        block_size: Rows of `pred` that are scored at once, forward and backward; by default as
            many as keep the working memory small. The result does not depend on it.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in (0, 1], without unit, shape (N, M).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum or
            `constant` is not above 0.

    References:
        Wang et al., A normalized Gaussian Wasserstein distance, https://arxiv.org/abs/2110.13389

    Examples:
        >>> import torch
        >>> box_nwd(torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 5.0], [0.0, 2.0]]))
        tensor([[0.7896, 1.0000]])
    """
    check_positive(constant=constant)
    return pairwise(partial(_nwd, constant=constant), pred, target, block_size, validate)


def box_pair_nwd(
    pred: Boxes,
    target: Boxes,
    *,
    constant: float = 12.7,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Normalised Wasserstein similarity of aligned boxes.

    Args:
        pred: Minima, then maxima, shape (N, 2 * ndim).
        target: Same shape.
        constant: Length over which the similarity falls to 1/e, above 0, in units of the boxes.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in (0, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum or
            `constant` is not above 0.

    References:
        Wang et al., A normalized Gaussian Wasserstein distance, https://arxiv.org/abs/2110.13389

    Examples:
        >>> import torch
        >>> box_pair_nwd(torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 5.0]]))
        tensor([0.7896])
    """
    check_positive(constant=constant)
    return aligned(partial(_nwd, constant=constant), pred, target, validate)


def _diou(a: Tensor, b: Tensor) -> Tensor:
    return iou_of(a, b) - _centre_penalty(a, b)


def _ciou(a: Tensor, b: Tensor, *, gate: float | None) -> Tensor:
    iou = iou_of(a, b)
    penalty = scores.aspect_penalty(iou, _aspect_difference(a, b), gate=gate)
    return iou - _centre_penalty(a, b) - penalty


def _eiou(a: Tensor, b: Tensor) -> Tensor:
    score = _diou(a, b)
    sides = zip(geometry.edges(a), geometry.edges(b), geometry.enclosing_edges(a, b), strict=True)
    for side_a, side_b, enclosing in sides:
        score = score - scores.distance_penalty((side_a - side_b) ** 2, enclosing**2)
    return score


def _nwd(a: Tensor, b: Tensor, *, constant: float) -> Tensor:
    squared = geometry.squared_centre_distance(a, b)
    for side_a, side_b in zip(geometry.edges(a), geometry.edges(b), strict=True):
        squared = squared + (side_a - side_b) ** 2 / 4
    return scores.nwd(squared, constant=constant)


def _centre_penalty(a: Tensor, b: Tensor) -> Tensor:
    distance = geometry.squared_centre_distance(a, b)
    return scores.distance_penalty(distance, geometry.squared_diagonal(a, b))


def _aspect_difference(a: Tensor, b: Tensor) -> Tensor:
    """CIoU's v: the mean over pairs of axes, in [0, 1]."""
    pairs = list(combinations(range(a.shape[-1] // 2), 2))
    angles_a, angles_b = _aspect_angles(a, pairs), _aspect_angles(b, pairs)
    total = (a[..., 0] + b[..., 0]).to(geometry.volume(a).dtype) * 0
    for angle_a, angle_b in zip(angles_a, angles_b, strict=True):
        total = total + (4 / math.pi**2) * (angle_a - angle_b) ** 2
    return total / max(1, len(pairs))


def _aspect_angles(boxes: Tensor, pairs: list[tuple[int, int]]) -> list[Tensor]:
    """atan(side_i / side_j) for each pair of axes.

    The sides are first divided by the longer one, so that no square under- or overflows; a point
    counts as a cube.
    """
    sides, angles = geometry.edges(boxes), []
    for i, j in pairs:
        longer = torch.maximum(sides[i], sides[j]).detach()
        scale = torch.where(longer > 0, longer, 1)
        nothing = longer <= 0
        side_i, side_j = (torch.where(nothing, 1, side / scale) for side in (sides[i], sides[j]))
        angles.append(torch.atan2(side_i, side_j))
    return angles
