"""NIfTI in and out, with its geometry."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from jaxtyping import Float64, Shaped
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from torch import Tensor

from softoverlap._checks import check_tensors
from softoverlap._types import plain
from softoverlap.data._pixels import converted
from softoverlap.data.files import whole_file
from softoverlap.data.geometry import Volume, check_affine

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def is_nifti_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file is NIfTI by its name, in small letters or capitals."""
    return Path(path).name.lower().endswith(NIFTI_SUFFIXES)


_UNREADABLE = (
    OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError,
    KeyError, IndexError, TypeError, OverflowError, MemoryError,  # nibabel on damaged headers
)  # fmt: skip
_PIECE = 1 << 22
_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1e3, "micron": 1e-3}


def load_nifti(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    validate: bool | None = None,
) -> Volume:
    """Read a 3D NIfTI file (.nii or .nii.gz), values scaled as its header says.

    A fourth axis of length one is dropped. Nothing is reoriented or resampled: the tensor has the
    axis order of the file, and the affine says where it lies.

    Args:
        path: The file.
        dtype: Type of the values to return; a type that cannot hold them is an error.
        validate: Refuse NaN and infinite values; on by default.

    Returns:
        Values, shape (D, H, W), and affine, voxel indices to RAS mm.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no NIfTI, is truncated, has not three axes, or holds values
            that are not finite or do not fit in `dtype`. The message names the file.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scan.nii.gz"
        >>> save_nifti(path, torch.ones(4, 3, 2), torch.diag(torch.tensor([1.0, 1.0, 2.5, 1.0])))
        >>> scan = load_nifti(path)
        >>> scan.data.shape, scan.spacing
        (torch.Size([4, 3, 2]), (1.0, 1.0, 2.5))
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a NIfTI file, found no such file")
    if not is_nifti_name(path):
        raise ValueError(f"{path} must be a NIfTI file ending in .nii or .nii.gz")
    values, affine = read_nifti(path)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"{path} must hold one 3D volume, got shape {values.shape}")
    return Volume(converted(values, dtype, path, validate=validate is not False), affine)


def read_nifti(path: Path) -> tuple[np.ndarray, Float64[Tensor, "4 4"]]:
    """Values in the axis order of the file, scaled as its header says, and the affine in mm."""
    image, values = _read(path)
    return values, _affine_in_mm(image, path)


def save_nifti(
    path: str | os.PathLike[str], data: Shaped[Tensor, "*spatial"], affine: Shaped[Tensor, "4 4"]
) -> None:
    """Write a 3D NIfTI file, whole or not at all; sform and qform both hold the affine.

    Floating values are stored as float32, booleans and integers as uint8. NIfTI keeps the affine
    in float32, and a sheared one in the sform alone.

    Args:
        path: The file, ending in .nii or .nii.gz; an existing one is replaced.
        data: Values, shape (D, H, W).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).

    Raises:
        TypeError: If an argument is not a tensor, or the values are complex.
        ValueError: If the data is not 3D, holds integers outside 0-255 or values that float32
            cannot hold, the affine is not invertible or the suffix is another.
        FileNotFoundError: If the folder does not exist.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.nii.gz"
        >>> save_nifti(path, torch.ones(4, 3, 2, dtype=torch.bool), torch.eye(4))
        >>> load_nifti(path).data.sum()
        tensor(24.)
    """
    path = Path(path)
    if not is_nifti_name(path):
        raise ValueError(f"path must end in .nii or .nii.gz, got {path}")
    matrix = check_affine(affine).numpy()
    image = nibabel.Nifti1Image(_storable(data), matrix)
    image.header.set_xyzt_units("mm")
    image.set_sform(matrix, code="scanner")
    image.set_qform(matrix, code="scanner")
    if not np.allclose(image.get_qform(), matrix, atol=1e-3):
        image.set_qform(None, code="unknown")  # a quaternion cannot shear
    with whole_file(path) as unfinished:
        nibabel.save(image, unfinished)


class _InPieces(gzip.GzipFile):
    """Reads large arrays bit by bit: asked for all at once, gzip holds them three times over."""

    def readinto(self, buffer: Any) -> int:
        view, filled = memoryview(buffer).cast("B"), 0
        while got := super().readinto(view[filled : filled + _PIECE]):
            filled += got
        return filled


def _read(path: Path) -> tuple[nibabel.Nifti1Pair, np.ndarray]:
    """Header and values; a compressed file is read to its end, where its checksum stands."""
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Pair):
            raise ValueError(f"it is a {type(image).__name__}")
        if path.suffix.lower() != ".gz":
            return image, np.asanyarray(image.dataobj)
        with _InPieces(path) as stream:
            image = type(image).from_stream(stream)  # type: ignore[attr-defined]
            values = np.asanyarray(image.dataobj)
            while stream.read(1 << 20):
                pass
        return image, values
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} must be a readable NIfTI file, got: {reason}") from error


def _affine_in_mm(image: nibabel.Nifti1Pair, path: Path) -> Tensor:
    """The affine in mm, whichever unit of length the header names."""
    try:
        unit = str(image.header.get_xyzt_units()[0])
    except KeyError as error:
        raise ValueError(
            f"{path} must have a unit of length that NIfTI knows, got {error}"
        ) from error
    affine = torch.as_tensor(np.array(image.affine), dtype=torch.float64)
    affine[:3] *= _MM_PER_UNIT[unit]
    return check_affine(affine, name=f"the affine of {path}")


def _storable(data: Tensor) -> np.ndarray:
    """The values as float32 or uint8, if these hold them."""
    check_tensors(data=data)
    if data.ndim != 3:
        raise ValueError(f"data must have shape (D, H, W), got {tuple(data.shape)}")
    if data.is_complex():
        raise TypeError(f"data must hold real values, got dtype {data.dtype}")
    values = plain(data).detach().cpu()
    if values.is_floating_point():
        stored = values.float()
        if not torch.isfinite(stored).all():
            raise ValueError("data must hold finite values within float32, got NaN or infinity")
        return stored.numpy()
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) <= 255:
        low, high = int(values.min()), int(values.max())
        raise ValueError(f"data must hold integers in 0-255, got values in [{low}, {high}]")
    return values.to(torch.uint8).numpy()
