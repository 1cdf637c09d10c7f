"""Lesions of a soft mask: its components, the masks of raters fused, a plain baseline."""

from softoverlap.lesions.baseline import threshold_boxes
from softoverlap.lesions.components import lesions_from_mask
from softoverlap.lesions.raters import Staple, fuse_raters, staple

__all__ = ["Staple", "fuse_raters", "lesions_from_mask", "staple", "threshold_boxes"]
