"""What a user calls: geometry from `masks`, `boxes` and `mask_boxes`, one ratio from `scores`."""

from softoverlap.overlaps.boxes import (
    box_dice,
    box_giou,
    box_iou,
    box_pair_dice,
    box_pair_giou,
    box_pair_iou,
    box_volume,
)
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

__all__ = [
    "box_dice",
    "box_giou",
    "box_iou",
    "box_pair_dice",
    "box_pair_giou",
    "box_pair_iou",
    "box_volume",
    "mask_box_dice",
    "mask_box_iou",
    "mask_box_mass",
    "mask_box_pair_dice",
    "mask_box_pair_iou",
    "mask_box_pair_mass",
    "mask_box_pair_tversky",
    "mask_box_tversky",
    "mask_dice",
    "mask_iou",
    "mask_tversky",
]
