"""Simulated scans with lesions and raters, in memory."""

from softoverlap.phantoms.lesion_scans import LesionScans
from softoverlap.phantoms.phantoms import LesionPhantoms, Phantom

__all__ = ["LesionPhantoms", "LesionScans", "Phantom"]
