"""Measures: sums that add up, and their score, without MONAI and without files."""

from softoverlap.measures.agreement import BlandAltman, compute_bland_altman
from softoverlap.measures.bins import ReliabilityCurve
from softoverlap.measures.calibration import Brier, CalibrationError
from softoverlap.measures.criteria import (
    CRITERION_NOTES,
    Scan,
    any_voxel,
    centre_in_mask,
    centre_within_radius,
    centred_in,
)
from softoverlap.measures.detection import (
    FP_RATES,
    FROC,
    PDQ,
    AveragePrecision,
    AverageRecall,
    BoxAP,
    BoxAR,
    BoxFROC,
    BoxIoUErrors,
    BoxMeasure,
    BoxOutcome,
    FROCInterval,
    IoUErrors,
    OperatingPoint,
    OperatingPointInterval,
    Outcomes,
    PDQFigures,
    ScoreExistence,
    ScoreExistenceCorrelation,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_iou_errors,
    compute_pdq,
    compute_score_existence_correlation,
    match_quality,
    match_scan,
    operating_point,
    operating_rule,
)
from softoverlap.measures.detection.sizes import SizeClasses
from softoverlap.measures.dwell import (
    Dwell,
    compute_dwell,
    dwell_intervals,
    dwell_time,
    expected_dwell_time,
)
from softoverlap.measures.hit import HIT_CRITERIA, Hit, hit_of
from softoverlap.measures.inputs import MaskBatch, MaskPair, Spacing, reaches, voxel_spacing
from softoverlap.measures.lesionwise.dice import (
    LesionCounts,
    LesionwiseDice,
    compute_lesionwise_dice,
)
from softoverlap.measures.lesionwise.false_positives import FalsePositiveFigures, FalsePositives
from softoverlap.measures.lesionwise.hits import MatchedLesions, matched_lesions
from softoverlap.measures.lesionwise.maps import (
    LesionMap,
    LesionRules,
    LesionScan,
    lesion_scan,
    without_small,
)
from softoverlap.measures.lesionwise.measure import LesionMeasure
from softoverlap.measures.lesionwise.panoptic import PanopticFigures, PanopticQuality
from softoverlap.measures.lesionwise.recall import LesionRecall, RecallFigures
from softoverlap.measures.lesionwise.rows import LesionMatch, lesion_rows
from softoverlap.measures.measure import MaskMeasure, Measure, summed_together
from softoverlap.measures.near import NearMeasure
from softoverlap.measures.raters.overlap import (
    GeneralisedEnergyDistance,
    HumanCeiling,
    RaterOverlap,
)
from softoverlap.measures.soft import (
    SoftDice,
    SoftIoU,
    SoftTversky,
    compute_soft_dice,
    compute_soft_iou,
)
from softoverlap.measures.thresholds.best import BestThreshold, BestThresholdDice
from softoverlap.measures.thresholds.curve import QUBIQ_THRESHOLDS
from softoverlap.measures.thresholds.expected import ExpectedBounds, ExpectedDice, ExpectedIoU
from softoverlap.measures.thresholds.listed import ThresholdedDice, ThresholdedIoU
from softoverlap.measures.volumes import RelativeVolumeBias, VolumeBias

__all__ = [
    "CRITERION_NOTES",
    "FP_RATES",
    "FROC",
    "HIT_CRITERIA",
    "PDQ",
    "QUBIQ_THRESHOLDS",
    "AveragePrecision",
    "AverageRecall",
    "BestThreshold",
    "BestThresholdDice",
    "BlandAltman",
    "BoxAP",
    "BoxAR",
    "BoxFROC",
    "BoxIoUErrors",
    "BoxMeasure",
    "BoxOutcome",
    "Brier",
    "CalibrationError",
    "Dwell",
    "ExpectedBounds",
    "ExpectedDice",
    "ExpectedIoU",
    "FROCInterval",
    "FalsePositiveFigures",
    "FalsePositives",
    "GeneralisedEnergyDistance",
    "Hit",
    "HumanCeiling",
    "IoUErrors",
    "LesionCounts",
    "LesionMap",
    "LesionMatch",
    "LesionMeasure",
    "LesionRecall",
    "LesionRules",
    "LesionScan",
    "LesionwiseDice",
    "MaskBatch",
    "MaskMeasure",
    "MaskPair",
    "MatchedLesions",
    "Measure",
    "NearMeasure",
    "OperatingPoint",
    "OperatingPointInterval",
    "Outcomes",
    "PDQFigures",
    "PanopticFigures",
    "PanopticQuality",
    "RaterOverlap",
    "RecallFigures",
    "RelativeVolumeBias",
    "ReliabilityCurve",
    "Scan",
    "ScoreExistence",
    "ScoreExistenceCorrelation",
    "SizeClasses",
    "SoftDice",
    "SoftIoU",
    "SoftTversky",
    "Spacing",
    "ThresholdedDice",
    "ThresholdedIoU",
    "VolumeBias",
    "any_voxel",
    "centre_in_mask",
    "centre_within_radius",
    "centred_in",
    "compute_average_precision",
    "compute_average_recall",
    "compute_bland_altman",
    "compute_dwell",
    "compute_froc",
    "compute_iou_errors",
    "compute_lesionwise_dice",
    "compute_pdq",
    "compute_score_existence_correlation",
    "compute_soft_dice",
    "compute_soft_iou",
    "dwell_intervals",
    "dwell_time",
    "expected_dwell_time",
    "hit_of",
    "lesion_rows",
    "lesion_scan",
    "match_quality",
    "match_scan",
    "matched_lesions",
    "operating_point",
    "operating_rule",
    "reaches",
    "summed_together",
    "voxel_spacing",
    "without_small",
]
