"""A scan of LIDC-IDRI and its nodules, with the masks of their raters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor

from softoverlap.images.lidc.outlines import RATERS
from softoverlap.lesion import Lesion, centre_of_mass

EDGE = 512
"""Pixels along both edges of a slice."""


class LidcCharacteristics(NamedTuple):
    """What one rater says of a nodule, each from 1 to 5.

    Examples:
        >>> LidcCharacteristics(5, 4, 4, 1, 1, 5, 3).malignancy
        3
    """

    subtlety: int
    sphericity: int
    margin: int
    lobulation: int
    spiculation: int
    texture: int
    malignancy: int


@dataclass(frozen=True, eq=False)
class LidcNodule:
    """A nodule of at least 3 mm, as one to four of a scan's four raters outlined it.

    The raters of a scan are not identified: the first of one nodule need not be the first of
    another. Up to four outlines each count as another rater's, though two may be parts that one
    person drew; of more, parts are put together (`read_lidc`), with what was said of the largest.
    An outline so thin that it encloses nothing is that of a rater with an empty mask, who counts
    for the existence.

    Args:
        raters: The voxels that each outline encloses, shape (4, X, Y, Z), in a crop of the scan's
            grid that is tight around them; if there are none, the crop is that of the outlines. The
            last masks, of raters who did not outline the nodule, are empty.
        offset: Index of the crop's first voxel in the scan.
        characteristics: What each rater said who outlined it, in the order of `raters`.
        spacing: Edge lengths of a voxel in mm.

    Examples:
        >>> said = LidcCharacteristics(5, 4, 4, 1, 1, 5, 3)
        >>> marks = torch.zeros(4, 4, 4, 2, dtype=torch.bool)
        >>> marks[:2] = True
        >>> nodule = LidcNodule(marks, (250, 200, 9), (said, said), (0.7, 0.7, 2.5))
        >>> nodule.existence, nodule.lesion.crop.max().item()
        (0.5, 0.5)
    """

    raters: Bool[Tensor, "4 x y z"]
    offset: tuple[int, int, int]
    characteristics: tuple[LidcCharacteristics, ...]
    spacing: tuple[float, float, float]

    @property
    def existence(self) -> float:
        """Share of the scan's four raters that outlined the nodule."""
        return len(self.characteristics) / RATERS

    @property
    def lesion(self) -> Lesion:
        """The nodule with a soft crop: the share of the scan's four raters at each voxel.

        Where no outline encloses a voxel the crop is 0, and so is the volume; box and centre are
        then those of the outlines.
        """
        crop = self.raters.sum(dim=0) / RATERS
        low = torch.tensor(self.offset)
        weights = crop if crop.any() else torch.ones_like(crop)
        return Lesion(
            box=torch.cat([low, low + torch.tensor(crop.shape)]).float(),
            crop=crop,
            offset=low,
            centre=(centre_of_mass(weights) + low).float(),
            volume_mm3=float(crop.double().sum()) * math.prod(self.spacing),
            existence=self.existence,
        )


@dataclass(frozen=True, eq=False)
class LidcScan:
    """A CT scan of LIDC-IDRI without its voxels: its grid, and what four raters outlined on it.

    Axes are those of a DICOM series as NIfTI: x (the column, towards the patient's left), y (the
    row, towards the back), z (the slice, towards the head). Where x and y begin is not known: the
    affine puts the centre of the slices at 0.

    Args:
        patient_id: The patient, such as `"LIDC-IDRI-0078"`; some have two scans.
        scan_id: Number of the scan in the data base.
        series_uid: DICOM's identifier of the series, by which its voxels are found; empty if the
            data base has none.
        spacing: Edge lengths of a voxel in mm; the last is the median distance of two slices.
        z: Position of each slice in mm, ascending.
        nodules: What was outlined, in the order of the data base.

    Examples:
        >>> scan = LidcScan("LIDC-IDRI-0001", 1, "", (0.7, 0.7, 2.5), (-5.0, -2.5, 1.0), ())
        >>> scan.shape, scan.uneven_mm
        ((512, 512, 3), 1.0)
    """

    patient_id: str
    scan_id: int
    series_uid: str
    spacing: tuple[float, float, float]
    z: tuple[float, ...]
    nodules: tuple[LidcNodule, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        return EDGE, EDGE, len(self.z)

    @property
    def affine(self) -> Float64[Tensor, "4 4"]:
        """Voxel indices to RAS mm of voxel centres; slices are taken as even."""
        affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
        affine[:3, :3] *= torch.tensor(self.spacing, dtype=torch.float64)
        affine[:2, 3] = (EDGE - 1) / 2 * self.spacing[0]
        affine[2, 3] = self.z[0]
        return affine

    @property
    def uneven_mm(self) -> float:
        """Largest distance of a slice from where the affine puts it, in mm; 0 for even slices."""
        even = self.z[0] + np.arange(len(self.z)) * self.spacing[2]
        return float(np.abs(np.asarray(self.z) - even).max())

    def raters(self) -> UInt8[Tensor, "4 x y z"]:
        """Four masks of the whole scan, 0 or 1, made anew: 4 bytes a voxel.

        The first holds the first outline of each nodule, and so on; see `LidcNodule` on what that
        says of persons.
        """
        masks = torch.zeros(RATERS, *self.shape, dtype=torch.uint8)
        for nodule in self.nodules:
            edges = zip(nodule.offset, nodule.raters.shape[1:], strict=True)
            window = tuple(slice(first, first + size) for first, size in edges)
            masks[(slice(None), *window)] |= nodule.raters
        return masks

    def mask(self) -> Float32[Tensor, "x y z"]:
        """The share of the four raters at each voxel, made anew: `raters()` and as much again."""
        return self.raters().sum(dim=0, dtype=torch.uint8) / RATERS
