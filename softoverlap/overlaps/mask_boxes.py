"""Overlap of soft masks and real-valued boxes: Dice, IoU and Tversky, and the mass behind them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_weight
from softoverlap._types import Boxes
from softoverlap.overlaps._mask_box_scores import (
    Aligned,
    AnyMasks,
    Pairwise,
    aligned_ratios,
    all_ratios,
    in_parts,
    prepared,
    result_dtype,
)
from softoverlap.overlaps.mask_box_family import MaskBoxOverlap


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
    mass = partial(all_ratios, _mass_alone, form="mass")
    return in_parts(mass, masks, boxes, validate, at_least=torch.float32)


def mask_box_pair_mass(masks: AnyMasks, boxes: Boxes, *, validate: bool | None = None) -> Aligned:
    """Mass of mask i inside box i; see `mask_box_mass`.

    Args:
        masks: N of them, in any form that `mask_box_mass` takes.
        boxes: As many, shape (N, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Mass in voxels, shape (N,), in float32 or wider.

    Raises:
        ValueError: As `mask_box_mass`, or if masks and boxes are not as many.

    Examples:
        >>> import torch
        >>> mask_box_pair_mass(torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[1.0, 2.5]]))
        tensor([1.])
    """
    volume, moved = prepared(masks, boxes, validate)
    mass = aligned_ratios(_mass_alone, volume, moved)
    return mass.to(result_dtype(volume, boxes, torch.float32))


@partial(MaskBoxOverlap, zero_apart=True, form="dice", tversky_weights=lambda empty: (0.5, 0.5))
def mask_box_dice(mass: Tensor, volume: Tensor, size: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft Dice score of masks and boxes: `2 · mass / (size + volume)`.

    Examples:
        >>> import torch
        >>> mask, box = torch.tensor([[0.0, 0.5, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]])
        >>> mask_box_dice(mask, box), mask_box_dice.pairs(mask, box)
        (tensor([[0.8571]]), tensor([0.8571]))
    """
    return scores.dice(mass, volume, size, empty=empty)


@partial(MaskBoxOverlap, zero_apart=True, form="iou", tversky_weights=lambda empty: (1.0, 1.0))
def mask_box_iou(mass: Tensor, volume: Tensor, size: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft IoU of masks and boxes: `mass / (size + volume - mass)`.

    Examples:
        >>> import torch
        >>> mask, box = torch.tensor([[0.0, 0.5, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]])
        >>> mask_box_iou(mask, box), mask_box_iou.pairs(mask, box)
        (tensor([[0.7500]]), tensor([0.7500]))
    """
    return scores.iou(mass, volume, size, empty=empty)


@partial(
    MaskBoxOverlap,
    zero_apart=True,
    form="tversky",
    tversky_weights=lambda alpha, beta, empty: (float(alpha), float(beta)),
    check=lambda alpha, beta, empty: check_weight(alpha=alpha, beta=beta),
)
def mask_box_tversky(  # noqa: D417
    mass: Tensor,
    volume: Tensor,
    size: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    empty: float = 1.0,
) -> Tensor:
    """Soft Tversky index of masks and boxes.

    Args:
        alpha: Weight of the box outside the mask (volume - mass), at least 0.
        beta: Weight of the mask outside the box (size - mass), at least 0.

    References:
        Salehi et al., Tversky loss function for image segmentation,
        https://arxiv.org/abs/1706.05721

    Examples:
        >>> import torch
        >>> mask, box = torch.tensor([[0.0, 0.5, 1.0, 0.0]]), torch.tensor([[1.0, 3.0]])
        >>> mask_box_tversky(mask, box, alpha=0.0, beta=1.0)
        tensor([[1.]])
        >>> mask_box_tversky.with_(alpha=0.0, beta=1.0).pairs(mask, box)
        tensor([1.])
    """
    return scores.tversky(mass, volume, size, alpha=alpha, beta=beta, empty=empty)


mask_box_pair_dice, mask_box_pair_iou = mask_box_dice.pairs, mask_box_iou.pairs
mask_box_pair_tversky = mask_box_tversky.pairs


def _mass_alone(mass: Tensor, volume: Tensor, size: Tensor) -> Tensor:
    """The mass itself, as if it were a ratio."""
    return mass
