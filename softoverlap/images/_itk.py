"""NRRD and MetaImage through SimpleITK, whose LPS millimetres become RAS.

SimpleITK reads files in a process of its own (`softoverlap._reader`). Here it is imported inside
functions for images in memory, since that takes 0.3 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap._reader import ReadImage, read
from softoverlap.images._headers import DamagedError, Layout
from softoverlap.images._meta_header import meta_layout
from softoverlap.images._nrrd_header import nrrd_layout
from softoverlap.images.geometry import check_affine
from softoverlap.images.limits import check_memory, current_limits
from softoverlap.images.noted import Noted

if TYPE_CHECKING:
    import SimpleITK

READERS = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
_LPS = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


def read_itk(path: Path, *, wanted: int) -> Noted[tuple[np.ndarray, Float64[Tensor, "4 4"]]]:
    """Values (D, H, W) or (C, D, H, W) in the axis order of the affine, and the affine in RAS.

    `wanted` is the number of bytes of a value that is returned, which counts for the memory.
    """
    layout, notes = checked_layout(path, wanted=wanted)
    check_memory(path, layout.needed)
    io = READERS[path.suffix.lower()]
    request = {"kind": "file", "path": str(path), "io": io, "room": 4 * layout.stored}
    image = read(request, name=str(path), seconds=current_limits().timeout)
    return placed(image, str(path), mm=layout.mm), notes


def read_itk_grid(path: Path) -> Noted[tuple[tuple[int, ...], Float64[Tensor, "4 4"]]]:
    """Voxels along the three axes in space, and the affine in RAS, from the header alone."""
    layout, notes = checked_layout(path, data=False)
    io = READERS[path.suffix.lower()]
    request = {"kind": "grid", "path": str(path), "io": io, "room": 0}
    header = read(request, name=str(path), seconds=current_limits().timeout)
    size = tuple(header.values.tolist())
    _check_grid(header, str(path))
    if len(size) not in (3, 4):
        raise ValueError(f"{path} must hold a 3D volume, got shape {size}")
    return (size[:3], _affine(header, str(path), layout.mm)), notes


def itk_type(path: Path) -> str:
    """The type of the values as NumPy calls it, from the header alone."""
    return checked_layout(path)[0].dtype


def checked_layout(path: Path, *, wanted: int = 0, data: bool = True) -> Noted[Layout]:
    """The layout of a MetaImage or NRRD file, of which values of `wanted` bytes are returned.

    Without `data`, only the header is looked at.

    Raises:
        ValueError: If its header, or the size of its data, is not what the format asks for, or
            its data file does not exist.
    """
    check = meta_layout if path.suffix.lower() in (".mha", ".mhd") else nrrd_layout
    try:
        return check(path, wanted=wanted, data=data)
    except DamagedError as error:
        kind = path.suffix[1:].upper()
        raise ValueError(f"{path} must be a readable {kind} file, got: {error}") from error


def from_itk(image: SimpleITK.Image, name: str) -> tuple[np.ndarray, Float64[Tensor, "4 4"]]:
    """Values and affine of an image in memory."""
    import SimpleITK

    channels = image.GetNumberOfComponentsPerPixel() > 1
    grid = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    return placed(ReadImage(SimpleITK.GetArrayFromImage(image), channels, *map(list, grid)), name)


def placed(
    image: ReadImage, name: str, *, mm: float = 1.0
) -> tuple[np.ndarray, Float64[Tensor, "4 4"]]:
    """Values with channels and time first and then the axes of the affine, in RAS.

    `mm` are the millimetres of the image's unit of length.
    """
    _check_grid(image, name)
    values, channels = image.values, image.channels
    if channels:
        values = np.moveaxis(values, -1, 0)
    spatial = values.ndim - channels
    if spatial == 4 and values.shape[channels] == 1:
        values = values.squeeze(int(channels))
    elif spatial not in (3, 4) or (spatial == 4 and channels):
        shape = tuple(reversed(values.shape[channels:]))
        raise ValueError(f"{name} must hold a 3D volume, got shape {shape}")
    axes = [*range(values.ndim - 3), *reversed(range(values.ndim - 3, values.ndim))]
    return values.transpose(axes), _affine(image, name, mm)


def _check_grid(image: ReadImage, name: str) -> None:
    if not np.isfinite([*image.spacing, *image.origin, *image.direction]).all():
        raise ValueError(f"{name} must have a finite spacing, origin and direction")


def to_itk(
    data: Shaped[Tensor, "depth height width"], affine: Float64[Tensor, "4 4"]
) -> SimpleITK.Image:
    """An image in memory, of a type that SimpleITK knows."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.numpy().transpose(2, 1, 0)))
    lps = _LPS @ affine
    spacing = lps[:3, :3].norm(dim=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _affine(image: ReadImage, name: str, mm: float) -> Float64[Tensor, "4 4"]:
    """The affine of the first three axes in mm; a fourth must be independent of them."""
    ndim = len(image.spacing)
    direction = torch.tensor(image.direction, dtype=torch.float64).reshape(ndim, ndim)
    if direction[3:, :3].any() or direction[:3, 3:].any():
        raise ValueError(f"{name} must have a fourth axis apart from space, got {direction}")
    affine = torch.eye(4, dtype=torch.float64)
    spacing = torch.tensor(image.spacing[:3], dtype=torch.float64)
    affine[:3, :3] = direction[:3, :3] * spacing
    affine[:3, 3] = torch.tensor(image.origin[:3], dtype=torch.float64)
    affine[:3] *= mm
    return check_affine(_LPS @ affine, name=f"the affine of {name}")
