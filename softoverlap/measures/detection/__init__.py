"""Measures of found boxes: FROC, average precision and recall, errors, PDQ, rank correlation."""

from softoverlap.measures.detection._curves import FROC, FROCInterval
from softoverlap.measures.detection.average_precision import (
    AveragePrecision,
    BoxAP,
    compute_average_precision,
)
from softoverlap.measures.detection.average_recall import (
    AverageRecall,
    BoxAR,
    compute_average_recall,
)
from softoverlap.measures.detection.froc import FP_RATES, BoxFROC, compute_froc
from softoverlap.measures.detection.iou_errors import BoxIoUErrors, IoUErrors, compute_iou_errors
from softoverlap.measures.detection.matching import match_quality, match_scan
from softoverlap.measures.detection.measure import BoxMeasure
from softoverlap.measures.detection.operating_point import (
    OperatingPoint,
    OperatingPointInterval,
    operating_point,
    operating_rule,
)
from softoverlap.measures.detection.outcomes import BoxOutcome, Outcomes
from softoverlap.measures.detection.pdq import PDQ, PDQFigures, compute_pdq
from softoverlap.measures.detection.score_existence import (
    ScoreExistence,
    ScoreExistenceCorrelation,
    compute_score_existence_correlation,
)

__all__ = [
    "FP_RATES",
    "FROC",
    "PDQ",
    "AveragePrecision",
    "AverageRecall",
    "BoxAP",
    "BoxAR",
    "BoxFROC",
    "BoxIoUErrors",
    "BoxMeasure",
    "BoxOutcome",
    "FROCInterval",
    "IoUErrors",
    "OperatingPoint",
    "OperatingPointInterval",
    "Outcomes",
    "PDQFigures",
    "ScoreExistence",
    "ScoreExistenceCorrelation",
    "compute_average_precision",
    "compute_average_recall",
    "compute_froc",
    "compute_iou_errors",
    "compute_pdq",
    "compute_score_existence_correlation",
    "match_quality",
    "match_scan",
    "operating_point",
    "operating_rule",
]
