"""A folder with one DICOM series, read by GDCM in the reader's process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap._reader import check_name, read
from softoverlap.images._dicom_header import DicomHeader, dicom_header
from softoverlap.images._headers import DamagedError
from softoverlap.images._itk import placed
from softoverlap.images.limits import check_memory, current_limits
from softoverlap.images.noted import Noted


def read_dicom(
    folder: Path, *, wide: bool, wanted: int
) -> Noted[tuple[np.ndarray, Float64[Tensor, "4 4"]]]:
    """Values (D, H, W) after rescaling, float32 or float64 (`wide`), and the affine in RAS mm.

    `wanted` is the number of bytes of a value that is returned, which counts for the memory.
    """
    headers = {path.name: _header(path) for path in dicom_files(folder)}
    others = sorted(name for name, header in headers.items() if header.other)
    pixels = sum(header.pixels for header in headers.values())
    stored = pixels * (8 if wide else 4)
    check_memory(folder, stored + pixels * wanted)
    request = {
        "kind": "dicom", "path": str(folder), "wide": wide, "signed": sorted(headers),
        "others": others, "room": 4 * stored,
    }  # fmt: skip
    image = read(request, name=str(folder), seconds=current_limits().timeout)
    notes = (f"{folder}: {_passed_by(headers, others)}",) if others else ()
    return placed(image, str(folder)), notes


def dicom_files(folder: Path) -> list[Path]:
    """Files with the signature of DICOM, by name, without hidden ones and the directory file."""
    files = (path for path in sorted(folder.iterdir()) if path.name != "DICOMDIR")
    return [path for path in files if not path.name.startswith(".") and is_dicom(path)]


def is_dicom(path: Path) -> bool:
    """Whether a file has the signature of DICOM."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _header(path: Path) -> DicomHeader:
    check_name(str(path))
    try:
        return dicom_header(path)
    except DamagedError as error:
        raise ValueError(
            f"{path} must be a readable slice of the DICOM series in its folder, got: {error}"
        ) from error


def _passed_by(headers: dict[str, DicomHeader], others: list[str]) -> str:
    named = ", ".join(f"{name} ({headers[name].other})" for name in others[:3])
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"{named}{more} holds no slices of the scan and is passed by"


def is_wide(dtype: torch.dtype) -> bool:
    """Whether the type has values that float32 cannot hold."""
    return dtype not in (torch.float32, torch.float16, torch.bfloat16)
