"""Scans and masks with their geometry, from NIfTI, NRRD, MetaImage, MGH, Analyze and DICOM."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap.images._analyze import MGH_SUFFIXES, PAIR_SUFFIXES, read_mgh_or_pair
from softoverlap.images._dicom import is_dicom, is_wide, read_dicom
from softoverlap.images._itk import READERS, itk_type, read_itk
from softoverlap.images._nibabel import nibabel_type
from softoverlap.images._pixels import converted, notes_on_rounding
from softoverlap.images.files import link_fault
from softoverlap.images.geometry import Volume, check_one_channel
from softoverlap.images.nifti import NIFTI_SUFFIXES, is_nifti_name, read_nifti
from softoverlap.images.noted import Noted, warned

IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *READERS, *MGH_SUFFIXES, PAIR_SUFFIXES[0])
"""Suffixes of image files; of a pair .hdr and .img the latter. A DICOM series is a folder."""

SEGMENTATION_SUFFIX = ".seg.nrrd"
"""Suffix of 3D Slicer's segmentations."""

DATA_SUFFIXES = (".raw", ".zraw", ".raw.gz", PAIR_SUFFIXES[1])
"""Suffixes of files that belong to an image file beside them: to .mhd, .nhdr or .img."""


_OF_DICOM = "name the folder with all slices, or convert it to .nii.gz, as dcm2niix does"
_CURES = {
    ".dcm": _OF_DICOM,
    ".ima": _OF_DICOM,
    ".mnc": "convert it: nibabel.save(nibabel.Nifti1Image.from_image(nibabel.load(mnc)), nii)",
    ".brik": "convert it with 3dAFNItoNIFTI",
    ".head": "convert it with 3dAFNItoNIFTI",
    ".gipl": "convert it: SimpleITK.WriteImage(SimpleITK.ReadImage(gipl), nii)",
    ".vtk": "convert it: SimpleITK.WriteImage(SimpleITK.ReadImage(vtk), nii)",
    ".tif": "it holds no place: store it as .nii.gz with its affine",
    ".tiff": "it holds no place: store it as .nii.gz with its affine",
    ".npy": "it holds no place: store it as .nii.gz with its affine",
    ".png": "it holds no place: store it as .nii.gz with its affine",
    ".jpg": "it holds no place: store it as .nii.gz with its affine",
}
"""Images of other formats by their suffixes, and how to bring them over."""


def load_image(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    validate: bool | None = None,
) -> Volume:
    """Read a scan or a mask: NIfTI, NRRD, MetaImage, MGH, Analyze, or a folder of DICOM slices.

    Nothing is reoriented or resampled: the tensor has the axis order of the file, the fastest axis
    first, as in nibabel, and the affine maps to RAS, for LPS formats too. Channels, components and
    time points come first. A DICOM series must be an even and upright stack: a missing slice or a
    tilted gantry is an error, since no affine describes it.

    Args:
        path: The file, or the DICOM folder.
        dtype: Type of the returned values; it is an error if it cannot hold them.
        validate: Check for NaN and infinite values; on by default.

    Returns:
        Values, shape (D, H, W) or (C, D, H, W), and affine, voxel indices to RAS mm. A channel
        axis of length one is dropped.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If the file is of another format, damaged or cut short, is not 3D, or holds
            values that are not finite or do not fit in `dtype`, or if the folder does not hold
            exactly one DICOM series. The message names the file.

    Examples:
        >>> import tempfile
        >>> import SimpleITK
        >>> path = Path(tempfile.mkdtemp()) / "scan.nrrd"
        >>> SimpleITK.WriteImage(SimpleITK.Image(4, 3, 2, SimpleITK.sitkUInt8), path)
        >>> scan = load_image(path)
        >>> scan.data.shape, scan.affine.diagonal().tolist()
        (torch.Size([4, 3, 2]), [-1.0, -1.0, 1.0, 1.0])
    """
    return warned(noted_image(path, dtype=dtype, validate=validate))


def noted_image(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    validate: bool | None = None,
) -> Noted[Volume]:
    """`load_image` that returns its warnings as notes."""
    path = Path(path)
    if not path.exists():
        found = link_fault(path) if path.is_symlink() else "no such file"
        raise FileNotFoundError(f"{path} must be an image, found {found}")
    if not (path.is_file() or path.is_dir()):  # a pipe may never end
        raise FileNotFoundError(f"{path} must be an image, found neither a file nor a folder")
    values, affine, notes = _read(path, dtype)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ValueError(f"{path} must hold a 3D volume, got shape {values.shape}")
    data = converted(values, dtype, path, validate=validate is not False)
    return Volume(data, affine), (*notes, *notes_on_rounding(values, data, path))


def load_nifti(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    validate: bool | None = None,
) -> Volume:
    """Read a scan or a mask: another name for `load_image`, for NIfTI and the other formats.

    Args:
        path: The file, or the DICOM folder.
        dtype: Type of the returned values.
        validate: Check for NaN and infinite values; on by default.

    Returns:
        Values, shape (D, H, W) or (C, D, H, W), and affine, voxel indices to RAS mm.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: As for `load_image`.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import save_nifti
        >>> path = Path(tempfile.mkdtemp()) / "scan.nii.gz"
        >>> save_nifti(path, torch.ones(4, 3, 2), torch.diag(torch.tensor([1.0, 1.0, 2.5, 1.0])))
        >>> scan = load_nifti(path)
        >>> scan.data.shape, scan.spacing
        (torch.Size([4, 3, 2]), (1.0, 1.0, 2.5))
    """
    return warned(noted_image(path, dtype=dtype, validate=validate))


def load_one_volume(path: str | os.PathLike[str]) -> Volume:
    """A scan or a mask without channels; channels are an error that names the file."""
    return warned(noted_one_volume(path))


def noted_one_volume(path: str | os.PathLike[str]) -> Noted[Volume]:
    """`load_one_volume` that returns its warnings as notes."""
    volume, notes = noted_image(path)
    check_one_channel(volume, name=str(path))
    return volume, notes


def stored_type(path: str | os.PathLike[str]) -> str | None:
    """The type in which a file holds its values, before any scaling.

    Args:
        path: An image file that `load_image` reads, or a DICOM folder.

    Returns:
        NumPy's name of the type, such as `"uint8"`; None for DICOM.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import save_nifti
        >>> path = Path(tempfile.mkdtemp()) / "mask.nii.gz"
        >>> save_nifti(path, torch.ones(4, 3, 2, dtype=torch.bool), torch.eye(4))
        >>> stored_type(path)
        'uint8'
    """
    path = Path(path)
    if path.is_dir():
        return None
    return itk_type(path) if path.suffix.lower() in READERS else nibabel_type(path)


def image_name(path: str | os.PathLike[str]) -> str:
    """The name of an image without its suffix; for a DICOM series, the name of its folder.

    Args:
        path: The file or folder.

    Returns:
        The name, usually that of the case.

    Examples:
        >>> image_name("scans/sub-01_flair.nii.gz"), image_name("scans/sub-01.v2.mha")
        ('sub-01_flair', 'sub-01.v2')
    """
    name = Path(path).name
    longest_first = sorted((SEGMENTATION_SUFFIX, *IMAGE_SUFFIXES), key=len, reverse=True)
    ends = (len(end) for end in longest_first if name.lower().endswith(end))
    return name[: len(name) - next(ends, 0)]


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Whether a name has the suffix of an image file, in lower or upper case.

    Args:
        path: The file; it need not exist.

    Returns:
        True for NIfTI, NRRD, MetaImage, MGH and Analyze; a DICOM series is a folder.

    Examples:
        >>> is_image_name("C.NII.GZ"), is_image_name("sub-01_boxes.json")
        (True, False)
    """
    return Path(path).name.lower().endswith(IMAGE_SUFFIXES)


def is_other_image(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of an image which is named otherwise, or is not read.

    Args:
        path: The file; it need not exist.

    Returns:
        True for the header of a pair, one DICOM file, and images of other formats.

    Examples:
        >>> is_other_image("slice.dcm"), is_other_image("mask.nii.gz")
        (True, False)
    """
    return Path(path).suffix.lower() in (PAIR_SUFFIXES[1], *_CURES)


def _read(
    path: Path, dtype: torch.dtype
) -> tuple[np.ndarray, Float64[Tensor, "4 4"], tuple[str, ...]]:
    """Values with the channels first, affine and notes, whatever the format."""
    if path.is_dir():
        (values, affine), notes = read_dicom(path, wide=is_wide(dtype), wanted=dtype.itemsize)
        return values, affine, notes
    if is_nifti_name(path):
        return read_nifti(path, wanted=dtype.itemsize)
    if path.suffix.lower() in (*MGH_SUFFIXES, *PAIR_SUFFIXES):
        return read_mgh_or_pair(path, wanted=dtype.itemsize)
    if path.suffix.lower() in READERS:
        (values, affine), notes = read_itk(path, wanted=dtype.itemsize)
        return values, affine, notes
    cure = _OF_DICOM if is_dicom(path) else _CURES.get(path.suffix.lower(), "")
    raise ValueError(
        f"{path} must end in one of {', '.join(IMAGE_SUFFIXES)}, or be a folder with a DICOM "
        f"series{cure and ': '}{cure}"
    )
