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
from softoverlap.metrics.raters import (
    GeneralisedEnergyDistanceMetric,
    HumanCeilingMetric,
    RaterOverlapMetric,
    compute_generalised_energy_distance,
    compute_human_ceiling,
    compute_rater_overlap,
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
    "GeneralisedEnergyDistanceMetric",
    "HumanCeilingMetric",
    "MetricSummary",
    "RaterOverlapMetric",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "SoftTverskyMetric",
    "compute_average_precision",
    "compute_froc",
    "compute_generalised_energy_distance",
    "compute_human_ceiling",
    "compute_rater_overlap",
    "compute_soft_dice",
    "compute_soft_iou",
    "compute_soft_tversky",
    "match_scan",
]
