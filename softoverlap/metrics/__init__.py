"""MONAI metrics and their functional twins."""

from softoverlap.metrics.detection import (
    FROC,
    HIT_CRITERIA,
    AveragePrecision,
    AverageRecall,
    BoxAPMetric,
    BoxARMetric,
    FROCInterval,
    FROCMetric,
    ScoreExistenceCorrelation,
    ScoreExistenceMetric,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_score_existence_correlation,
    match_scan,
)
from softoverlap.metrics.soft import (
    SoftDiceMetric,
    SoftIoUMetric,
    compute_soft_dice,
    compute_soft_iou,
)

__all__ = [
    "FROC",
    "HIT_CRITERIA",
    "AveragePrecision",
    "AverageRecall",
    "BoxAPMetric",
    "BoxARMetric",
    "FROCInterval",
    "FROCMetric",
    "ScoreExistenceCorrelation",
    "ScoreExistenceMetric",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "compute_average_precision",
    "compute_average_recall",
    "compute_froc",
    "compute_score_existence_correlation",
    "compute_soft_dice",
    "compute_soft_iou",
    "match_scan",
]
