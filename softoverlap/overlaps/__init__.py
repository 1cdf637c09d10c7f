"""What a user calls: geometry from `masks`, `boxes` and `mask_boxes`, one ratio from `scores`."""

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
from softoverlap.overlaps.boxes import (
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
from softoverlap.overlaps.mask_box_distances import mask_box_diou, mask_box_pair_diou
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
from softoverlap.overlaps.masks import mask_dice, mask_iou, mask_tversky
from softoverlap.overlaps.rotated import (
    rotated_box_iof,
    rotated_box_iou,
    rotated_box_pair_iof,
    rotated_box_pair_iou,
)

__all__ = [
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
    "mask_tversky",
    "rotated_box_iof",
    "rotated_box_iou",
    "rotated_box_pair_iof",
    "rotated_box_pair_iou",
]
