"""The affine of the boxes in a file: from the file, the caller, or the scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap.images._itk import READERS, read_itk_grid
from softoverlap.images._nibabel import opened, unreadable
from softoverlap.images.formats.record import BoxFile, Hints, bare_name, case_of
from softoverlap.images.geometry import check_affine
from softoverlap.images.images import IMAGE_SUFFIXES, load_image
from softoverlap.images.nifti import affine_in_mm, is_nifti_name
from softoverlap.images.noted import warned
from softoverlap.images.sources import is_dicom_folder

_SAME_MM = 1e-4
"""Affines that differ by less are the same: NIfTI stores them in float32."""


@dataclass(frozen=True)
class Grid:
    """Voxels of a scan along each axis, and their affine."""

    shape: tuple[int, ...]
    affine: Float64[Tensor, "4 4"]


def read_grid(path: Path) -> Grid:
    """Shape and affine of a scan; of NIfTI, MetaImage and NRRD only the header is read."""
    if not path.exists():
        raise FileNotFoundError(f"{path} must be the scan of the boxes, found no such file")
    if path.is_file() and path.suffix.lower() in READERS:
        return Grid(*warned(read_itk_grid(path)))
    if not is_nifti_name(path):
        volume = load_image(path)
        return Grid(volume.grid, volume.affine)
    with unreadable(path, "NIfTI"):
        image = opened(path, nibabel.Nifti1Pair)
    return Grid(tuple(image.shape[:3]), affine_in_mm(image, path))


def scan_of(path: Path, file: BoxFile, hints: Hints) -> Path | None:
    """The scan that the caller named, or that of the case in the folder that the caller named."""
    if hints.image is None or not hints.image.is_dir() or is_dicom_folder(hints.image):
        return hints.image
    case = case_of(path, file)
    if is_dicom_folder(hints.image / case):
        return hints.image / case
    ends = {f"{case}{suffix}".lower(): rank for rank, suffix in enumerate(IMAGE_SUFFIXES)}
    scans = (scan for scan in hints.image.iterdir() if scan.name.startswith(case))
    matching = [scan for scan in scans if scan.name.lower() in ends and scan.is_file()]
    if not matching:
        raise FileNotFoundError(
            f"{hints.image} must hold the scan {case}.nii.gz, or in another format, found none"
        )
    return min(matching, key=lambda scan: (ends[scan.name.lower()], scan.name))


def affine_for(path: Path, file: BoxFile, hints: Hints) -> Float64[Tensor, "4 4"] | None:
    """The affine that caller, scan and file agree on; None if it is unknown."""
    known = file.affine
    given = None if hints.affine is None else check_affine(hints.affine)
    scan = None if given is not None else scan_of(path, file, hints)
    if scan is not None:
        given = read_grid(scan).affine
    if given is None:
        return known
    if known is not None and not torch.allclose(known, given, rtol=0, atol=_SAME_MM):
        raise ValueError(
            f"{path} must be on the grid of its scan, "
            f"got affine {known.tolist()} and {given.tolist()}"
        )
    return given if known is None else known


def needed_affine(path: Path, file: BoxFile, hints: Hints) -> Float64[Tensor, "4 4"]:
    """The affine, which a format in millimetres needs."""
    affine = affine_for(path, file, hints)
    if affine is None:
        raise ValueError(
            f"{path} needs the affine of {case_of(path, file)}, since its format is in mm: "
            "name the scan with `image=`"
        )
    return affine


def bare_scan(name: str) -> str:
    """Case of a scan's path, with any separator."""
    return bare_name(name.replace("\\", "/").rsplit("/", 1)[-1])
