"""MONAI metrics and their functional twins."""

from softoverlap.metrics._cumulative import MetricSummary
from softoverlap.metrics._hits import match_scan
from softoverlap.metrics.detection import (
    FROC,
    AveragePrecision,
    BoxAPMetric,
    FROCMetric,
    compute_average_precision,
    compute_froc,
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
    "AveragePrecision",
    "BoxAPMetric",
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
    "SoftDiceMetric",
    "SoftIoUMetric",
    "SoftTverskyMetric",
    "compute_average_precision",
    "compute_false_positives",
    "compute_froc",
    "compute_lesion_overlaps",
    "compute_lesion_recall",
    "compute_lesionwise_dice",
    "compute_panoptic_quality",
    "compute_soft_dice",
    "compute_soft_iou",
    "compute_soft_tversky",
    "match_scan",
]
