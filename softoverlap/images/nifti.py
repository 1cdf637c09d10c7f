"""Reading and writing NIfTI, with its geometry."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import nibabel
import numpy as np
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap._checks import check_tensors
from softoverlap._types import plain
from softoverlap.images._nibabel import UNREADABLE, nibabel_values
from softoverlap.images.files import whole_file
from softoverlap.images.geometry import SAME_GRID, check_affine

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def is_nifti_name(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a file is that of NIfTI, in lower or upper case."""
    return Path(path).name.lower().endswith(NIFTI_SUFFIXES)


_FORMS_AGREE = 0.1
"""In voxels; the quaternion of the qform is float32, so corners may be off by hundredths."""
_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1e3, "micron": 1e-3}


def read_nifti(
    path: Path, *, wanted: int
) -> tuple[np.ndarray, Float64[Tensor, "4 4"], tuple[str, ...]]:
    """Values (D, H, W) or (C, D, H, W), scaled as the header says, the affine in mm, and notes.

    `wanted` is the number of bytes of a value that is returned, which counts for the memory.
    """
    image, values, said = nibabel_values(path, "NIfTI", nibabel.Nifti1Pair, wanted=wanted)
    assert isinstance(image, nibabel.Nifti1Pair)
    values, affine, notes = placed_nifti(path, image, values)
    return values, affine, (*said, *notes)


def placed_nifti(
    path: Path, image: nibabel.Nifti1Pair, values: np.ndarray
) -> tuple[np.ndarray, Float64[Tensor, "4 4"], tuple[str, ...]]:
    """Values with the channels first, the affine in mm, and notes."""
    return _channels_first(values), affine_in_mm(image, path), _notes_on_forms(image, path)


def forms_apart(image: nibabel.Nifti1Pair) -> float:
    """The largest distance between the corners of an image by sform and by qform.

    If both affines are set, nibabel and softoverlap read the sform, other programs the qform.

    Args:
        image: The image; only its header is used.

    Returns:
        The distance in the header's unit of length, 0 unless both are set and valid.

    Examples:
        >>> image = nibabel.Nifti1Image(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4))
        >>> forms_apart(image)
        0.0
        >>> image.set_qform(np.diag([-1.0, -1.0, 1.0, 1.0]), code="scanner")
        >>> round(forms_apart(image), 1)
        9.9
    """
    try:
        sform, qform = image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]
    except UNREADABLE:  # a damaged quaternion
        return 0.0
    if sform is None or qform is None:
        return 0.0
    ends = ((-0.5, length - 0.5) for length in (*image.shape, 1, 1, 1)[:3])
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*ends)])
    return float(np.linalg.norm(corners @ (sform - qform).T, axis=1).max())


def _notes_on_forms(image: nibabel.Nifti1Pair, path: Path) -> tuple[str, ...]:
    """A note if two programs would put the image in two places."""
    apart = forms_apart(image)
    edges = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
    if apart <= _FORMS_AGREE * edges.min():
        return ()
    mm = apart * _MM_PER_UNIT.get(str(image.header.get_xyzt_units()[0]), 1.0)
    return (
        f"{path} has two affines, up to {mm:.3g} mm apart: the sform is read, other "
        "programs may read the qform",
    )


def save_nifti(
    path: str | os.PathLike[str], data: Shaped[Tensor, "*spatial"], affine: Shaped[Tensor, "4 4"]
) -> None:
    """Write a 3D NIfTI file, completely or not at all; sform and qform both hold the affine.

    Floating values are stored as float32, booleans and integers as uint8. NIfTI stores the affine
    in float32, and one that a quaternion does not hold (sheared, or nearly half a turn) only in
    the sform.

    Args:
        path: The file, ending in .nii or .nii.gz; an existing one is replaced.
        data: Values, shape (D, H, W).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).

    Raises:
        TypeError: If an argument is not a tensor, or the values are complex.
        ValueError: If the data is not 3D, has integers outside 0-255 or values that float32 cannot
            hold, the affine is not invertible, or the suffix is wrong.
        FileNotFoundError: If the folder does not exist.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import load_nifti
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
    edges = np.linalg.norm(matrix[:3, :3], axis=0)
    if forms_apart(image) > SAME_GRID * edges.min():
        # a quaternion cannot shear, and of half a turn float32 keeps three digits
        image.set_qform(None, code="unknown")
    with whole_file(path) as unfinished:
        nibabel.save(image, unfinished)


def _channels_first(values: np.ndarray) -> np.ndarray:
    """NIfTI has time on the fourth axis, and the components of a vector on the fifth."""
    if values.ndim == 5 and values.shape[3] == 1:
        values = values[:, :, :, 0]
    return np.moveaxis(values, 3, 0) if values.ndim == 4 else values


def affine_in_mm(image: nibabel.Nifti1Pair, path: Path) -> Tensor:
    """The affine in mm, whatever the header's unit of length."""
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
    """The values as float32 or uint8, if these can hold them."""
    check_tensors(data=data)
    if data.ndim != 3:
        raise ValueError(f"data must have shape (D, H, W), got {tuple(data.shape)}")
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
