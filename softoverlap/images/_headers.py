"""What the headers of MetaImage and NRRD have in common, and what their values must be.

SimpleITK trusts a header: a negative number of axes or a type that the data do not have ends the
process. What is checked before is refused with a reason; whatever passes is still read in a process
of its own.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softoverlap.images.limits import check_memory

MOST_BEHIND = 1 << 24
"""Bytes that may follow the values in a compressed stream; more is no image but a bomb."""

LONGEST_HEADER = 1 << 24
DEFLATE_MOST = 1040
"""Times that deflate can shrink anything."""


@dataclass(frozen=True)
class Layout:
    """What a header says about its values."""

    dtype: str
    values: int
    compressed: bool

    @property
    def stored(self) -> int:
        """Bytes of the values in memory."""
        return self.values * np.dtype(self.dtype).itemsize


class DamagedError(ValueError):
    """A header that says what cannot be; the message is the reason."""


_NUMBERS = re.compile(rb"[0-9a-zA-Z+\-.,\s]*")  # zlib's and NRRD's text: also nan, inf, hex


def without_size(path: Path, field: str) -> tuple[str, ...]:
    """The note of a header that does not say how large a voxel is."""
    return (f"{path}: its header has no {field}: voxels of 1 mm are taken",)


def check_there(data: Path) -> None:
    """A header names its data file; pipes and devices may never end."""
    try:
        if data.is_file():
            return
    except (ValueError, OSError):  # a NUL in the name, or too many characters
        pass
    name = data.name if len(data.name) < 256 else f"{data.name[:40]}…"
    raise DamagedError(f"no data file {name!r}, which it names: put it into {data.parent}")


def check_length(length: int, layout: Layout, data: Path) -> None:
    if length < layout.stored:
        raise DamagedError(
            f"{data.name} holds {max(length, 0)} bytes of values, and its header asks for "
            f"{layout.stored}: it is cut short, or its sizes or its type are wrong"
        )


def check_inflated(length: int, layout: Layout) -> None:
    if layout.stored > length * DEFLATE_MOST:
        raise DamagedError(
            f"{length} compressed bytes of values, too few for the {layout.stored} that its "
            "header asks for"
        )


def check_stream(data: Path, start: int, path: Path, layout: Layout, length: int) -> None:
    """Decompress everything and drop it: SimpleITK does not stop at a damaged stream."""
    check_memory(path, layout.stored)  # before the time is spent
    stream, held = zlib.decompressobj(zlib.MAX_WBITS | 32), 0  # zlib or gzip
    try:
        for block in blocks(data, start, length):
            while block and not stream.eof and held <= layout.stored + MOST_BEHIND:
                held += len(stream.decompress(block, 1 << 24))
                block = stream.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"{path} must hold whole data, got: {error}") from error
    if not stream.eof and held <= layout.stored:
        raise ValueError(f"{path} must hold whole data, got a stream that is cut short")
    if not layout.stored <= held <= layout.stored + MOST_BEHIND:
        more = "" if stream.eof else "more than "
        raise ValueError(f"{path} must hold {layout.stored} bytes of values, got {more}{held}")


def check_text(data: Path, start: int, layout: Layout) -> None:
    """Numbers as text, one character each at least; SimpleITK crashes at others."""
    if data.stat().st_size - start < layout.values:
        raise DamagedError(f"too few characters for {layout.values} numbers")
    for block in blocks(data, start):
        if not _NUMBERS.fullmatch(block):
            raise DamagedError("values that are not numbers as text, as its encoding says")


def blocks(data: Path, start: int, length: int | None = None) -> Iterator[bytes]:
    left = data.stat().st_size if length is None else length
    with data.open("rb") as file:
        file.seek(start)
        while block := file.read(min(1 << 20, left)):
            left -= len(block)
            yield block


def whole(word: str, name: str, *, least: int = 1, most: int = 1 << 40) -> int:
    if not re.fullmatch(r"[+-]?\d{1,13}", word) or not least <= int(word) <= most:
        raise DamagedError(f"{name} {word[:40]}")
    return int(word)


def check_numbers(text: str, name: str, count: int) -> None:
    words: Sequence[str] = text.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise DamagedError(f"{name} {text[:80]}") from error
    if len(numbers) < count or not all(map(math.isfinite, numbers)):
        raise DamagedError(f"{name} {text[:80]}, where {count} finite numbers are needed")
