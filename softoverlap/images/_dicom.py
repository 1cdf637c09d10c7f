"""A folder with one DICOM series: parallel slices that make an even and upright stack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap.images._itk import from_itk, itk_reason, quiet_itk

EVEN = 0.05
"""How far a slice may be from its position in an even stack, in slice distances."""

UPRIGHT = 0.1
"""How far the stack may lean over its whole length, in pixels."""


@dataclass(frozen=True)
class _Slice:
    position: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    spacing: tuple[float, ...]
    size: tuple[int, ...]


def read_dicom(folder: Path, *, wide: bool) -> tuple[np.ndarray, Float64[Tensor, "4 4"]]:
    """Values (D, H, W) after rescaling, float32 or float64 (`wide`), and the affine in RAS mm."""
    import SimpleITK

    with quiet_itk():
        files = _series(folder)
        slices = [_slice(Path(name)) for name in files]
    _check_left_out(folder, files)
    _check_stack(slices, folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.SetImageIO("GDCMImageIO")
    # each slice may have its own slope, so the integer type of the first one may not hold them
    reader.SetOutputPixelType(SimpleITK.sitkFloat64 if wide else SimpleITK.sitkFloat32)
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        reason = itk_reason(error)
        raise ValueError(f"{folder} must hold a readable DICOM series, got: {reason}") from error
    step = (slices[-1].position - slices[0].position) / (len(slices) - 1)
    spacing = (*image.GetSpacing()[:2], float(np.linalg.norm(step)))
    image.SetSpacing(spacing)
    return from_itk(image, str(folder))


def _series(folder: Path) -> tuple[str, ...]:
    """Files of the series in the folder, in the order of their positions."""
    import SimpleITK

    series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        listed = f"{len(series)}: {', '.join(series)}" if series else "none"
        raise ValueError(f"{folder} must hold one DICOM series, got {listed}")
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    if len(files) < 2:
        raise ValueError(
            f"{folder} must hold two or more DICOM slices, one per file, got {len(files)}; convert "
            "a file with many frames to NIfTI first"
        )
    return files


def _check_left_out(folder: Path, files: tuple[str, ...]) -> None:
    """No damaged slice was skipped: at an end of the stack it would leave no gap."""
    taken = {Path(name).name for name in files}
    suffixes = {Path(name).suffix for name in files}
    for path in sorted(folder.iterdir()):
        if path.name in taken or path.name.startswith(".") or not path.is_file():
            continue
        if path.name != "DICOMDIR" and (is_dicom(path) or path.suffix in suffixes):
            raise ValueError(f"{path} must be a readable slice of the DICOM series in its folder")


def is_dicom(path: Path) -> bool:
    """Whether a file has the signature of DICOM."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _slice(path: Path) -> _Slice:
    """Position and orientation of a slice, from its tags."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
        position = _numbers(reader.GetMetaData("0020|0032"), 3)
        directions = _numbers(reader.GetMetaData("0020|0037"), 6)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} must be a DICOM slice with its position and orientation, got: "
            f"{itk_reason(RuntimeError(error))}"
        ) from error
    if len(reader.GetSize()) > 2 and reader.GetSize()[2] != 1:
        raise ValueError(f"{path} must hold one slice, got {reader.GetSize()[2]} frames")
    return _Slice(
        position, directions[:3], directions[3:], reader.GetSpacing()[:2], reader.GetSize()[:2]
    )


def _numbers(text: str, count: int) -> np.ndarray:
    numbers = np.array([float(part) for part in text.split("\\")])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{count} numbers expected, got {text!r}")
    return numbers


def _check_stack(slices: list[_Slice], folder: Path) -> None:
    """The slices form one even and upright stack."""
    first = slices[0]
    for other in slices[1:]:
        same = other.size == first.size and np.allclose(other.spacing, first.spacing, rtol=1e-4)
        turned = np.abs([other.rows - first.rows, other.columns - first.columns]).max()
        if not same or turned > 1e-4:
            raise ValueError(f"{folder} must hold slices of one size, spacing and orientation")
    normal = np.cross(first.rows, first.columns)
    offsets = np.stack([other.position for other in slices]) - first.position
    heights = offsets @ normal
    even = np.linspace(0, heights[-1], len(slices))
    distance = abs(heights[-1]) / (len(slices) - 1)
    if not distance > 0 or np.abs(heights - even).max() > EVEN * distance:
        steps = np.abs(np.diff(heights))
        raise ValueError(
            f"{folder} must hold evenly spaced DICOM slices, got distances from {steps.min():.4g} "
            f"to {steps.max():.4g} mm: a slice is missing or duplicate"
        )
    lean = np.abs(np.stack([offsets @ first.rows, offsets @ first.columns])) / np.array(
        [[first.spacing[0]], [first.spacing[1]]]
    )
    if lean.max() > UPRIGHT:
        raise ValueError(
            f"{folder} must hold an upright stack of DICOM slices, got one that leans by "
            f"{lean.max():.3g} pixels (gantry tilt): correct the tilt first, as dcm2niix does"
        )


def is_wide(dtype: torch.dtype) -> bool:
    """Whether the type has values that float32 cannot hold."""
    return dtype not in (torch.float32, torch.float16, torch.bfloat16)
