"""Anchors weighed by what they cover: quality matrix, matches, weights. Torch only."""

from softoverlap.anchors.best import BestBox, best_box
from softoverlap.anchors.matching import ATSSMatcher, Matches, MaxOverlapMatcher
from softoverlap.anchors.quality import anchor_quality
from softoverlap.anchors.weighting import AnchorWeighting, AnchorWeights

__all__ = [
    "ATSSMatcher",
    "AnchorWeighting",
    "AnchorWeights",
    "BestBox",
    "Matches",
    "MaxOverlapMatcher",
    "anchor_quality",
    "best_box",
]
