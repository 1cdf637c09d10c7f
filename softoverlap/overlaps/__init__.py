"""How much two sets share, each overlap as one thing: called pairwise, `.pairs` aligned.

Geometry comes from `masks`, `boxes`, `rotated` and `mask_boxes`, the ratio from `scores`.
"""

from softoverlap.overlaps.box_distances import (
    box_ciou,
    box_diou,
    box_eiou,
    box_nwd,
    box_pair_ciou,
    box_pair_diou,
    box_pair_eiou,
    box_pair_nwd,
)
from softoverlap.overlaps.box_family import BoxLikeOverlap, BoxOverlap, RotatedBoxOverlap, Terms
from softoverlap.overlaps.boxes import (
    best_iou_of_size,
    box_dice,
    box_giou,
    box_iof,
    box_iou,
    box_pair_dice,
    box_pair_giou,
    box_pair_iof,
    box_pair_iou,
    box_volume,
)
from softoverlap.overlaps.mask_box_distances import (
    distance_penalty,
    mask_box_diou,
    mask_box_pair_diou,
)
from softoverlap.overlaps.mask_box_family import AnyMasks, MaskBoxOverlap
from softoverlap.overlaps.mask_boxes import (
    mask_box_dice,
    mask_box_iou,
    mask_box_mass,
    mask_box_pair_dice,
    mask_box_pair_iou,
    mask_box_pair_mass,
    mask_box_pair_tversky,
    mask_box_tversky,
)
from softoverlap.overlaps.masks import MaskOverlap, mask_dice, mask_iou, mask_tversky
from softoverlap.overlaps.overlap import Form, Overlap, overlap_named, overlap_names
from softoverlap.overlaps.rotated import (
    rotated_box_iof,
    rotated_box_iou,
    rotated_box_pair_iof,
    rotated_box_pair_iou,
)
from softoverlap.overlaps.soft_boxes import (
    SoftBoxOverlap,
    mask_soft_box_mass,
    soft_box_dice,
    soft_box_iou,
    soft_box_mass,
    soft_box_pair_dice,
    soft_box_pair_iou,
)

__all__ = [
    "AnyMasks",
    "BoxLikeOverlap",
    "BoxOverlap",
    "Form",
    "MaskBoxOverlap",
    "MaskOverlap",
    "Overlap",
    "RotatedBoxOverlap",
    "SoftBoxOverlap",
    "Terms",
    "best_iou_of_size",
    "box_ciou",
    "box_dice",
    "box_diou",
    "box_eiou",
    "box_giou",
    "box_iof",
    "box_iou",
    "box_nwd",
    "box_pair_ciou",
    "box_pair_dice",
    "box_pair_diou",
    "box_pair_eiou",
    "box_pair_giou",
    "box_pair_iof",
    "box_pair_iou",
    "box_pair_nwd",
    "box_volume",
    "distance_penalty",
    "mask_box_dice",
    "mask_box_diou",
    "mask_box_iou",
    "mask_box_mass",
    "mask_box_pair_dice",
    "mask_box_pair_diou",
    "mask_box_pair_iou",
    "mask_box_pair_mass",
    "mask_box_pair_tversky",
    "mask_box_tversky",
    "mask_dice",
    "mask_iou",
    "mask_soft_box_mass",
    "mask_tversky",
    "overlap_named",
    "overlap_names",
    "rotated_box_iof",
    "rotated_box_iou",
    "rotated_box_pair_iof",
    "rotated_box_pair_iou",
    "soft_box_dice",
    "soft_box_iou",
    "soft_box_mass",
    "soft_box_pair_dice",
    "soft_box_pair_iou",
]
