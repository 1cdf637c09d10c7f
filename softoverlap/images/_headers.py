"""Headers of MetaImage and NRRD, checked before SimpleITK opens the file.

SimpleITK trusts a header: a negative number of axes or a type that the data do not have ends the
process. What is checked here is refused with a reason; whatever passes is still read in a process
of its own.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from softoverlap.images.limits import check_memory

MOST_BEHIND = 1 << 24
"""Bytes that may follow the values in a compressed stream; more is no image but a bomb."""

_LONGEST_HEADER = 1 << 24
_LONGEST_META_LINE = 1 << 12  # MetaIO keeps the values of a field in an array of this size
_MOST_AXES = 10  # of MetaIO, which crashes beyond
_META_TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16",
    "MET_INT": "int32", "MET_UINT": "uint32", "MET_LONG": "int32", "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64", "MET_ULONG_LONG": "uint64", "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}  # fmt: skip
_NRRD_TYPES = {
    "int8": "signed char|int8|int8_t", "uint8": "uchar|unsigned char|uint8|uint8_t",
    "int16": "short|short int|signed short|signed short int|int16|int16_t",
    "uint16": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "int32": "int|signed int|int32|int32_t", "uint32": "uint|unsigned int|uint32|uint32_t",
    "int64": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "uint64": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "float32": "float", "float64": "double",
}  # fmt: skip
_NRRD_TYPE = {word: name for name, words in _NRRD_TYPES.items() for word in words.split("|")}
_META_PER_AXIS = {
    "ElementSpacing": 1, "ElementSize": 1, "Offset": 1, "Position": 1, "Origin": 1,
    "CenterOfRotation": 1, "TransformMatrix": 2, "Rotation": 2, "Orientation": 2,
}  # fmt: skip
"""Fields of MetaImage with a number for each axis, or for each pair of axes."""
_NUMBERS = re.compile(rb"[0-9a-zA-Z+\-.,\s]*")  # zlib's and NRRD's text: also nan, inf, hex
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


def checked_layout(path: Path) -> tuple[Layout, tuple[str, ...]]:
    """The layout of a MetaImage or NRRD file, and notes.

    Raises:
        ValueError: If its header, or the size of its data, is not what the format asks for, or
            its data file does not exist.
    """
    check = _meta if path.suffix.lower() in (".mha", ".mhd") else _nrrd
    try:
        return check(path)
    except DamagedError as error:
        kind = path.suffix[1:].upper()
        raise ValueError(f"{path} must be a readable {kind} file, got: {error}") from error


# MetaImage


def _meta(path: Path) -> tuple[Layout, tuple[str, ...]]:
    with path.open("rb") as file:
        fields = _meta_fields(file)
        start = file.tell()
    layout = _meta_layout(fields)
    words = fields["ElementDataFile"].split()
    if not words:
        raise DamagedError("no data file")
    if words[0].upper() == "LOCAL":
        return layout, _check_meta_data(path, path, start, layout, fields)
    if words[0].upper() == "LIST":
        _check_listed(path, start, fields, words)
        return layout, ()
    if "%" in words[0]:
        return layout, ()
    apart = path.parent / fields["ElementDataFile"]
    _check_there(apart)
    return layout, _check_meta_data(path, apart, 0, layout, fields)


def _check_listed(path: Path, start: int, fields: Mapping[str, str], words: list[str]) -> None:
    """Behind the header stands a file for each slice; MetaIO takes any bytes for names."""
    sizes = [int(size) for size in fields["DimSize"].split()]
    axes = re.fullmatch(r"(\d)D?", words[1]) if len(words) > 1 else None
    wanted = math.prod(sizes[int(axes[1]) if axes else -1 :])
    names = b"".join(_blocks(path, start, _LONGEST_HEADER)).decode("latin-1").splitlines()
    there = [name.strip() for name in names if name.strip()]
    if len(there) < wanted:
        raise DamagedError(f"a list of {len(there)} data files, where {wanted} are needed")
    for name in there[:wanted]:
        _check_there(path.parent / name)


def _meta_fields(file: BinaryIO) -> dict[str, str]:
    """The fields up to the last one, which says where the values are."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(_LONGEST_META_LINE)
        if not line:
            raise DamagedError("its header is damaged or cut short: it names no ElementDataFile")
        if len(line) == _LONGEST_META_LINE or file.tell() > _LONGEST_HEADER:
            raise DamagedError(f"a line of its header has {_LONGEST_META_LINE} characters or more")
        text = line.decode("latin-1")
        key, sign, value = text.partition("=" if "=" in text else ":")
        if sign and fields.setdefault(key.strip(), value.strip()) != value.strip():
            raise DamagedError(f"{key.strip()[:40]} twice, with two values")
    return fields


def _meta_layout(fields: Mapping[str, str]) -> Layout:
    axes = _whole(fields.get("NDims", "none"), "NDims", least=1, most=_MOST_AXES)
    sizes = [_whole(word, "DimSize") for word in fields.get("DimSize", "").split()]
    if len(sizes) != axes:
        raise DamagedError(f"DimSize {fields.get('DimSize', 'none')} for {axes} axes")
    for name, power in _META_PER_AXIS.items():
        if name in fields:
            _check_numbers(fields[name], name, axes**power)
    if any(float(word) <= 0 for word in fields.get("ElementSpacing", "").split()):
        raise DamagedError(f"ElementSpacing {fields['ElementSpacing'][:80]}")
    kind = fields.get("ElementType", "none")
    if kind.removesuffix("_ARRAY") not in _META_TYPES:
        raise DamagedError(f"ElementType {kind}")
    channels = _whole(fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels")
    compressed = fields.get("CompressedData", "").lower()[:1] in ("t", "1")
    dtype = _META_TYPES[kind.removesuffix("_ARRAY")]
    return Layout(dtype, math.prod(sizes) * channels, compressed)


def _check_meta_data(
    path: Path, data: Path, start: int, layout: Layout, fields: Mapping[str, str]
) -> tuple[str, ...]:
    """The values are all there: bytes, text or a compressed stream."""
    length = data.stat().st_size - start
    if layout.compressed:
        claimed = _whole(fields.get("CompressedDataSize", "0"), "CompressedDataSize", least=0)
        if not claimed and data == path:  # MetaIO would return whatever the memory holds
            raise DamagedError("compressed values without their CompressedDataSize")
        if claimed > length:
            raise ValueError(
                f"{path} must hold whole data, got {length} of {claimed} compressed bytes"
            )
        _check_inflated(length, layout)
        _inflate(data, start, path, layout, claimed or length)
        return ()
    skipped = _whole(fields.get("HeaderSize", "0"), "HeaderSize", least=-1)
    if fields.get("BinaryData", "true").lower()[:1] in ("f", "0"):
        _check_text(data, start, layout)
        return ()
    _check_length(length - max(skipped, 0), layout, data)
    more = length - max(skipped, 0) - layout.stored
    if data == path or not more or skipped == -1:
        return ()
    return (f"{path}: its data file {data.name} holds {more} bytes more than the header says",)


# NRRD


def _nrrd(path: Path) -> tuple[Layout, tuple[str, ...]]:
    with path.open("rb") as file:
        fields = _nrrd_fields(file)
        start = file.tell()
        layout = _nrrd_layout(fields)
        apart = fields.get("datafile", "")
        if apart:
            return layout, _check_nrrd_apart(path, apart, layout, fields)
        start += _skipped(file, fields)
    _check_nrrd_data(path, start, layout, fields)
    return layout, ()


def _nrrd_fields(file: BinaryIO) -> dict[str, str]:
    """The fields before the empty line that ends the header."""
    if not re.fullmatch(rb"NRRD000\d\r?\n", file.readline(16)):
        raise DamagedError("it does not begin as NRRD does")
    fields: dict[str, str] = {}
    while line := file.readline(_LONGEST_HEADER):
        if file.tell() > _LONGEST_HEADER:
            raise DamagedError("its header does not end")
        text = line.decode("latin-1").strip("\r\n")
        if not text:
            return fields
        key, sign, value = text.partition(":")
        if sign and not text.startswith("#") and not value.startswith("="):
            fields[key.strip().lower().replace(" ", "")] = value.strip()
        if key.strip().lower().replace(" ", "") == "datafile" and value.split()[:1] == ["LIST"]:
            return fields
    if "datafile" not in fields:
        raise DamagedError("its header is cut short")
    return fields


def _nrrd_layout(fields: Mapping[str, str]) -> Layout:
    axes = _whole(fields.get("dimension", "none"), "dimension", least=1, most=16)
    sizes = [_whole(word, "sizes") for word in fields.get("sizes", "").split()]
    if len(sizes) != axes:
        raise DamagedError(f"sizes {fields.get('sizes', 'none')} for {axes} axes")
    kind = " ".join(fields.get("type", "none").lower().split())
    if kind not in _NRRD_TYPE:
        raise DamagedError(f"type {kind}")
    encoding = fields.get("encoding", "none").lower()
    return Layout(_NRRD_TYPE[kind], math.prod(sizes), encoding in ("gz", "gzip", "bz2", "bzip2"))


def _check_nrrd_apart(
    path: Path, apart: str, layout: Layout, fields: Mapping[str, str]
) -> tuple[str, ...]:
    """A data file that the header names, if it names one and no list or pattern."""
    if apart.split()[0].upper() == "LIST" or "%" in apart:
        return ()
    data = path.parent / apart
    _check_there(data)
    with data.open("rb") as file:
        start = _skipped(file, fields)
    _check_nrrd_data(data, start, layout, fields)
    return ()


def _skipped(file: BinaryIO, fields: Mapping[str, str]) -> int:
    """Bytes between the header and the values."""
    begin, size = file.tell(), file.seek(0, 2)
    file.seek(begin)
    for _ in range(_whole(fields.get("lineskip", "0"), "line skip", least=0, most=size)):
        file.readline()
    over = file.tell() - begin
    most = max(size - begin, 0)
    return over + max(_whole(fields.get("byteskip", "0"), "byte skip", least=-1, most=most), 0)


def _check_nrrd_data(data: Path, start: int, layout: Layout, fields: Mapping[str, str]) -> None:
    encoding, length = fields.get("encoding", "none").lower(), data.stat().st_size - start
    if layout.compressed:
        _check_inflated(length, layout)
    elif encoding == "raw":
        _check_length(length, layout, data)
    elif encoding in ("txt", "text", "ascii", "hex"):
        _check_text(data, start, layout)
    else:
        raise DamagedError(f"encoding {encoding}")


# both


def _check_there(data: Path) -> None:
    """A header names its data file; pipes and devices may never end."""
    try:
        if data.is_file():
            return
    except (ValueError, OSError):  # a NUL in the name, or too many characters
        pass
    name = data.name if len(data.name) < 256 else f"{data.name[:40]}…"
    raise DamagedError(f"no data file {name!r}, which it names: put it into {data.parent}")


def _check_length(length: int, layout: Layout, data: Path) -> None:
    if length < layout.stored:
        raise DamagedError(
            f"{data.name} holds {max(length, 0)} bytes of values, and its header asks for "
            f"{layout.stored}: it is cut short, or its sizes or its type are wrong"
        )


def _check_inflated(length: int, layout: Layout) -> None:
    if layout.stored > length * DEFLATE_MOST:
        raise DamagedError(
            f"{length} compressed bytes of values, too few for the {layout.stored} that its "
            "header asks for"
        )


def _inflate(data: Path, start: int, path: Path, layout: Layout, length: int) -> None:
    """Decompress everything and drop it: SimpleITK does not stop at a damaged stream."""
    check_memory(path, layout.stored)  # before the time is spent
    stream, held = zlib.decompressobj(zlib.MAX_WBITS | 32), 0  # zlib or gzip
    try:
        for block in _blocks(data, start, length):
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


def _check_text(data: Path, start: int, layout: Layout) -> None:
    """Numbers as text, one character each at least; SimpleITK crashes at others."""
    if data.stat().st_size - start < layout.values:
        raise DamagedError(f"too few characters for {layout.values} numbers")
    for block in _blocks(data, start):
        if not _NUMBERS.fullmatch(block):
            raise DamagedError("values that are not numbers as text, as its encoding says")


def _blocks(data: Path, start: int, length: int | None = None) -> Iterator[bytes]:
    left = data.stat().st_size if length is None else length
    with data.open("rb") as file:
        file.seek(start)
        while block := file.read(min(1 << 20, left)):
            left -= len(block)
            yield block


def _whole(word: str, name: str, *, least: int = 1, most: int = 1 << 40) -> int:
    if not re.fullmatch(r"[+-]?\d{1,13}", word) or not least <= int(word) <= most:
        raise DamagedError(f"{name} {word[:40]}")
    return int(word)


def _check_numbers(text: str, name: str, count: int) -> None:
    words: Sequence[str] = text.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise DamagedError(f"{name} {text[:80]}") from error
    if len(numbers) < count or not all(map(math.isfinite, numbers)):
        raise DamagedError(f"{name} {text[:80]}, where {count} finite numbers are needed")
