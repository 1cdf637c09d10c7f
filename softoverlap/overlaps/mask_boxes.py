"""Overlap of soft masks and real-valued boxes: masks come first, the box is the prediction.

`mask_box_*` scores all pairs, (K, N); `mask_box_pair_*` scores mask i against box i, (N,). The
mass of a mask inside a box is exact, parts of a box outside the image hold no mass but count in
its volume, and the cost per box does not depend on the box. Masks are given as a tensor, as
lesions (each with its own crop, boxes in coordinates of the whole image), or as a `SummedVolume`
to reuse. Gradients flow to the masks and to the boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._checks import check_boxes, check_weight
from softoverlap._types import Boxes, plain, score_dtype
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume, as_summed_volume, mass_of_pairs, meeting_pairs

AnyMasks = Shaped[Tensor, "lesions *spatial"] | Sequence[Lesion] | SummedVolume
Pairwise = Float[Tensor, "lesions boxes"]
Aligned = Float[Tensor, "pairs"]
VOXELS_AT_ONCE = 1 << 24  # of whole-image masks: their tables take 8 bytes a voxel

Ratio = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A score from (mass, volume of the box, size of the mask)."""


def mask_box_mass(masks: AnyMasks, boxes: Boxes, *, validate: bool | None = None) -> Pairwise:
    """Mass of each mask inside each box: the integral of the probability over the box.

    Args:
        masks: Probabilities, shape (K, *spatial), or K lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Mass in voxels, from 0 to the size of the mask, shape (K, N), in float32 or wider. Its
        absolute error is below `SummedVolume.error_bound`, a multiple of 2.2e-16 · Σ|mask|,
        before rounding to the output's type.

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    References:
        Crow, Summed-area tables for texture mapping, SIGGRAPH 1984

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[0.0, 0.5, 1.0, 0.0]])
        >>> mask_box_mass(mask, torch.tensor([[1.0, 3.0], [1.5, 2.25]]))
        tensor([[1.5000, 0.5000]])
    """
    return pairwise_scores(_mass_alone, masks, boxes, validate, at_least=torch.float32)


def mask_box_pair_mass(masks: AnyMasks, boxes: Boxes, *, validate: bool | None = None) -> Aligned:
    """Mass of mask i inside box i.

    Args:
        masks: Probabilities, shape (N, *spatial), or N lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Mass in voxels, from 0 to the size of the mask, shape (N,), in float32 or wider.

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    Examples:
        >>> import torch
        >>> mask_box_pair_mass(torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[1.0, 2.5]]))
        tensor([1.])
    """
    return _aligned(_mass_alone, masks, boxes, validate, at_least=torch.float32)


def mask_box_dice(
    masks: AnyMasks, boxes: Boxes, *, empty: float = 1.0, validate: bool | None = None
) -> Pairwise:
    """Soft Dice score of each mask and each box: `2 · mass / (size + volume)`.

    Args:
        masks: Probabilities, shape (K, *spatial), or K lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (K, N).

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    Examples:
        >>> import torch
        >>> mask_box_dice(torch.tensor([[0.0, 0.5, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([[0.8571]])
    """
    return pairwise_scores(partial(scores.dice, empty=empty), masks, boxes, validate)


def mask_box_pair_dice(
    masks: AnyMasks, boxes: Boxes, *, empty: float = 1.0, validate: bool | None = None
) -> Aligned:
    """Soft Dice score of mask i and box i.

    Args:
        masks: Probabilities, shape (N, *spatial), or N lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    Examples:
        >>> import torch
        >>> mask_box_pair_dice(torch.tensor([[0.0, 0.5, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.8571])
    """
    return _aligned(partial(scores.dice, empty=empty), masks, boxes, validate)


def mask_box_iou(
    masks: AnyMasks, boxes: Boxes, *, empty: float = 1.0, validate: bool | None = None
) -> Pairwise:
    """Soft IoU of each mask and each box: `mass / (size + volume - mass)`.

    Args:
        masks: Probabilities, shape (K, *spatial), or K lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (K, N).

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    Examples:
        >>> import torch
        >>> mask_box_iou(torch.tensor([[0.0, 0.5, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([[0.7500]])
    """
    return pairwise_scores(partial(scores.iou, empty=empty), masks, boxes, validate)


def mask_box_pair_iou(
    masks: AnyMasks, boxes: Boxes, *, empty: float = 1.0, validate: bool | None = None
) -> Aligned:
    """Soft IoU of mask i and box i.

    Args:
        masks: Probabilities, shape (N, *spatial), or N lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    Examples:
        >>> import torch
        >>> mask_box_pair_iou(torch.tensor([[0.0, 0.5, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
        tensor([0.7500])
    """
    return _aligned(partial(scores.iou, empty=empty), masks, boxes, validate)


def mask_box_tversky(
    masks: AnyMasks,
    boxes: Boxes,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Pairwise:
    """Soft Tversky index of each mask and each box.

    Args:
        masks: Probabilities, shape (K, *spatial), or K lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        alpha: Weight of the box outside the mask (volume - mass), at least 0.
        beta: Weight of the mask outside the box (size - mass), at least 0.
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (K, N).

    Raises:
        ValueError: If shapes disagree, a weight is negative, a probability lies outside [0, 1]
            or a box is inverted.

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[0.0, 0.5, 1.0, 0.0]])
        >>> mask_box_tversky(mask, torch.tensor([[1.0, 3.0]]), alpha=0.0, beta=1.0)
        tensor([[1.]])
    """
    check_weight(alpha=alpha, beta=beta)
    ratio = partial(scores.tversky, alpha=alpha, beta=beta, empty=empty)
    return pairwise_scores(ratio, masks, boxes, validate)


def mask_box_pair_tversky(
    masks: AnyMasks,
    boxes: Boxes,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Aligned:
    """Soft Tversky index of mask i and box i.

    Args:
        masks: Probabilities, shape (N, *spatial), or N lesions, or a `SummedVolume`.
        boxes: Minima, then maxima, in voxels, shape (N, 2 * ndim).
        alpha: Weight of the box outside the mask (volume - mass), at least 0.
        beta: Weight of the mask outside the box (size - mass), at least 0.
        empty: Score where the mask is empty and the box has no volume.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, shape (N,).

    Raises:
        ValueError: If shapes disagree, a weight is negative, a probability lies outside [0, 1]
            or a box is inverted.

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[0.0, 0.5, 1.0, 0.0]])
        >>> mask_box_pair_tversky(mask, torch.tensor([[1.0, 3.0]]), alpha=0.0, beta=1.0)
        tensor([1.])
    """
    check_weight(alpha=alpha, beta=beta)
    ratio = partial(scores.tversky, alpha=alpha, beta=beta, empty=empty)
    return _aligned(ratio, masks, boxes, validate)


def _mass_alone(mass: Tensor, volume: Tensor, size: Tensor) -> Tensor:
    """The mass itself, as if it were a ratio."""
    return mass


def pairwise_scores(
    ratio: Ratio,
    masks: AnyMasks,
    boxes: Tensor,
    validate: bool | None = None,
    at_least: torch.dtype | None = None,
) -> Tensor:
    """The score of all pairs; those that don't meet score 0 without being read."""
    if isinstance(masks, Tensor) and masks.numel() > VOXELS_AT_ONCE and len(masks) > 1:
        parts = masks.split(max(1, VOXELS_AT_ONCE // masks[0].numel()))
        return torch.cat(
            [pairwise_scores(ratio, part, boxes, validate, at_least) for part in parts]
        )
    volume, boxes = prepared(masks, boxes, validate)
    dtype = _result_dtype(volume, boxes, at_least)
    result = torch.zeros(len(volume) * len(boxes), dtype=dtype, device=volume.device)
    for rows, columns in meeting_pairs(volume, boxes):
        score = score_pairs(ratio, volume, boxes, rows, columns).to(dtype)
        result.index_put_((rows * len(boxes) + columns,), score)
    return result.view(len(volume), len(boxes))


def _aligned(
    ratio: Ratio,
    masks: AnyMasks,
    boxes: Tensor,
    validate: bool | None,
    at_least: torch.dtype | None = None,
) -> Tensor:
    volume, boxes = prepared(masks, boxes, validate)
    if len(volume) != len(boxes):
        raise ValueError(f"masks and boxes must be as many, got {len(volume)} and {len(boxes)}")
    rows = torch.arange(len(volume), device=volume.device)
    return score_pairs(ratio, volume, boxes, rows, rows).to(_result_dtype(volume, boxes, at_least))


def score_pairs(
    ratio: Ratio, volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor
) -> Aligned:
    """The ratio of the pairs, formed in float64."""
    mass = mass_of_pairs(volume, boxes, rows, columns)
    box_volumes = geometry.volume(boxes.to(torch.float64))[columns]
    return ratio(mass, box_volumes, volume.sizes[rows])


def _result_dtype(volume: SummedVolume, boxes: Tensor, at_least: torch.dtype | None) -> torch.dtype:
    dtype = score_dtype(torch.empty(0, dtype=volume.dtype), boxes)
    return dtype if at_least is None else torch.promote_types(dtype, at_least)


def prepared(masks: AnyMasks, boxes: Tensor, validate: bool | None) -> tuple[SummedVolume, Tensor]:
    """Tables of the masks, and the boxes as a plain tensor; both checked."""
    _check_axes(masks, boxes)
    volume = as_summed_volume(masks, validate=validate)
    check_boxes(boxes=boxes, ndim=volume.ndim, validate=validate)
    if boxes.device != volume.device:
        raise ValueError(
            f"boxes must be on {volume.device}, where the masks are, got {boxes.device}"
        )
    return volume, plain(boxes)


def _check_axes(masks: AnyMasks, boxes: Tensor) -> None:
    """A batch or channel axis is no spatial one."""
    if not isinstance(masks, Tensor) or not isinstance(boxes, Tensor) or boxes.ndim != 2:
        return
    if boxes.shape[1] and boxes.shape[1] % 2 == 0 and masks.ndim - 1 > boxes.shape[1] // 2:
        raise ValueError(
            f"masks must have shape (K, *spatial) with {boxes.shape[1] // 2} spatial axes for "
            f"boxes of shape {tuple(boxes.shape)}, got {tuple(masks.shape)}"
        )
