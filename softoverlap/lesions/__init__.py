"""Lesions of a soft mask, fusion of raters' masks, and a simple baseline."""

from softoverlap.lesions.baseline import threshold_boxes
from softoverlap.lesions.components import (
    check_low,
    component_maps,
    lesions_from_mask,
    marked_voxels,
    neighbourhood,
)
from softoverlap.lesions.raters import FUSION_METHODS, StapleResult, fuse_raters, staple

__all__ = [
    "FUSION_METHODS",
    "StapleResult",
    "check_low",
    "component_maps",
    "fuse_raters",
    "lesions_from_mask",
    "marked_voxels",
    "neighbourhood",
    "staple",
    "threshold_boxes",
]
