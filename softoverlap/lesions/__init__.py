"""Lesions of a soft mask, fusion of raters' masks, and a simple baseline."""

from softoverlap.lesions.baseline import threshold_boxes
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

__all__ = [
    "FUSION_METHODS",
    "StapleResult",
    "check_low",
    "component_maps",
    "distances",
    "fuse_raters",
    "labelled_lesions",
    "lesions_from_mask",
    "looked_up",
    "marked_voxels",
    "neighbourhood",
    "numbered",
    "slabs",
    "staple",
    "threshold_boxes",
]
