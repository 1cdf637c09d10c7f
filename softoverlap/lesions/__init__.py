"""Lesions of a soft mask and their scores, fusion of raters' masks, and a simple baseline."""

from softoverlap.lesions.baseline import threshold_boxes
from softoverlap.lesions.calibration import LesionCalibration
from softoverlap.lesions.candidates import (
    HaloDice,
    LesionCandidate,
    LesionScore,
    MassAboveBackground,
    MaxProbability,
    MeanProbability,
    lesion_candidates,
)
from softoverlap.lesions.components import (
    check_low,
    component_maps,
    labelled_lesions,
    lesions_from_mask,
    looked_up,
    marked_voxels,
    neighbourhood,
)
from softoverlap.lesions.fast import distances, numbered
from softoverlap.lesions.nearest import slabs
from softoverlap.lesions.raters import FUSION_METHODS, StapleResult, fuse_raters, staple
from softoverlap.lesions.scoring import LesionScores, lesion_scores

__all__ = [
    "FUSION_METHODS",
    "HaloDice",
    "LesionCalibration",
    "LesionCandidate",
    "LesionScore",
    "LesionScores",
    "MassAboveBackground",
    "MaxProbability",
    "MeanProbability",
    "StapleResult",
    "check_low",
    "component_maps",
    "distances",
    "fuse_raters",
    "labelled_lesions",
    "lesion_candidates",
    "lesion_scores",
    "lesions_from_mask",
    "looked_up",
    "marked_voxels",
    "neighbourhood",
    "numbered",
    "slabs",
    "staple",
    "threshold_boxes",
]
