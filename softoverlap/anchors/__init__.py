"""Anchors weighed and planned by what they cover: quality, matches, weights, plan. Torch only."""

from softoverlap.anchors.best import BestBox, best_box, best_box_in_image
from softoverlap.anchors.dynamic import SimOTAMatcher, TaskAlignedMatcher
from softoverlap.anchors.grid_quality import level_anchors
from softoverlap.anchors.matches import Matches
from softoverlap.anchors.matching import ATSSMatcher, MaxOverlapMatcher
from softoverlap.anchors.plan import AnchorPlan
from softoverlap.anchors.planning import level_strides, plan_anchors
from softoverlap.anchors.quality import AnchorOverlap, anchor_quality, checked_overlap
from softoverlap.anchors.weighting import AnchorWeighting, AnchorWeights

__all__ = [
    "ATSSMatcher",
    "AnchorOverlap",
    "AnchorPlan",
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
    "level_anchors",
    "level_strides",
    "plan_anchors",
]
