"""Files that nibabel reads: sized up by their headers, and read no further than they should go."""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import imageglobals
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from softoverlap.images.limits import DEFLATE_MOST, MOST_BEHIND, check_memory

UNREADABLE = (
    OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, MGHError,
    ArithmeticError,
    KeyError, IndexError, TypeError, AttributeError, MemoryError,  # nibabel on damaged headers
)  # fmt: skip
_PIECE = 1 << 22
_MOST_EXTENSIONS = 1 << 26
_NIFTI1, _NIFTI2 = 348, 540  # bytes of a header, which begins with this number


_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


class _Kept(logging.Filter):
    """Keeps what nibabel says of a header, which goes to standard error otherwise."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = _said.get()
        if said is None:  # others use nibabel too
            return True
        said.append(" ".join(record.getMessage().split()))
        return False


imageglobals.logger.addFilter(_Kept())


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What nibabel says within the block."""
    said = _said.get()
    if said is not None:
        yield said
        return
    token = _said.set(said := [])
    try:
        yield said
    finally:
        _said.reset(token)


class _InPieces(gzip.GzipFile):
    """Reads large arrays in pieces: at once, gzip would hold them three times."""

    def readinto(self, buffer: Any) -> int:
        view, filled = memoryview(buffer).cast("B"), 0
        while got := super().readinto(view[filled : filled + _PIECE]):
            filled += got
        return filled


def nibabel_values(
    path: Path, kind: str, fits: type[SpatialImage], *, wanted: int
) -> tuple[SpatialImage, np.ndarray, tuple[str, ...]]:
    """Image, values and notes; a compressed file is read to its end, where its checksum is.

    Args:
        path: The file.
        kind: What it should be, for messages.
        fits: The class that it must have.
        wanted: Bytes of a value that is returned, which counts for the memory.
    """
    with unreadable(path, kind), _heard() as said:
        image = opened(path, fits)
        stored = _stored(image)
        _check_length(path, image, stored)
        voxels = math.prod(map(int, image.shape))  # of MGH they are 32 bits wide
        check_memory(path, stored + voxels * (_scaled(image) + wanted))
        if not _is_packed(path):
            return image, np.asanyarray(image.dataobj), _notes(path, said)
        with _InPieces(path) as stream:
            image = type(image).from_stream(stream)  # type: ignore[attr-defined]
            values = np.asanyarray(image.dataobj)
            _read_to_end(stream)
        return image, values, _notes(path, said)


def _notes(path: Path, said: list[str]) -> tuple[str, ...]:
    """What nibabel mended in the header, but for a qfac of 0, which NIfTI allows."""
    told = dict.fromkeys(line for line in said if "qfac" not in line)
    return tuple(f"{path}: its header is not sound: {line}" for line in told)


def opened(path: Path, fits: type[SpatialImage]) -> Any:
    """The image with its header, but without its values; of a pair, either file is named."""
    _check_offset(path)
    with _heard():
        image = nibabel.load(path)
    if not isinstance(image, fits):
        raise ValueError(f"it is a {type(image).__name__}")
    return image


def nibabel_type(path: Path) -> str:
    """The type of the values as NumPy calls it, from the header alone."""
    return opened(path, SpatialImage).get_data_dtype().name


class unreadable:  # noqa: N801
    """Errors of nibabel as one line that names the file; those that name it already pass."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind

    def __enter__(self) -> None:
        """Nothing is prepared."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UNREADABLE) and not str(error).startswith(str(self.path)):
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{self.path} must be a readable {self.kind} file, got: {reason}"
            ) from error


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() in (".gz", ".mgz")


def _check_offset(path: Path) -> None:
    """Header extensions lie before the values; nibabel reads whatever they claim to hold."""
    if path.suffix.lower() not in (".nii", ".gz"):
        return
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        block = file.read(_NIFTI2)
    offset = _offset(block)
    if offset is not None and not offset <= _MOST_EXTENSIONS:
        raise ValueError(f"its values begin at byte {offset:g}, behind more than a header")


def _offset(block: bytes) -> float | None:
    """Where the values begin; None where the header is none of NIfTI's."""
    for order in ("little", "big"):
        size = int.from_bytes(block[:4], order)
        if size == _NIFTI1 and len(block) >= size:
            header = nibabel.Nifti1Header(block[:size], check=False)
        elif size == _NIFTI2 and len(block) >= size:
            header = nibabel.Nifti2Header(block[:size], check=False)
        else:
            continue
        return float(header["vox_offset"])
    return None


def _stored(image: Any) -> int:
    """Bytes of the values as the file holds them."""
    shape = tuple(map(int, image.shape))
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return math.prod(shape) * image.get_data_dtype().itemsize


def _scaled(image: Any) -> int:
    """Bytes of a value after scaling, 0 where values are returned as they are stored."""
    slope, inter = (getattr(image.dataobj, name, default) for name, default in _UNSCALED.items())
    return 0 if (slope, inter) == (1, 0) else 8


_UNSCALED = {"slope": 1, "inter": 0}


def _check_length(path: Path, image: Any, stored: int) -> None:
    """The values that the header asks for can be in the file, before they are allocated."""
    data = Path(image.file_map["image"].filename)
    begin = 0 if _is_packed(path) else int(getattr(image.dataobj, "offset", 0))
    held = data.stat().st_size
    most = held * DEFLATE_MOST if _is_packed(path) else held - begin
    if stored > most:
        raise ValueError(
            f"{data.name} holds {held} bytes, too few for the {stored} of values that its header "
            "asks for: it is cut short, or its shape or its type is wrong"
        )


def _read_to_end(stream: gzip.GzipFile) -> None:
    """Read what follows the values, for the checksum, unless there is no end of it."""
    left = MOST_BEHIND
    while piece := stream.read(1 << 20):
        left -= len(piece)
        if left < 0:
            raise ValueError(f"more than {MOST_BEHIND} bytes follow its values")
