"""The columns of two masks as a whole: which measures they are, and what is pooled later."""

from __future__ import annotations

from typing import Any

from torch import Tensor

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
    masks = pred[None, None], truth[None, None]
    near, bins = summed_together([_BRIER, CALIBRATION], CALIBRATION.batch(*masks, None))
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
    volumes = _BIAS.statistics(pred, truth, spacing=(voxel_mm3, 1.0, 1.0))
    pred_ml, truth_ml = volumes[0, 0].tolist()
    return {
        "pred_volume_ml": pred_ml,
        "truth_volume_ml": truth_ml,
        "volume_bias_ml": float(_BIAS.score(volumes)),
        "relative_volume_bias": float(_RELATIVE_BIAS.score(volumes)),
    }
