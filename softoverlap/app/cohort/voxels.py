"""Scores of two masks from sums over voxels, a slab at a time: a large pair needs no copies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._units import MM3_PER_ML
from softoverlap.measures.bins import bin_edges, bin_sums, calibration_error
from softoverlap.measures.mask_inputs import MaskInputs
from softoverlap.measures.near import CountedVoxels, NearVoxels
from softoverlap.measures.thresholds.curve import QUBIQ_THRESHOLDS
from softoverlap.measures.thresholds.expected import BINS, from_cells
from softoverlap.measures.thresholds.voxels import Cells, cells_between, sizes_at

VOXELS_AT_ONCE = 1 << 21
BLOCK = 96
"""Edge of the blocks, in voxels, in which distances to lesions are measured."""

CALIBRATION_BINS = 20
MARGIN = 5
"""Voxels around lesions in which calibration is measured."""

_NEAR = NearVoxels(margin=float(MARGIN))
_INPUTS = MaskInputs(True, None, None, False)


def mask_columns(
    pred: Tensor, truth: Tensor, *, voxel_mm3: float, threshold: float
) -> tuple[dict[str, float], dict[str, Any]]:
    """The columns of two masks as a whole, and the sums that calibration is pooled from.

    Where both masks are empty overlaps are 1; where the truth alone is, 0.

    Args:
        pred: Probabilities, shape (D, H, W).
        truth: Probabilities, same shape.
        voxel_mm3: Volume of a voxel in mm³.
        threshold: Lowest probability inside a hard mask.

    Returns:
        Columns by name, and sums.

    Examples:
        >>> mask = torch.full((2, 2, 2), 0.5)
        >>> columns, _ = mask_columns(mask, mask, voxel_mm3=1000.0, threshold=0.5)
        >>> columns["soft_dice"], columns["truth_volume_ml"], columns["brier"]
        (1.0, 4.0, 0.0)
    """
    sizes = soft_sizes(pred, truth)
    families = threshold_sizes(pred, truth, (*QUBIQ_THRESHOLDS, threshold))
    near = near_sums(pred, truth)
    thresholded = scores.dice(*families[:, :-1])
    columns = {
        "soft_dice": float(scores.dice(*sizes)),
        "soft_iou": float(scores.iou(*sizes)),
        "hard_dice": float(scores.dice(*families[:, -1])),
        "hard_iou": float(scores.iou(*families[:, -1])),
        "thresholded_dice": float(thresholded.mean()),
        "expected_dice": expected_dice(pred, truth),
        **volume_columns(*sizes[1:].tolist(), voxel_mm3=voxel_mm3),
        "brier": near.squared / near.counted if near.counted else math.nan,
        "calibration_error": float(calibration_error(near.bins, "expected")),
    }
    return columns, {"near_voxels": near.counted, "calibration": near.bins.tolist()}


def volume_columns(pred: float, truth: float, *, voxel_mm3: float) -> dict[str, float]:
    """Soft volumes and the bias of the prediction, from sizes in voxels.

    Examples:
        >>> volume_columns(3.0, 2.0, voxel_mm3=1000.0)["relative_volume_bias"]
        0.5
    """
    pred_ml, truth_ml = (size * voxel_mm3 / MM3_PER_ML for size in (pred, truth))
    return {
        "pred_volume_ml": pred_ml,
        "truth_volume_ml": truth_ml,
        "volume_bias_ml": pred_ml - truth_ml,
        "relative_volume_bias": (pred_ml - truth_ml) / truth_ml if truth_ml else math.nan,
    }


def soft_sizes(pred: Tensor, truth: Tensor) -> Float[Tensor, "3"]:
    """Σ of the smaller probability, of the prediction and of the truth, in float64.

    Examples:
        >>> soft_sizes(torch.tensor([0.5, 1.0]), torch.tensor([1.0, 1.0])).tolist()
        [1.5, 1.5, 2.0]
    """
    sizes = torch.zeros(3, dtype=torch.float64)
    for a, b in slabs(pred, truth):
        parts = (torch.minimum(a, b), a, b)
        sizes += torch.stack([part.sum(dtype=torch.float64) for part in parts])
    return sizes


def threshold_sizes(
    pred: Tensor, truth: Tensor, thresholds: tuple[float, ...]
) -> Float[Tensor, "3 levels"]:
    """Sizes of intersection, prediction and truth where both are cut at each threshold.

    Examples:
        >>> mask = torch.tensor([0.2, 0.6])
        >>> threshold_sizes(mask, mask, (0.5, 0.1))[0].tolist()
        [1.0, 2.0]
    """
    known, places = torch.tensor(thresholds, dtype=torch.float64).unique(return_inverse=True)
    sizes = torch.zeros(3, len(known), dtype=torch.float64)
    for a, b in slabs(pred, truth):
        sizes += sizes_at(a[None, None], b[None, None], known)[0, 0]
    return sizes[:, places]


def expected_dice(pred: Tensor, truth: Tensor) -> float:
    """`compute_expected_dice(method="histogram")`, whose histogram is summed over slabs.

    Examples:
        >>> expected_dice(torch.zeros(2), torch.zeros(2))
        1.0
    """
    top = max(float(mask.max()) for mask in (pred, truth)) if pred.numel() else 0.0
    if not top:
        return 1.0
    total: Cells | None = None
    for slab in slabs(pred, truth):
        # One more voxel that weighs nothing: every slab then has the whole pair's grid.
        a, b = (torch.cat([part.flatten(), part.new_tensor([top])]) for part in slab)
        weights = torch.ones(len(a), dtype=torch.float64)
        weights[-1] = 0
        cells = cells_between(a, b, BINS, weights)
        total = cells if total is None else _added(total, cells)
    return float(from_cells(scores.dice, total)[0]) if total is not None else 1.0


def _added(total: Cells, cells: Cells) -> Cells:
    sums = [one + other for one, other in zip(total[1:], cells[1:], strict=True)]
    return Cells(total.width, *sums)


@dataclass(frozen=True)
class NearSums:
    """What Brier score and calibration error near the lesions are made of.

    Args:
        counted: Voxels that count.
        squared: Σ squared difference of both probabilities.
        bins: Of each bin of predicted probability the voxels, Σ prediction and Σ truth, in a row.

    Examples:
        >>> NearSums(2.0, 0.5, torch.zeros(60)).squared
        0.5
    """

    counted: float
    squared: float
    bins: Float[Tensor, "width"]


def near_sums(pred: Tensor, truth: Tensor) -> NearSums:
    """Sums over the voxels within a margin of what is marked, as `compute_brier` counts them.

    Examples:
        >>> near_sums(torch.ones(1, 1, 3), torch.ones(1, 1, 3)).counted
        3.0
    """
    edges = bin_edges(CALIBRATION_BINS, pred.dtype)
    counted = squared = 0.0
    bins = torch.zeros(3 * CALIBRATION_BINS, dtype=torch.float64)
    for voxels in _near_blocks(pred, truth):
        difference = voxels.pred - voxels.truth
        counted += float(voxels.weight.sum())
        squared += float((voxels.weight * difference * difference).sum())
        bins += bin_sums(voxels, edges, False)[0, 0]
    return NearSums(counted, squared, bins)


def _near_blocks(pred: Tensor, truth: Tensor) -> Iterator[CountedVoxels]:
    """Blocks with their weights: each is looked at with its margin, then cut; empty ones not."""
    starts = [range(0, length, BLOCK) for length in pred.shape]
    for start in itertools.product(*starts):
        stop = [min(low + BLOCK, length) for low, length in zip(start, pred.shape, strict=True)]
        reach = tuple(
            slice(max(0, low - MARGIN), high + MARGIN)
            for low, high in zip(start, stop, strict=True)
        )
        parts = [mask[reach][None, None] for mask in (pred, truth)]
        if not bool((parts[1] > 0).any()) and float(parts[0].max()) < _NEAR.union_threshold:
            continue
        found = _NEAR(_INPUTS, parts[0], parts[1], mask=None)
        inner = [
            slice(low - side.start, high - side.start)
            for low, high, side in zip(start, stop, reach, strict=True)
        ]
        yield CountedVoxels(*(part[(slice(None), slice(None), *inner)] for part in found))


def slabs(*masks: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of a few million voxels, along the axis in which memory is cut in one piece."""
    for start, stop, axis in slab_ranges(masks[0]):
        yield tuple(mask.narrow(axis, start, stop - start) for mask in masks)


def slab_ranges(mask: Tensor) -> Iterator[tuple[int, int, int]]:
    """Start, stop and axis of each slab."""
    if not mask.numel():
        return
    axis = max(range(mask.ndim), key=mask.stride)
    length = mask.shape[axis]
    step = max(1, VOXELS_AT_ONCE * length // mask.numel())
    for start in range(0, length, step):
        yield start, min(start + step, length), axis
