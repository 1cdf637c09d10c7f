"""The annotations of LIDC-IDRI: outlines of up to four raters as nodules on the scans' grids."""

from softoverlap.images.lidc.reading import read_lidc
from softoverlap.images.lidc.scan import LidcCharacteristics, LidcNodule, LidcScan

__all__ = ["LidcCharacteristics", "LidcNodule", "LidcScan", "read_lidc"]
