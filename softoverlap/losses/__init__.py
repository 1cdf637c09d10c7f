"""Losses: one minus an overlap. No MONAI import; reductions are plain strings."""

from softoverlap.losses._regions import RegionSums, region_sums
from softoverlap.losses.amodal import AmodalBoxLoss
from softoverlap.losses.boxes import (
    BoxCIoULoss,
    BoxDIoULoss,
    BoxEIoULoss,
    BoxGIoULoss,
    BoxIoULoss,
    BoxLoss,
    BoxNWDLoss,
    RotatedBoxDIoULoss,
    RotatedBoxGIoULoss,
    RotatedBoxIoULoss,
)
from softoverlap.losses.calibration import SoftCalibrationLoss
from softoverlap.losses.coarse_to_fine import CoarseToFineBoxLoss
from softoverlap.losses.dice_ce import SoftDiceCELoss
from softoverlap.losses.focal import SoftDiceFocalLoss
from softoverlap.losses.generalized import SoftGeneralizedDiceLoss
from softoverlap.losses.mask_boxes import MaskBoxDiceLoss, MaskBoxIoULoss, MaskBoxLoss
from softoverlap.losses.masks import MaskLoss, SoftDiceLoss, SoftIoULoss, SoftTverskyLoss
from softoverlap.losses.priors import PairwiseAffinityLoss, SizePriorLoss
from softoverlap.losses.projection import BoxProjectionLoss
from softoverlap.losses.quality import QualityFocalLoss, VarifocalLoss, iou_aware_score
from softoverlap.losses.soft_boxes import SoftBoxCRPSLoss, SoftBoxIoULoss

__all__ = [
    "AmodalBoxLoss",
    "BoxCIoULoss",
    "BoxDIoULoss",
    "BoxEIoULoss",
    "BoxGIoULoss",
    "BoxIoULoss",
    "BoxLoss",
    "BoxNWDLoss",
    "BoxProjectionLoss",
    "CoarseToFineBoxLoss",
    "MaskBoxDiceLoss",
    "MaskBoxIoULoss",
    "MaskBoxLoss",
    "MaskLoss",
    "PairwiseAffinityLoss",
    "QualityFocalLoss",
    "RegionSums",
    "RotatedBoxDIoULoss",
    "RotatedBoxGIoULoss",
    "RotatedBoxIoULoss",
    "SizePriorLoss",
    "SoftBoxCRPSLoss",
    "SoftBoxIoULoss",
    "SoftCalibrationLoss",
    "SoftDiceCELoss",
    "SoftDiceFocalLoss",
    "SoftDiceLoss",
    "SoftGeneralizedDiceLoss",
    "SoftIoULoss",
    "SoftTverskyLoss",
    "VarifocalLoss",
    "iou_aware_score",
    "region_sums",
]
