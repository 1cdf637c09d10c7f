"""MONAI metrics and their functional twins."""

from softoverlap.metrics.detection import (
    FROC,
    AveragePrecision,
    BoxAPMetric,
    FROCMetric,
    compute_average_precision,
    compute_froc,
)

__all__ = [
    "FROC",
    "AveragePrecision",
    "BoxAPMetric",
    "FROCMetric",
    "compute_average_precision",
    "compute_froc",
]
