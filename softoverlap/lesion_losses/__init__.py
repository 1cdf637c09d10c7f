"""Losses that see every lesion: a region for each, and what is lost in it."""

from softoverlap.lesion_losses.lesionwise import (
    LesionwiseSoftLoss,
    weigh_by_existence,
    weigh_by_volume,
)
from softoverlap.lesion_losses.regions import LesionCells, OthersMasked, lesion_regions

__all__ = [
    "LesionCells",
    "LesionwiseSoftLoss",
    "OthersMasked",
    "lesion_regions",
    "weigh_by_existence",
    "weigh_by_volume",
]
