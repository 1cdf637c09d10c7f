"""A DICOM series, read by GDCM in the reader's process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from softoverlap._reader.itk import reason

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


def read_series(
    path: str, wide: bool, signed: Sequence[str], others: Sequence[str]
) -> SimpleITK.Image:
    """The series of a folder, rescaled to float32 or float64 (`wide`).

    `signed` are names of files with the signature of DICOM, `others` those of objects that are no
    images, such as contours.
    """
    folder = Path(path)
    files = _series(folder, others)
    _check_left_out(folder, files, signed, others)
    stack = [_slice(Path(name)) for name in files]
    _check_stack(stack, folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.SetImageIO("GDCMImageIO")
    # each slice may have its own slope, so the integer type of the first one may not hold them
    reader.SetOutputPixelType(SimpleITK.sitkFloat64 if wide else SimpleITK.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(
            f"{folder} must hold a readable DICOM series, got: {reason(error)}"
        ) from error
    step = (stack[-1].position - stack[0].position) / (len(stack) - 1)
    image.SetSpacing((*image.GetSpacing()[:2], float(np.linalg.norm(step))))
    return image


def _series(folder: Path, others: Sequence[str]) -> tuple[str, ...]:
    """Files of the series in the folder, in the order of their positions."""
    reader = SimpleITK.ImageSeriesReader
    try:
        keys = reader.GetGDCMSeriesIDs(str(folder))
        series = {key: reader.GetGDCMSeriesFileNames(str(folder), key) for key in keys}
    except RuntimeError as error:
        raise ValueError(
            f"{folder} must hold a readable DICOM series, got: {reason(error)}"
        ) from error
    series = {key: files for key, files in series.items()
              if not {Path(file).name for file in files} <= set(others)}  # fmt: skip
    if len(series) != 1:
        listed = f"{len(series)}: {', '.join(series)}" if series else "none"
        raise ValueError(f"{folder} must hold one DICOM series, got {listed}")
    (files,) = series.values()
    if len(files) < 2:
        raise ValueError(
            f"{folder} must hold two or more DICOM slices, one per file, got {len(files)}; convert "
            "a file with many frames to NIfTI first"
        )
    return files


def _check_left_out(
    folder: Path, files: Sequence[str], signed: Sequence[str], others: Sequence[str]
) -> None:
    """No damaged slice was skipped: at an end of the stack it would leave no gap."""
    taken = {Path(name).name for name in files} | set(others)
    suffixes = {Path(name).suffix for name in files}
    for path in sorted(folder.iterdir()):
        if path.name in taken or path.name.startswith(".") or not path.is_file():
            continue
        if path.name != "DICOMDIR" and (path.name in signed or path.suffix in suffixes):
            raise ValueError(f"{path} must be a readable slice of the DICOM series in its folder")


def _slice(path: Path) -> _Slice:
    """Position and orientation of a slice, from its tags."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
        position = _numbers(reader.GetMetaData("0020|0032"), 3)
        directions = _numbers(reader.GetMetaData("0020|0037"), 6)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} must be a DICOM slice with its position and orientation, got: {reason(error)}"
        ) from error
    if len(reader.GetSize()) > 2 and reader.GetSize()[2] != 1:
        raise ValueError(f"{path} must hold one slice, got {reader.GetSize()[2]} frames")
    spacing = reader.GetSpacing()[:2]
    _check_spacing(reader, spacing, path)
    return _Slice(position, directions[:3], directions[3:], spacing, reader.GetSize()[:2])


def _check_spacing(
    reader: SimpleITK.ImageFileReader, spacing: tuple[float, ...], path: Path
) -> None:
    """GDCM takes the pixel spacing of the classes that it knows, and else 1 mm."""
    if not reader.HasMetaDataKey("0028|0030"):
        return
    stored = _numbers(reader.GetMetaData("0028|0030"), 2)[::-1]
    if not np.allclose(spacing, stored, rtol=1e-3):
        raise ValueError(
            f"{path} must be of a class whose pixel spacing is known: it says "
            f"{stored[0]:g} x {stored[1]:g} mm, and would be read as {spacing[0]:g} x "
            f"{spacing[1]:g} mm"
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
