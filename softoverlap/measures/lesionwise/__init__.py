"""Lesion by lesion: lesion-wise Dice, rows, recall, false positives, panoptic quality.

Lesions are connected components at a stated threshold, and keep their soft edges in every sum.
"""

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

__all__ = [
    "FalsePositiveMetric",
    "FalsePositives",
    "LesionCounts",
    "LesionMatch",
    "LesionRecall",
    "LesionRecallMetric",
    "LesionwiseDiceMetric",
    "PanopticQuality",
    "PanopticQualityMetric",
    "compute_false_positives",
    "compute_lesion_overlaps",
    "compute_lesion_recall",
    "compute_lesionwise_dice",
    "compute_panoptic_quality",
]
