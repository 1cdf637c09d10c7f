"""The columns of two masks as a whole: which measures they are, and what is pooled later."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softoverlap.app.cohort.islands import cell_maxima, windows
from softoverlap.measures import (
    QUBIQ_THRESHOLDS,
    Brier,
    CalibrationError,
    ExpectedDice,
    RelativeVolumeBias,
    SoftDice,
    SoftIoU,
    ThresholdedDice,
    ThresholdedIoU,
    VolumeBias,
    summed_together,
)

_OPTIONS: dict[str, Any] = {"ignore_empty": False, "validate": False}
_DICE, _IOU = SoftDice(**_OPTIONS), SoftIoU(**_OPTIONS)
_EXPECTED_DICE = ExpectedDice(method="histogram", **_OPTIONS)
_BIAS, _RELATIVE_BIAS = VolumeBias(validate=False), RelativeVolumeBias(validate=False)
_BRIER = Brier(validate=False)
CALIBRATION = CalibrationError(validate=False)


def _cut_measures(threshold: float) -> tuple[ThresholdedDice, ThresholdedIoU]:
    """Overlaps of masks cut at the threshold of a run and at those of QUBIQ."""
    thresholds = sorted({*QUBIQ_THRESHOLDS, threshold})
    return (
        ThresholdedDice(thresholds=thresholds, **_OPTIONS),
        ThresholdedIoU(thresholds=thresholds, **_OPTIONS),
    )


MEASURES = (
    _DICE, _IOU, _EXPECTED_DICE, *_cut_measures(QUBIQ_THRESHOLDS[0]), _BIAS, _RELATIVE_BIAS, _BRIER,
    CALIBRATION,
)  # fmt: skip
"""What the columns are computed with: results of other settings must not be mixed with these."""


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
        >>> import torch
        >>> mask = torch.full((2, 2, 2), 0.5)
        >>> columns, _ = mask_columns(mask, mask, voxel_mm3=1000.0, threshold=0.5)
        >>> columns["soft_dice"], columns["truth_volume_ml"], columns["brier"]
        (1.0, 4.0, 0.0)
    """
    cells = cell_maxima(pred.numpy()), cell_maxima(truth.numpy())
    near, bins = _near_sums(pred, truth, cells)
    masks = _marked_voxels(pred, truth, cells)
    columns = {
        **_soft_columns(*masks),
        **_cut_columns(*masks, threshold=threshold),
        "expected_dice": float(_EXPECTED_DICE(*masks)),
        **_volume_columns(*masks, voxel_mm3=voxel_mm3),
        "brier": float(_BRIER.score(near)),
        "calibration_error": float(CALIBRATION.score(bins)),
    }
    sums = {"near_voxels": float(near[0, 0, 1]), "calibration": bins[0, 0].tolist()}
    return columns, sums


def _near_sums(pred: Tensor, truth: Tensor, cells: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor]:
    """Sums near what either mask marks, a window after the other."""
    marked = (cells[0] >= CALIBRATION.union_threshold) | (cells[1] > 0)
    margin = math.ceil(CALIBRATION.reach or 0)
    totals = [torch.zeros(1, 1, measure.width).double() for measure in (_BRIER, CALIBRATION)]
    for window in windows(marked, pred.shape, margin=margin):
        batch = CALIBRATION.batch(pred[window][None, None], truth[window][None, None], None)
        for total, sums in zip(totals, summed_together([_BRIER, CALIBRATION], batch), strict=True):
            total += sums
    return totals[0], totals[1]


def _marked_voxels(
    pred: Tensor, truth: Tensor, cells: tuple[np.ndarray, ...]
) -> tuple[Tensor, Tensor]:
    """The voxels of both masks as (1, 1, voxels), without most of those where both are 0.

    These change no size, and so no measure of sizes.
    """
    parts = windows((cells[0] > 0) | (cells[1] > 0), pred.shape) or [(slice(0, 1),) * 3]
    stored = sorted(range(pred.ndim), key=pred.stride, reverse=True)
    pairs = []
    for mask in (pred, truth):
        pieces = [mask[part].permute(stored).flatten() for part in parts]
        pairs.append((pieces[0] if len(pieces) == 1 else torch.cat(pieces))[None, None])
    return pairs[0], pairs[1]


def _soft_columns(pred: Tensor, truth: Tensor) -> dict[str, float]:
    sizes = _DICE.statistics(pred, truth)
    return {"soft_dice": float(_DICE.score(sizes)), "soft_iou": float(_IOU.score(sizes))}


def _cut_columns(pred: Tensor, truth: Tensor, *, threshold: float) -> dict[str, float]:
    """Overlaps of the masks cut at the threshold and at QUBIQ's, all in one pass."""
    dice, iou = _cut_measures(threshold)
    thresholds = list(dice.thresholds)
    sizes = dice.statistics(pred, truth)
    curves = [measure.curve(sizes)[0, 0] for measure in (dice, iou)]
    own, *qubiq = (thresholds.index(level) for level in (threshold, *QUBIQ_THRESHOLDS))
    return {
        "hard_dice": float(curves[0][own]),
        "hard_iou": float(curves[1][own]),
        "thresholded_dice": float(curves[0][qubiq].mean()),
    }


def _volume_columns(pred: Tensor, truth: Tensor, *, voxel_mm3: float) -> dict[str, float]:
    volumes = _BIAS.statistics(pred, truth, spacing=(voxel_mm3,))
    pred_ml, truth_ml = volumes[0, 0].tolist()
    return {
        "pred_volume_ml": pred_ml,
        "truth_volume_ml": truth_ml,
        "volume_bias_ml": float(_BIAS.score(volumes)),
        "relative_volume_bias": float(_RELATIVE_BIAS.score(volumes)),
    }
