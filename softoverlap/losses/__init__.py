"""Losses: one minus an overlap. No MONAI import; reductions are plain strings."""

from softoverlap.losses.masks import SoftDiceCELoss, SoftDiceLoss, SoftIoULoss, SoftTverskyLoss

__all__ = ["SoftDiceCELoss", "SoftDiceLoss", "SoftIoULoss", "SoftTverskyLoss"]
