"""Overlap of soft masks cut at thresholds: at a list of them, over all of them, at the best one.

Soft Dice is a ratio of integrals over the threshold; the metrics here are integrals of ratios, so
that a threshold at which the masks are small counts as much as one at which they are large. A voxel
belongs to a mask at a threshold if its value is at or above it. Voxels are counted in one pass (a
histogram) or by one sort, not in one pass a threshold.
"""

from softoverlap.measures.thresholds._best import (
    BestThreshold,
    BestThresholdDiceMetric,
    compute_best_threshold_dice,
)
from softoverlap.measures.thresholds._expected_metrics import ExpectedDiceMetric, ExpectedIoUMetric
from softoverlap.measures.thresholds._listed import (
    ThresholdedDiceMetric,
    ThresholdedIoUMetric,
    compute_dice_at_thresholds,
    compute_iou_at_thresholds,
    compute_thresholded_dice,
    compute_thresholded_iou,
)
from softoverlap.measures.thresholds.expected import (
    ExpectedBounds,
    compute_expected_dice,
    compute_expected_dice_bounds,
    compute_expected_iou,
    compute_expected_iou_bounds,
)

__all__ = [
    "BestThreshold",
    "BestThresholdDiceMetric",
    "ExpectedBounds",
    "ExpectedDiceMetric",
    "ExpectedIoUMetric",
    "ThresholdedDiceMetric",
    "ThresholdedIoUMetric",
    "compute_best_threshold_dice",
    "compute_dice_at_thresholds",
    "compute_expected_dice",
    "compute_expected_dice_bounds",
    "compute_expected_iou",
    "compute_expected_iou_bounds",
    "compute_iou_at_thresholds",
    "compute_thresholded_dice",
    "compute_thresholded_iou",
]
