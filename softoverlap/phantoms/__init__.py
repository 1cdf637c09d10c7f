"""Simulated scans with lesions and raters, in memory."""

from softoverlap.phantoms.phantoms import LesionPhantoms, Phantom

__all__ = ["LesionPhantoms", "Phantom"]
