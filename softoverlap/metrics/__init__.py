"""MONAI metrics and their functional twins."""

from softoverlap.metrics._hits import match_scan
from softoverlap.metrics.detection import (
    FROC,
    AveragePrecision,
    BoxAPMetric,
    FROCMetric,
    compute_average_precision,
    compute_froc,
)
from softoverlap.metrics.soft import (
    SoftDiceMetric,
    SoftIoUMetric,
    compute_soft_dice,
    compute_soft_iou,
)

__all__ = [
    "FROC",
    "AveragePrecision",
    "BoxAPMetric",
    "FROCMetric",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "compute_average_precision",
    "compute_froc",
    "compute_soft_dice",
    "compute_soft_iou",
    "match_scan",
]
