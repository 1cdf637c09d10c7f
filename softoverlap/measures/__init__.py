"""MONAI metrics and their functional twins."""

from softoverlap.measures.agreement import BlandAltman, compute_bland_altman
from softoverlap.measures.bins import ReliabilityCurve
from softoverlap.measures.calibration import Brier, CalibrationError
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
from softoverlap.measures.detection.froc import FROCMetric, compute_froc
from softoverlap.measures.detection.hits import HIT_CRITERIA
from softoverlap.measures.detection.score_existence import (
    ScoreExistenceCorrelation,
    ScoreExistenceMetric,
    compute_score_existence_correlation,
)
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
from softoverlap.measures.measure import Measure, summed_together
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
from softoverlap.measures.surfaces import (
    ThresholdedHausdorffMetric,
    ThresholdedSurfaceDiceMetric,
    compute_thresholded_hausdorff,
    compute_thresholded_surface_dice,
)
from softoverlap.measures.thresholds.best import BestThreshold, BestThresholdDice
from softoverlap.measures.thresholds.curve import QUBIQ_THRESHOLDS
from softoverlap.measures.thresholds.expected import ExpectedBounds, ExpectedDice, ExpectedIoU
from softoverlap.measures.thresholds.listed import ThresholdedDice, ThresholdedIoU
from softoverlap.measures.volumes import RelativeVolumeBias, VolumeBias

__all__ = [
    "FROC",
    "HIT_CRITERIA",
    "QUBIQ_THRESHOLDS",
    "AveragePrecision",
    "AverageRecall",
    "BestThreshold",
    "BestThresholdDice",
    "BlandAltman",
    "BoxAPMetric",
    "BoxARMetric",
    "Brier",
    "CalibrationError",
    "ExpectedBounds",
    "ExpectedDice",
    "ExpectedIoU",
    "FROCInterval",
    "FROCMetric",
    "FalsePositiveMetric",
    "FalsePositives",
    "GeneralisedEnergyDistance",
    "HumanCeiling",
    "LesionCounts",
    "LesionMatch",
    "LesionRecall",
    "LesionRecallMetric",
    "LesionwiseDiceMetric",
    "Measure",
    "PanopticQuality",
    "PanopticQualityMetric",
    "RaterOverlap",
    "RelativeVolumeBias",
    "ReliabilityCurve",
    "ScoreExistenceCorrelation",
    "ScoreExistenceMetric",
    "SoftDice",
    "SoftIoU",
    "SoftTversky",
    "ThresholdedDice",
    "ThresholdedHausdorffMetric",
    "ThresholdedIoU",
    "ThresholdedSurfaceDiceMetric",
    "VolumeBias",
    "compute_average_precision",
    "compute_average_recall",
    "compute_bland_altman",
    "compute_false_positives",
    "compute_froc",
    "compute_lesion_overlaps",
    "compute_lesion_recall",
    "compute_lesionwise_dice",
    "compute_panoptic_quality",
    "compute_score_existence_correlation",
    "compute_soft_dice",
    "compute_soft_iou",
    "compute_thresholded_hausdorff",
    "compute_thresholded_surface_dice",
    "match_scan",
    "summed_together",
]
