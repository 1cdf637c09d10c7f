"""Trainers for nnU-Net, which finds them through a folder; without nnU-Net nothing imports them."""

from pathlib import Path

TRAINERS_FOLDER = Path(__file__).parent / "external_trainers"
"""What `nnUNet_extTrainer` names: nnU-Net imports its files by themselves, not as this package."""

__all__ = ["TRAINERS_FOLDER"]
