"""Scores over thresholds by name, and maps to score."""

from __future__ import annotations

from functools import partial

import torch

from softoverlap.for_monai import ThresholdedDiceMetric
from softoverlap.measures import (
    BestThresholdDice,
    ExpectedDice,
    ExpectedIoU,
    ThresholdedDice,
    ThresholdedIoU,
)
from tests.support.measure_forms import as_function, as_metric, with_statistics

thresholded_dice_of, thresholded_iou_of = map(as_function, (ThresholdedDice, ThresholdedIoU))
dice_curve_of = with_statistics(ThresholdedDice, "curve")
iou_curve_of = with_statistics(ThresholdedIoU, "curve")
expected_dice_of, expected_iou_of = map(as_function, (ExpectedDice, ExpectedIoU))
best_dice_of = with_statistics(partial(BestThresholdDice, thresholds=None), "best")
thresholded_iou_metric = as_metric(ThresholdedIoU)
expected_dice_metric, expected_iou_metric = map(as_metric, (ExpectedDice, ExpectedIoU))
best_dice_metric = partial(as_metric(BestThresholdDice), reduction="dataset")
LISTED = {"dice": thresholded_dice_of, "iou": thresholded_iou_of}
CURVES = {"dice": dice_curve_of, "iou": iou_curve_of}
EXPECTED = {"dice": expected_dice_of, "iou": expected_iou_of}
METRICS = [
    ThresholdedDiceMetric, thresholded_iou_metric, expected_dice_metric, expected_iou_metric,
    best_dice_metric,
]  # fmt: skip


def soft_maps(*shape, seed=0, dtype=torch.float32):
    """Maps with many zeros and values on tenths, as predictions and means of raters are."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, *shape, generator=generator, dtype=torch.float64) * 1.5 - 0.5
    maps[1] = (maps[1] * 10).round() / 10
    return maps.clamp(0, 1).to(dtype)


def row_of(*values, dtype=torch.float64):
    return torch.tensor([[values]], dtype=dtype)
