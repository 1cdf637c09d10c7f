"""Anchors weighed by what they cover: quality matrix, matches, weights. Torch only."""

from softoverlap.anchors.best import BestBox, best_box, best_box_in_image
from softoverlap.anchors.dynamic import SimOTAMatcher, TaskAlignedMatcher
from softoverlap.anchors.matches import Matches
from softoverlap.anchors.matching import ATSSMatcher, MaxOverlapMatcher
from softoverlap.anchors.quality import AnchorOverlap, anchor_quality, checked_overlap
from softoverlap.anchors.weighting import AnchorWeighting, AnchorWeights

__all__ = [
    "ATSSMatcher",
    "AnchorOverlap",
    "AnchorWeighting",
    "AnchorWeights",
    "BestBox",
    "Matches",
    "MaxOverlapMatcher",
    "SimOTAMatcher",
    "TaskAlignedMatcher",
    "anchor_quality",
    "best_box",
    "best_box_in_image",
    "checked_overlap",
]
