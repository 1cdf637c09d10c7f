"""Soft boxes: boxes whose faces are uncertain, and their share of each voxel.

Each face of a soft box has a mean and a deviation. It is kept as the box that its faces range over:
all faces less one deviation, then all faces plus one deviation, (N, 4 * ndim) in 2D and 3D. So it
goes wherever boxes go.

On each axis both faces move outward by u deviations, a standard normal number of the axis: who
draws one side wide draws the other one wide, too. A place is then inside with the probability
min(Φ((x - low) / σ_low), Φ((high - x) / σ_high)), and inside the box with the product over the
axes. What two soft boxes share on an axis is the mean over u of the edge that both have in common,
which is the integral of the lesser probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_boxes, check_finite, check_rank, refusal, should_validate
from softoverlap._soft_edges import Faces, shared_edge
from softoverlap._types import Boxes, accumulation_dtype, plain, score_dtype

SOFT_COLUMNS = (8, 12)
"""Numbers of a soft box in 2D and in 3D."""

SoftBoxRows = Float[Tensor, "boxes twice_coords"]


def soft_boxes(
    mean: Boxes, deviation: Tensor | float | int = 0.0, *, validate: bool | None = None
) -> SoftBoxRows:
    """Soft boxes from the mean and the deviation of each face.

    They are kept as mean less and plus deviation, so a deviation below the rounding of the
    coordinates is lost: in float32 one of 1e-5 at a coordinate of 500.

    Args:
        mean: Boxes in 2D or 3D, minima, then maxima, shape (N, 2 * ndim).
        deviation: Standard deviation of each face in the unit of the boxes, at least 0, of the
            shape of `mean`, or one number for all faces; 0 for a box without uncertainty.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        All faces less one deviation, then all faces plus one deviation, in float32 or wider, shape
        (N, 4 * ndim).

    Raises:
        TypeError: If an argument is not of real numbers.
        ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum or a
            deviation negative.

    References:
        Hall et al., Probabilistic object detection, https://arxiv.org/abs/1811.10800

    Examples:
        >>> import torch
        >>> soft_boxes(torch.tensor([[2.0, 2.0, 6.0, 8.0]]), 0.5)
        tensor([[1.5000, 1.5000, 5.5000, 7.5000, 2.5000, 2.5000, 6.5000, 8.5000]])
    """
    check_boxes(mean=mean, validate=validate)
    if 2 * mean.shape[1] not in SOFT_COLUMNS:
        raise ValueError(
            f"mean must have shape (N, 4) or (N, 6), boxes in 2D or 3D, got {tuple(mean.shape)}"
        )
    if not isinstance(deviation, Tensor):
        if not isinstance(deviation, float | int) or isinstance(deviation, bool):
            raise refusal("deviation", f"must be a tensor or number, got {deviation!r}", TypeError)
        deviation = torch.full_like(plain(mean), deviation, dtype=accumulation_dtype(mean))
    check_finite(deviation=deviation, validate=validate)
    if deviation.shape != mean.shape or deviation.dtype == torch.bool:
        raise ValueError(
            f"deviation must hold a number a face, shape {tuple(mean.shape)}, "
            f"got {tuple(deviation.shape)} of {deviation.dtype}"
        )
    if should_validate(validate, deviation) and bool((plain(deviation) < 0).any()):
        raise ValueError(f"deviation must be at least 0, got {float(plain(deviation).min()):g}")
    dtype = accumulation_dtype(mean, deviation)
    middle, spread = plain(mean).to(dtype), plain(deviation).to(dtype)
    return torch.cat([middle - spread, middle + spread], dim=1)


def soft_boxes_from_raters(
    boxes: Shaped[Tensor, "raters boxes coords"], *, validate: bool | None = None
) -> SoftBoxRows:
    """Soft boxes from several raters' boxes of the same objects.

    Args:
        boxes: Box i of each rater, in 2D or 3D, shape (R, N, 2 * ndim). Who did not mark an object
            has no box of it: objects with fewer raters go in a call of their own.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Soft boxes with the mean of each face, and its standard deviation among these raters (the
        mean square, not that of a larger population), shape (N, 4 * ndim).

    Raises:
        ValueError: If the shape is wrong, there is no rater, a value is not finite, a maximum is
            below its minimum, or no two raters' boxes of an object meet: they are of different
            objects then, or the axes are in another order.

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[[2.0, 2.0, 6.0, 8.0]], [[1.0, 2.0, 7.0, 8.0]]])
        >>> soft_boxes_from_raters(raters)
        tensor([[1., 2., 6., 8., 2., 2., 7., 8.]])
    """
    check_rank(3, "(R, N, 2 * ndim)", boxes=boxes)
    if boxes.ndim != 3 or not len(boxes):
        raise ValueError(
            f"boxes must have shape (R, N, 2 * ndim) of at least one rater, got "
            f"{tuple(boxes.shape)}"
        )
    check_boxes(boxes=boxes.flatten(0, 1), validate=validate)
    raters = plain(boxes).to(accumulation_dtype(boxes))
    if should_validate(validate, boxes):
        _check_raters_meet(raters)
    if not raters.shape[1]:  # of which torch has no deviation
        return raters.new_zeros(0, 2 * raters.shape[2])
    return soft_boxes(raters.mean(dim=0), raters.std(dim=0, correction=0), validate=False)


def _check_raters_meet(raters: Float[Tensor, "raters boxes coords"]) -> None:
    """Of each object, some two raters' boxes have a point in common."""
    if len(raters) == 1:
        return
    low, high = raters.chunk(2, dim=2)
    meet = (low[:, None] <= high[None]).all(dim=3)
    both = (meet & meet.transpose(0, 1)).sum(dim=(0, 1)) > len(raters)  # others than oneself
    if not bool(both.all()):
        row = int((~both).nonzero()[0, 0])
        raise ValueError(
            f"boxes must be those of all raters of each object, shape (R, N, 2 * ndim), got boxes "
            f"of object {row} that nowhere meet: is the first axis that of the raters?"
        )


def soft_box_faces(
    boxes: Boxes, *, validate: bool | None = None
) -> tuple[Float[Tensor, "boxes faces"], Float[Tensor, "boxes faces"]]:
    """The mean and the deviation of each face of soft boxes: the inverse of `soft_boxes`.

    Args:
        boxes: Soft boxes, shape (N, 4 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Means and deviations, minima, then maxima, in float32 or wider, each of shape (N, 2 * ndim).

    Raises:
        ValueError: If these are no soft boxes.

    Examples:
        >>> import torch
        >>> mean, deviation = soft_box_faces(soft_boxes(torch.tensor([[2, 2, 6, 8]]), 0.5))
        >>> mean, deviation
        (tensor([[2., 2., 6., 8.]]), tensor([[0.5000, 0.5000, 0.5000, 0.5000]]))
    """
    check_soft_boxes(boxes=boxes, validate=validate)
    first, second = plain(boxes).to(accumulation_dtype(boxes)).chunk(2, dim=1)
    return (first + second) / 2, (second - first) / 2


def soft_box_masks(
    boxes: Boxes, spatial_size: Sequence[int], *, validate: bool | None = None
) -> Float[Tensor, "boxes *spatial"]:
    """Soft boxes as soft masks: the mean probability in each voxel, exactly.

    So a soft box meets masks in every overlap, loss and measure of masks.

    Args:
        boxes: Soft boxes in voxels, shape (N, 4 * ndim).
        spatial_size: Voxels of the image on each axis; what lies beyond it is left out.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Probabilities, in float32 or wider, shape (N, *spatial_size).

    Raises:
        ValueError: If these are no soft boxes, or the size is not one whole side for each axis.

    Examples:
        >>> import torch
        >>> soft = soft_boxes(torch.tensor([[0.0, 1.0, 1.0, 3.0]]), torch.tensor([[0, 0, 0, 1.0]]))
        >>> soft_box_masks(soft, (1, 5))
        tensor([[[0.0000, 0.9252, 0.6844, 0.3156, 0.0748]]])
    """
    check_soft_boxes(boxes=boxes, validate=validate)
    if not all(isinstance(side, Integral | torch.SymInt) and side >= 0 for side in spatial_size):
        raise ValueError(
            f"spatial_size must hold whole numbers of at least 0, got {tuple(spatial_size)}"
        )
    found, *others = voxel_shares(plain(boxes), spatial_size)
    for share in others:
        found = found[..., None] * share.view(len(boxes), *[1] * (found.ndim - 1), share.shape[1])
    return found.to(torch.promote_types(score_dtype(boxes), torch.float32))


def voxel_shares(boxes: Tensor, spatial_size: Sequence[int]) -> list[Float[Tensor, "boxes _"]]:
    """For each axis the mean probability of every layer of voxels, in float64."""
    ndim = boxes.shape[1] // 4
    if len(spatial_size) != ndim:
        raise ValueError(
            f"spatial_size must have {ndim} sides, one an axis, got {tuple(spatial_size)}"
        )
    shares = []
    for side, *faces in zip(spatial_size, *_faces(boxes[:, None]), strict=True):
        low = torch.arange(side, dtype=torch.float64, device=boxes.device)
        zero = torch.zeros_like(low)
        shares.append(shared_edge(Faces(*faces), Faces(low, zero, low + 1, zero)).clamp(max=1))
    return shares


def check_soft_boxes(*, validate: bool | None = None, **boxes: Any) -> None:
    """Soft boxes have 8 or 12 columns and finite values, and no deviation is negative."""
    check_boxes(**boxes, validate=False)
    for name, box in boxes.items():
        if box.shape[1] not in SOFT_COLUMNS:
            raise ValueError(
                f"{name} must have shape (N, 8) or (N, 12), as soft_boxes makes them, "
                f"got {tuple(box.shape)}"
            )
    check_boxes(**boxes, validate=validate)
    for name, box in boxes.items():
        if not should_validate(validate, box):
            continue
        minima, *_, maxima = plain(box.detach()).chunk(4, dim=1)
        inverted = (maxima < minima).any(dim=1)
        if inverted.any():
            row = int(inverted.nonzero()[0, 0])
            raise ValueError(
                f"{name} must have every maximum, with its deviation, at or above its minimum, "
                f"got {box[row].tolist()} in row {row}"
            )


def is_soft(boxes: Shaped[Tensor, "*batch coords"]) -> bool:
    """Whether rows are soft boxes, rather than boxes."""
    return boxes.shape[-1] in SOFT_COLUMNS


def shared_and_own(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> tuple[Tensor, ...]:
    """Volume that two soft boxes share, and that of each; or of two boxes without uncertainty.

    The volume of a soft box is what it shares with itself, so it is rounded alike.
    """
    if not is_soft(a):
        return geometry.shared_and_own(a, b)
    return intersection(a, b), intersection(a, a), intersection(b, b)


def intersection(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Volume that two soft boxes share, in float64."""
    return reduce(torch.mul, shared_edge(_faces(a), _faces(b)).unbind(0))


def _faces(boxes: Tensor) -> Faces:
    """The faces of soft boxes in float64, each tensor with an axis of axes in front."""
    first, second = boxes.to(torch.float64).movedim(-1, 0).chunk(2)
    low, high = ((first + second) / 2).chunk(2)
    low_deviation, high_deviation = ((second - first) / 2).chunk(2)
    return Faces(low, low_deviation, high, high_deviation)
