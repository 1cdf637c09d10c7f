"""The metrics of found boxes in one place: FROC, average precision and recall, rank correlation."""

from softoverlap.measures.detection._froc import FROC, FROCInterval
from softoverlap.measures.detection._hits import match_scan
from softoverlap.measures.detection.average_precision import (
    AveragePrecision,
    BoxAPMetric,
    compute_average_precision,
)
from softoverlap.measures.detection.average_recall import (
    AverageRecall,
    BoxARMetric,
    compute_average_recall,
)
from softoverlap.measures.detection.froc import FP_RATES, FROCMetric, compute_froc
from softoverlap.measures.detection.hits import HIT_CRITERIA, Hit, Scan
from softoverlap.measures.detection.score_existence import (
    ScoreExistenceCorrelation,
    ScoreExistenceMetric,
    compute_score_existence_correlation,
)

__all__ = [
    "FP_RATES",
    "FROC",
    "HIT_CRITERIA",
    "AveragePrecision",
    "AverageRecall",
    "BoxAPMetric",
    "BoxARMetric",
    "FROCInterval",
    "FROCMetric",
    "Hit",
    "Scan",
    "ScoreExistenceCorrelation",
    "ScoreExistenceMetric",
    "compute_average_precision",
    "compute_average_recall",
    "compute_froc",
    "compute_score_existence_correlation",
    "match_scan",
]
