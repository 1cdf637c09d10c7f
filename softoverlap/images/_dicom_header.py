"""The elements of a DICOM file up to its pixels, walked without a DICOM library.

A length that reaches beyond the end of the file is what a damaged file has, and what a library may
allocate before it looks. Whatever this walk does not follow is left to GDCM, in its own process.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from softoverlap.images._headers import DamagedError

_UNDEFINED = 0xFFFFFFFF
_LONG_FORMS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT",
               b"UV"}  # fmt: skip
_IMPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_NATIVE = {_IMPLICIT, _BIG, _DEFLATED, "1.2.840.10008.1.2.1"}
_PIXELS, _SYNTAX, _CLASS = (0x7FE0, 0x0010), (0x0002, 0x0010), (0x0008, 0x0016)
_SAMPLES, _FRAMES, _ROWS = (0x0028, 0x0002), (0x0028, 0x0008), (0x0028, 0x0010)
_COLUMNS, _BITS = (0x0028, 0x0011), (0x0028, 0x0100)
_COLOURS = (0x0028, 0x0004)
_SPACINGS = ((0x0028, 0x0030), (0x0018, 0x1164), (0x0018, 0x2010))
"""Where the distance of pixels may stand; without it GDCM says 1 mm."""
_KEPT = {_SYNTAX, _CLASS, _SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS, _COLOURS, *_SPACINGS}
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_DEEPEST = 32
_MOST_INFLATED = 1 << 28
_OTHERS = {
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT, contours",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE, a dose",
    "1.2.840.10008.5.1.4.1.1.481.5": "RTPLAN, a plan",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG, a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.1": "REG, a registration",
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation",
    "1.2.840.10008.5.1.4.1.1.88.": "SR, a report",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "an encapsulated document",
}
"""Objects that lie beside scans and hold none, by the UID of their class or its beginning."""


@dataclass(frozen=True)
class DicomHeader:
    """What a file holds: the number of its pixels, or what it is instead of a scan."""

    pixels: int
    other: str


@dataclass
class _Walk:
    """A walk along the elements."""

    file: BinaryIO | io.BytesIO
    end: int
    explicit: bool = True
    order: str = "<"
    kept: dict[tuple[int, int], bytes] = field(default_factory=dict)
    pixel_bytes: int | None = None

    def unsigned(self, key: tuple[int, int], default: int) -> int:
        """A whole number of an element, stored as two bytes or, of frames, as text."""
        value = self.kept.get(key, b"")
        if key == _FRAMES:
            text = value.strip(b" \0").decode("latin-1")
            if text and not text.isdigit():
                raise DamagedError(f"its number of frames is {text!r}")
            return int(text) if text else default
        return struct.unpack(f"{self.order}H", value[:2])[0] if len(value) >= 2 else default


def dicom_header(path: Path) -> DicomHeader:
    """What the elements of a file say, if each ends within the file.

    Raises:
        DamagedError: If one does not, or there are fewer pixels than rows and columns.
    """
    with path.open("rb") as file:
        walk = _Walk(file, os.fstat(file.fileno()).st_size)
        file.seek(132)
        _walk_elements(walk, only=2)
        syntax = walk.kept.get(_SYNTAX, b"").strip(b" \0").decode("latin-1")
        if syntax == _DEFLATED:
            walk = _inflated(walk)
        walk.explicit, walk.order = syntax != _IMPLICIT, ">" if syntax == _BIG else "<"
        _walk_elements(walk)
    kind = walk.kept.get(_CLASS, b"").strip(b" \0").decode("latin-1")
    other = next((words for uid, words in _OTHERS.items() if _is_of(kind, uid)), "")
    return DicomHeader(0 if other else _pixels(walk, native=syntax in _NATIVE), other)


def _is_of(kind: str, uid: str) -> bool:
    return kind.startswith(uid) if uid.endswith(".") else kind == uid


def _pixels(walk: _Walk, *, native: bool) -> int:
    """The number of pixels that the header asks for, and that are there if they are native."""
    counts = (walk.unsigned(key, 1) for key in (_ROWS, _COLUMNS, _SAMPLES, _FRAMES))
    pixels = math.prod(counts)
    if _ROWS not in walk.kept or _COLUMNS not in walk.kept:
        return 0
    needed = pixels * walk.unsigned(_BITS, 16) // 8
    most = needed + needed // max(walk.unsigned(_ROWS, 1), 1)  # a row more is no padding
    there = walk.pixel_bytes
    if native and there is not None and not needed <= there <= max(most, needed + 1):
        raise DamagedError(f"{there} bytes of pixels, where its rows and columns ask for {needed}")
    colours = walk.kept.get(_COLOURS, b"").strip(b" \0")
    if colours.startswith((b"RGB", b"YBR")) and walk.unsigned(_SAMPLES, 1) == 1:
        raise DamagedError(f"{colours.decode()} pixels of one number each")
    _check_spacing(next((walk.kept[key] for key in _SPACINGS if key in walk.kept), b""))
    return pixels


def _check_spacing(value: bytes) -> None:
    """The distances of rows and of columns are there and above 0."""
    words = value.strip(b" \0").decode("latin-1").split("\\")
    try:
        distances = [float(word) for word in words]
    except ValueError:
        distances = []
    if len(distances) != 2 or not all(0 < distance < math.inf for distance in distances):
        raise DamagedError(f"a pixel spacing of {value.decode('latin-1')[:40]!r}")


def _walk_elements(walk: _Walk, *, only: int | None = None, depth: int = 0) -> None:
    """Go through elements up to the pixels, the end of the file, or the end of an item."""
    while walk.file.tell() < walk.end:
        begin = walk.file.tell()
        head = _taken(walk, 8)
        tag = struct.unpack(f"{walk.order}HH", head[:4])
        if only is not None and tag[0] != only:
            walk.file.seek(begin)
            return
        if tag in (_ITEM_END, _SEQUENCE_END):
            return
        length = _length(walk, head, explicit=walk.explicit or tag[0] == 2)
        if length is None:  # no type that DICOM knows: GDCM may know better
            walk.file.seek(walk.end)
            return
        if not _element(walk, tag, length, depth):
            return


def _element(walk: _Walk, tag: tuple[int, int], length: int, depth: int) -> bool:
    """Keep, enter or skip an element; whether others may follow."""
    if length == _UNDEFINED:
        _walk_items(walk, pixels=tag == _PIXELS, depth=depth + 1)
        return tag != _PIXELS
    left = walk.end - walk.file.tell()
    if length > left:
        raise DamagedError(
            f"the element ({tag[0]:04x},{tag[1]:04x}) of {length} bytes, of which {left} are there"
        )
    if tag == _PIXELS and not depth:
        walk.pixel_bytes = length
    if tag in _KEPT and not depth:
        walk.kept[tag] = walk.file.read(min(length, 128))
        length -= min(length, 128)
    walk.file.seek(length, os.SEEK_CUR)
    return True


def _walk_items(walk: _Walk, *, pixels: bool, depth: int) -> None:
    """Go through the items of a sequence, or the fragments of compressed pixels, of any length."""
    if depth > _DEEPEST:
        raise DamagedError(f"sequences within {_DEEPEST} others")
    while walk.file.tell() < walk.end:
        first, second, length = struct.unpack(f"{walk.order}HHI", _taken(walk, 8))
        if (first, second) != _ITEM:  # the end of the sequence
            return
        left = walk.end - walk.file.tell()
        if length == _UNDEFINED and not pixels:
            _walk_elements(walk, depth=depth)
        elif length > left:
            raise DamagedError(f"an item of {length} bytes, of which {left} are there")
        else:
            walk.file.seek(length, os.SEEK_CUR)
    raise DamagedError("a sequence without an end")


def _length(walk: _Walk, head: bytes, *, explicit: bool) -> int | None:
    """The length of an element; None where its type is none of DICOM's."""
    if not explicit:
        return struct.unpack(f"{walk.order}I", head[4:])[0]
    kind = head[4:6]
    if kind in _LONG_FORMS:
        return struct.unpack(f"{walk.order}I", _taken(walk, 4))[0]
    if not (kind.isalpha() and kind.isupper()):
        return None
    return struct.unpack(f"{walk.order}H", head[6:])[0]


def _taken(walk: _Walk, count: int) -> bytes:
    piece = walk.file.read(count)
    if len(piece) < count:
        raise DamagedError("it is cut short")
    return piece


def _inflated(walk: _Walk) -> _Walk:
    """A walk along the deflated rest of a file."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = stream.decompress(walk.file.read(), _MOST_INFLATED)
    except zlib.error as error:
        raise DamagedError(f"a damaged stream: {error}") from error
    if stream.unconsumed_tail:
        raise DamagedError(f"a stream of more than {_MOST_INFLATED} bytes")
    return _Walk(io.BytesIO(content), len(content), kept=walk.kept)
