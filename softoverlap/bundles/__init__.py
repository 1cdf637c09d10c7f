"""Bundles of MONAI: trainings as configurations that name what is in the rooms below."""

from __future__ import annotations

from pathlib import Path

LESION_DETECTION = Path(__file__).parent / "lesion_detection"
"""The folder of the bundle that trains, judges and runs the lesion detector."""

LESION_SEGMENTATION = Path(__file__).parent / "lesion_segmentation"
"""The folder of the bundle that trains, judges and runs a U-Net."""

__all__ = ["LESION_DETECTION", "LESION_SEGMENTATION"]
