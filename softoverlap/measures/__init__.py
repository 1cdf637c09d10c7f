"""MONAI metrics and their functional twins."""

from softoverlap.measures._cumulative import MetricSummary
from softoverlap.measures.agreement import BlandAltman, compute_bland_altman
from softoverlap.measures.bins import ReliabilityCurve
from softoverlap.measures.calibration import (
    BrierMetric,
    CalibrationErrorMetric,
    compute_brier,
    compute_calibration_error,
)
from softoverlap.measures.detection import (
    FP_RATES,
    FROC,
    AveragePrecision,
    AverageRecall,
    BoxAP,
    BoxAPMetric,
    BoxAR,
    BoxFROC,
    BoxOutcome,
    FROCInterval,
    FROCMetric,
    Outcomes,
    OutcomesMetric,
    ScoreExistence,
    ScoreExistenceCorrelation,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_score_existence_correlation,
    match_quality,
    match_scan,
)
from softoverlap.measures.hit import HIT_CRITERIA, Hit, Scan, centre_in_mask
from softoverlap.measures.lesionwise.dice import (
    LesionCounts,
    LesionwiseDiceMetric,
    compute_lesionwise_dice,
)
from softoverlap.measures.lesionwise.false_positives import (
    FalsePositiveMetric,
    FalsePositives,
    compute_false_positives,
)
from softoverlap.measures.lesionwise.hits import any_voxel
from softoverlap.measures.lesionwise.overlaps import LesionMatch, compute_lesion_overlaps
from softoverlap.measures.lesionwise.panoptic import (
    PanopticQuality,
    PanopticQualityMetric,
    compute_panoptic_quality,
)
from softoverlap.measures.lesionwise.recall import (
    LesionRecall,
    LesionRecallMetric,
    compute_lesion_recall,
)
from softoverlap.measures.raters.overlap import (
    GeneralisedEnergyDistanceMetric,
    HumanCeilingMetric,
    RaterOverlapMetric,
    compute_generalised_energy_distance,
    compute_human_ceiling,
    compute_rater_overlap,
)
from softoverlap.measures.soft import (
    SoftDiceMetric,
    SoftIoUMetric,
    SoftTverskyMetric,
    compute_soft_dice,
    compute_soft_iou,
    compute_soft_tversky,
)
from softoverlap.measures.surfaces import (
    ThresholdedHausdorffMetric,
    ThresholdedSurfaceDiceMetric,
    compute_thresholded_hausdorff,
    compute_thresholded_surface_dice,
)
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
from softoverlap.measures.volumes import (
    RelativeVolumeBiasMetric,
    VolumeBiasMetric,
    compute_relative_volume_bias,
    compute_volume_bias,
)

__all__ = [
    "FP_RATES",
    "FROC",
    "HIT_CRITERIA",
    "AveragePrecision",
    "AverageRecall",
    "BestThreshold",
    "BestThresholdDiceMetric",
    "BlandAltman",
    "BoxAP",
    "BoxAPMetric",
    "BoxAR",
    "BoxFROC",
    "BoxOutcome",
    "BrierMetric",
    "CalibrationErrorMetric",
    "ExpectedBounds",
    "ExpectedDiceMetric",
    "ExpectedIoUMetric",
    "FROCInterval",
    "FROCMetric",
    "FalsePositiveMetric",
    "FalsePositives",
    "GeneralisedEnergyDistanceMetric",
    "Hit",
    "HumanCeilingMetric",
    "LesionCounts",
    "LesionMatch",
    "LesionRecall",
    "LesionRecallMetric",
    "LesionwiseDiceMetric",
    "MetricSummary",
    "Outcomes",
    "OutcomesMetric",
    "PanopticQuality",
    "PanopticQualityMetric",
    "RaterOverlapMetric",
    "RelativeVolumeBiasMetric",
    "ReliabilityCurve",
    "Scan",
    "ScoreExistence",
    "ScoreExistenceCorrelation",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "SoftTverskyMetric",
    "ThresholdedDiceMetric",
    "ThresholdedHausdorffMetric",
    "ThresholdedIoUMetric",
    "ThresholdedSurfaceDiceMetric",
    "VolumeBiasMetric",
    "any_voxel",
    "centre_in_mask",
    "compute_average_precision",
    "compute_average_recall",
    "compute_best_threshold_dice",
    "compute_bland_altman",
    "compute_brier",
    "compute_calibration_error",
    "compute_dice_at_thresholds",
    "compute_expected_dice",
    "compute_expected_dice_bounds",
    "compute_expected_iou",
    "compute_expected_iou_bounds",
    "compute_false_positives",
    "compute_froc",
    "compute_generalised_energy_distance",
    "compute_human_ceiling",
    "compute_iou_at_thresholds",
    "compute_lesion_overlaps",
    "compute_lesion_recall",
    "compute_lesionwise_dice",
    "compute_panoptic_quality",
    "compute_rater_overlap",
    "compute_relative_volume_bias",
    "compute_score_existence_correlation",
    "compute_soft_dice",
    "compute_soft_iou",
    "compute_soft_tversky",
    "compute_thresholded_dice",
    "compute_thresholded_hausdorff",
    "compute_thresholded_iou",
    "compute_thresholded_surface_dice",
    "compute_volume_bias",
    "match_quality",
    "match_scan",
]
