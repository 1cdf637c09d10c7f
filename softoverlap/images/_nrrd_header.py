"""Headers of NRRD, checked before SimpleITK opens the file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from softoverlap.images._headers import (
    LONGEST_HEADER,
    DamagedError,
    Layout,
    check_inflated,
    check_length,
    check_text,
    check_there,
    whole,
    without_size,
)
from softoverlap.images.noted import Noted

_WORDS = {
    "int8": "signed char|int8|int8_t", "uint8": "uchar|unsigned char|uint8|uint8_t",
    "int16": "short|short int|signed short|signed short int|int16|int16_t",
    "uint16": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "int32": "int|signed int|int32|int32_t", "uint32": "uint|unsigned int|uint32|uint32_t",
    "int64": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "uint64": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "float32": "float", "float64": "double",
}  # fmt: skip
_TYPES = {word: name for name, words in _WORDS.items() for word in words.split("|")}


def nrrd_layout(path: Path) -> Noted[Layout]:
    """What the header says about its values, which are all there."""
    with path.open("rb") as file:
        fields = _fields(file)
        layout = _layout(fields)
        if fields.get("datafile"):
            _check_apart(path, fields["datafile"], layout, fields)
        else:
            start = file.tell()
            _check_data(path, start + _skipped(file, fields), layout, fields)
    sized = "spacings" in fields or "spacedirections" in fields
    return layout, () if sized else without_size(path, "space directions")


def _fields(file: BinaryIO) -> dict[str, str]:
    """The fields before the empty line that ends the header."""
    if not re.fullmatch(rb"NRRD000\d\r?\n", file.readline(16)):
        raise DamagedError("it does not begin as NRRD does")
    fields: dict[str, str] = {}
    while line := file.readline(LONGEST_HEADER):
        if file.tell() > LONGEST_HEADER:
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


def _layout(fields: Mapping[str, str]) -> Layout:
    axes = whole(fields.get("dimension", "none"), "dimension", least=1, most=16)
    sizes = [whole(word, "sizes") for word in fields.get("sizes", "").split()]
    if len(sizes) != axes:
        raise DamagedError(f"sizes {fields.get('sizes', 'none')} for {axes} axes")
    kind = " ".join(fields.get("type", "none").lower().split())
    if kind not in _TYPES:
        raise DamagedError(f"type {kind}")
    encoding = fields.get("encoding", "none").lower()
    return Layout(_TYPES[kind], math.prod(sizes), encoding in ("gz", "gzip", "bz2", "bzip2"))


def _check_apart(path: Path, apart: str, layout: Layout, fields: Mapping[str, str]) -> None:
    """A data file that the header names, if it names one and no list or pattern."""
    if apart.split()[0].upper() == "LIST" or "%" in apart:
        return
    data = path.parent / apart
    check_there(data)
    with data.open("rb") as file:
        start = _skipped(file, fields)
    _check_data(data, start, layout, fields)


def _skipped(file: BinaryIO, fields: Mapping[str, str]) -> int:
    """Bytes between the header and the values."""
    begin, size = file.tell(), file.seek(0, 2)
    file.seek(begin)
    for _ in range(whole(fields.get("lineskip", "0"), "line skip", least=0, most=size)):
        file.readline()
    over = file.tell() - begin
    most = max(size - begin, 0)
    return over + max(whole(fields.get("byteskip", "0"), "byte skip", least=-1, most=most), 0)


def _check_data(data: Path, start: int, layout: Layout, fields: Mapping[str, str]) -> None:
    encoding, length = fields.get("encoding", "none").lower(), data.stat().st_size - start
    if layout.compressed:
        check_inflated(length, layout)
    elif encoding == "raw":
        check_length(length, layout, data)
    elif encoding in ("txt", "text", "ascii", "hex"):
        check_text(data, start, layout)
    else:
        raise DamagedError(f"encoding {encoding}")
