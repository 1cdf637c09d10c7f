"""MONAI metrics and their functional twins."""

from softoverlap.metrics._cumulative import MetricSummary
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
from softoverlap.metrics.false_positives import (
    FalsePositiveMetric,
    FalsePositives,
    compute_false_positives,
)
from softoverlap.metrics.lesion_overlaps import (
    LesionMatch,
    compute_lesion_overlaps,
)
from softoverlap.metrics.lesion_recall import (
    LesionRecall,
    LesionRecallMetric,
    compute_lesion_recall,
)
from softoverlap.metrics.lesionwise import (
    LesionCounts,
    LesionwiseDiceMetric,
    compute_lesionwise_dice,
)
from softoverlap.metrics.panoptic import (
    PanopticQuality,
    PanopticQualityMetric,
    compute_panoptic_quality,
)
from softoverlap.metrics.soft import (
    SoftDiceMetric,
    SoftIoUMetric,
    SoftTverskyMetric,
    compute_soft_dice,
    compute_soft_iou,
    compute_soft_tversky,
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
    "FalsePositiveMetric",
    "FalsePositives",
    "LesionCounts",
    "LesionMatch",
    "LesionRecall",
    "LesionRecallMetric",
    "LesionwiseDiceMetric",
    "MetricSummary",
    "PanopticQuality",
    "PanopticQualityMetric",
    "ScoreExistenceCorrelation",
    "ScoreExistenceMetric",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "SoftTverskyMetric",
    "compute_average_precision",
    "compute_average_recall",
    "compute_false_positives",
    "compute_froc",
    "compute_lesion_overlaps",
    "compute_lesion_recall",
    "compute_lesionwise_dice",
    "compute_panoptic_quality",
    "compute_score_existence_correlation",
    "compute_soft_dice",
    "compute_soft_iou",
    "compute_soft_tversky",
    "match_scan",
]
