"""NRRD and MetaImage through SimpleITK, whose LPS millimetres become RAS.

SimpleITK is imported inside the functions, since it takes 0.3 s that NIfTI files do not need.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap.images.geometry import check_affine

if TYPE_CHECKING:
    import SimpleITK

READERS = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
_PREFIXES = {"unsigned": "uint", "signed": "int", "float": "float"}
_LPS = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


@contextmanager
def quiet_itk() -> Iterator[None]:
    """No warnings of SimpleITK on the terminal: what matters is checked and raised here."""
    import SimpleITK

    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)


def read_itk(path: Path) -> tuple[np.ndarray, Float64[Tensor, "4 4"]]:
    """Values (D, H, W) or (C, D, H, W) in the axis order of the affine, and the affine in RAS."""
    if READERS[path.suffix.lower()] == "MetaImageIO":
        _check_stream(path)
    try:
        image = _reader(path).Execute()
    except RuntimeError as error:
        kind = path.suffix[1:].upper()
        raise ValueError(
            f"{path} must be a readable {kind} file, got: {itk_reason(error)}"
        ) from error
    return from_itk(image, str(path))


def itk_type(path: Path) -> str:
    """The type of the values as NumPy calls it, from the header alone."""
    import SimpleITK

    reader = _reader(path)
    reader.ReadImageInformation()
    words = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    found = re.search(r"(\d+)-bit (unsigned|signed|float)", words)  # "vector of 16-bit signed …"
    return words if found is None else f"{_PREFIXES[found[2]]}{found[1]}"


def _reader(path: Path) -> SimpleITK.ImageFileReader:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(READERS[path.suffix.lower()])
    return reader


def from_itk(image: SimpleITK.Image, name: str) -> tuple[np.ndarray, Float64[Tensor, "4 4"]]:
    """Values and affine of an image in memory."""
    import SimpleITK

    if not np.isfinite([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()]).all():
        raise ValueError(f"{name} must have a finite spacing, origin and direction")
    values = SimpleITK.GetArrayFromImage(image)
    channels = image.GetNumberOfComponentsPerPixel() > 1
    if channels:
        values = np.moveaxis(values, -1, 0)
    spatial = values.ndim - channels
    if spatial == 4 and values.shape[channels] == 1:
        values = values.squeeze(int(channels))
    elif spatial not in (3, 4) or (spatial == 4 and channels):
        raise ValueError(f"{name} must hold a 3D volume, got shape {image.GetSize()}")
    axes = [*range(values.ndim - 3), *reversed(range(values.ndim - 3, values.ndim))]
    return values.transpose(axes), _affine(image, name)


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


def itk_reason(error: RuntimeError) -> str:
    """The last meaningful line of an exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    if not line or line.startswith("Reason:"):  # MetaIO: "Reason: Success"
        return "its header or its data is damaged or cut short"
    return line


def _affine(image: SimpleITK.Image, name: str) -> Float64[Tensor, "4 4"]:
    """The affine of the first three axes; a fourth must be independent of them."""
    ndim = image.GetDimension()
    direction = torch.tensor(image.GetDirection(), dtype=torch.float64).reshape(ndim, ndim)
    if direction[3:, :3].any() or direction[:3, 3:].any():
        raise ValueError(f"{name} must have a fourth axis apart from space, got {direction}")
    affine = torch.eye(4, dtype=torch.float64)
    spacing = torch.tensor(image.GetSpacing()[:3], dtype=torch.float64)
    affine[:3, :3] = direction[:3, :3] * spacing
    affine[:3, 3] = torch.tensor(image.GetOrigin()[:3], dtype=torch.float64)
    return check_affine(_LPS @ affine, name=f"the affine of {name}")


def _check_stream(path: Path) -> None:
    """A compressed MetaImage is complete: SimpleITK does not stop at a damaged stream."""
    with path.open("rb") as file:
        header: dict[str, str] = {}
        while "ElementDataFile" not in header:
            line = file.readline(4096)
            if not line:
                return  # no header: the reader says so
            key, _, value = line.decode("latin-1").partition("=")
            header[key.strip()] = value.strip()
        if header.get("CompressedData", "").lower() not in ("true", "1"):
            return
        if header["ElementDataFile"].upper() == "LOCAL":
            _inflate(file, path)
            return
    apart = path.parent / header["ElementDataFile"]
    if apart.is_file():
        with apart.open("rb") as file:
            _inflate(file, path)


def _inflate(file: BinaryIO, path: Path) -> None:
    """Decompress everything and drop it: the checksum is at the end."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip
    try:
        while not stream.eof and (block := file.read(1 << 20)):
            while block and not stream.eof:
                stream.decompress(block, 1 << 24)
                block = stream.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"{path} must hold whole data, got: {error}") from error
    if not stream.eof:
        raise ValueError(f"{path} must hold whole data, got a stream that is cut short")
