"""MONAI metrics and their functional twins."""

from softoverlap.metrics._bins import ReliabilityCurve
from softoverlap.metrics._cumulative import MetricSummary
from softoverlap.metrics._hits import match_scan
from softoverlap.metrics.agreement import (
    BlandAltman,
    compute_bland_altman,
)
from softoverlap.metrics.calibration import (
    BrierMetric,
    CalibrationErrorMetric,
    compute_brier,
    compute_calibration_error,
)
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
    SoftTverskyMetric,
    compute_soft_dice,
    compute_soft_iou,
    compute_soft_tversky,
)
from softoverlap.metrics.surfaces import (
    ThresholdedHausdorffMetric,
    ThresholdedSurfaceDiceMetric,
    compute_thresholded_hausdorff,
    compute_thresholded_surface_dice,
)
from softoverlap.metrics.volumes import (
    RelativeVolumeBiasMetric,
    VolumeBiasMetric,
    compute_relative_volume_bias,
    compute_volume_bias,
)

__all__ = [
    "FROC",
    "AveragePrecision",
    "BlandAltman",
    "BoxAPMetric",
    "BrierMetric",
    "CalibrationErrorMetric",
    "FROCMetric",
    "MetricSummary",
    "RelativeVolumeBiasMetric",
    "ReliabilityCurve",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "SoftTverskyMetric",
    "ThresholdedHausdorffMetric",
    "ThresholdedSurfaceDiceMetric",
    "VolumeBiasMetric",
    "compute_average_precision",
    "compute_bland_altman",
    "compute_brier",
    "compute_calibration_error",
    "compute_froc",
    "compute_relative_volume_bias",
    "compute_soft_dice",
    "compute_soft_iou",
    "compute_soft_tversky",
    "compute_thresholded_hausdorff",
    "compute_thresholded_surface_dice",
    "compute_volume_bias",
    "match_scan",
]
