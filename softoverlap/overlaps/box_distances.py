"""Overlap of axis-aligned boxes that also counts distance and shape: DIoU, CIoU, EIoU and NWD.

They rank boxes that miss, and lead them to their target. The conventions are those of
`softoverlap.overlaps.boxes`.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._checks import check_gate, check_positive
from softoverlap._types import Boxes, OtherBoxes
from softoverlap.overlaps._pairs import aligned, pairwise
from softoverlap.overlaps.boxes import score_of
from softoverlap.overlaps.terms import ciou_terms, diou_terms, eiou_terms


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
    return pairwise(score_of(diou_terms), pred, target, block_size, validate)


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
    return aligned(score_of(diou_terms), pred, target, validate)


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
        gate: The aspect counts only where the IoU exceeds this, in [0, 1]; None: everywhere.
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
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> flat = torch.tensor([[0.0, 0.0, 4.0, 1.0]])
        >>> box_ciou(square, torch.cat([flat, square]))
        tensor([[0.2530, 1.0000]])
    """
    check_gate(gate)
    return pairwise(score_of(partial(ciou_terms, gate=gate)), pred, target, block_size, validate)


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
        gate: The aspect counts only where the IoU exceeds this, in [0, 1]; None: everywhere.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [-1.5, 1], without unit, shape (N,).

    Raises:
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum.

    References:
        Zheng et al., Enhancing geometric factors, https://arxiv.org/abs/2005.03572

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> flat = torch.tensor([[0.0, 0.0, 4.0, 1.0]])
        >>> box_pair_ciou(square, flat)
        tensor([0.2530])
    """
    check_gate(gate)
    return aligned(score_of(partial(ciou_terms, gate=gate)), pred, target, validate)


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
    return pairwise(score_of(eiou_terms), pred, target, block_size, validate)


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
    return aligned(score_of(eiou_terms), pred, target, validate)


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
        Score in [0, 1], without unit, shape (N, M).

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
    return pairwise(partial(nwd_of, constant=constant), pred, target, block_size, validate)


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
        Score in [0, 1], without unit, shape (N,).

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
    return aligned(partial(nwd_of, constant=constant), pred, target, validate)


def nwd_of(a: Tensor, b: Tensor, *, constant: float) -> Tensor:
    """NWD of boxes that broadcast."""
    squared = geometry.squared_centre_distance(a, b)
    for edge_a, edge_b in zip(geometry.edges(a), geometry.edges(b), strict=True):
        squared = squared + (edge_a - edge_b) ** 2 / 4
    return scores.nwd(squared, constant=constant)
