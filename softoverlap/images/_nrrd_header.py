"""Headers of NRRD, checked before SimpleITK opens the file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from softoverlap.images._headers import (
    LONGEST_HEADER,
    DamagedError,
    Layout,
    check_characters,
    check_inflated,
    check_length,
    check_stream,
    check_text,
    check_there,
    numbered_files,
    whole,
    without_size,
)
from softoverlap.images.limits import MOST_BEHIND
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


_GZIP = ("gz", "gzip")
_SPATIAL = ("space", "domain", "???", "none")
_MM = {
    "": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "cm": 10.0,
    "centimeter": 10.0, "m": 1e3, "meter": 1e3, "um": 1e-3, "micron": 1e-3, "microns": 1e-3,
    "micrometer": 1e-3, "µm": 1e-3, "μm": 1e-3, "nm": 1e-6,
}  # fmt: skip
"""Units of length in mm; none is taken as mm."""
_KNOWN_SPACES = ("ras", "las", "lps", "right-anterior-superior", "left-anterior-superior",
                 "left-posterior-superior")  # fmt: skip
"""Frames whose axes SimpleITK turns; any other is taken as LPS."""


def nrrd_layout(path: Path, *, wanted: int = 0, data: bool = True) -> Noted[Layout]:
    """What the header says about its values, which are all there.

    `wanted` is the number of bytes of a value that is returned, which counts for the memory.
    Without `data`, only the header is looked at.
    """
    with path.open("rb") as file:
        fields = _fields(file)
        layout = replace(_layout(fields), wanted=wanted)
        if data:
            _check_values(path, file, layout, fields)
    return layout, _notes(path, fields)


def _check_values(path: Path, file: BinaryIO, layout: Layout, fields: Mapping[str, str]) -> None:
    """The values, behind the header or in files of their own."""
    if not fields.get("datafile"):
        _check_data(path, path, file, layout, fields)
        return
    for apart, share in _apart(path, file, fields, layout):
        with apart.open("rb") as values:
            _check_data(path, apart, values, share, fields)


def _notes(path: Path, fields: Mapping[str, str]) -> tuple[str, ...]:
    """What the header says and SimpleITK does not look at, or does not say."""
    sized = "spacings" in fields or "spacedirections" in fields
    notes = () if sized else without_size(path, "space directions")
    space = fields.get("space", "lps")
    if space.lower() not in _KNOWN_SPACES:
        notes += (f"{path}: its space {space[:40]!r} does not say where the patient is: it is "
                  "read as LPS",)  # fmt: skip
    if "oldmin" in fields or "oldmax" in fields:
        notes += (f"{path}: its values were quantized (old min, old max) and are read as stored",)
    return notes


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
    packed = encoding in (*_GZIP, "bz2", "bzip2")
    return Layout(_TYPES[kind], math.prod(sizes), packed, _mm(fields, axes))


def _mm(fields: Mapping[str, str], axes: int) -> float:
    """Millimetres of the unit of length, which is that of the space or that of the axes."""
    units = _quoted(fields.get("spaceunits", ""))
    if not units:
        units = _of_space(_quoted(fields.get("units", "")), fields, axes)
    factors = {_MM.get(unit.lower(), math.nan) for unit in units[:3]} or {1.0}
    if len(factors) > 1 or math.nan in factors:
        raise DamagedError(f"units {' '.join(units)[:80]}, which are no length, or several")
    return factors.pop()


def _of_space(units: Sequence[str], fields: Mapping[str, str], axes: int) -> Sequence[str]:
    """Those of the axes that are in space: by their kinds, or all but channels and time."""
    kinds = fields.get("kinds", "").lower().split()
    if len(kinds) == axes == len(units):
        return [unit for unit, kind in zip(units, kinds, strict=True) if kind in _SPATIAL]
    return units if axes <= 3 else [unit for unit in units if unit and unit.lower() in _MM]


def _quoted(text: str) -> list[str]:
    """Words in quotes, which may hold spaces, of a header that may be in UTF-8."""
    words = re.findall(r'"([^"]*)"', text) or text.split()
    return [_utf8(word.strip()) for word in words]


def _utf8(word: str) -> str:
    try:
        return word.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return word


def _apart(
    path: Path, file: BinaryIO, fields: Mapping[str, str], layout: Layout
) -> list[tuple[Path, Layout]]:
    """Data files that the header names, and what each of them holds."""
    words = fields["datafile"].split()
    if words[0].upper() == "LIST":
        names = [line.decode("latin-1").strip() for line in file.read(LONGEST_HEADER).splitlines()]
        names = [name for name in names if name]
    elif "%" in fields["datafile"]:
        names = numbered_files(words, default=(0, 0))
    else:
        data = path.parent / fields["datafile"]
        check_there(data)
        return [(data, layout)]
    share = replace(layout, values=layout.values // max(len(names), 1))
    for name in names:
        check_there(path.parent / name)
    return [(path.parent / name, share) for name in names]


def _check_data(
    path: Path, data: Path, file: BinaryIO, layout: Layout, fields: Mapping[str, str]
) -> None:
    """The values from where the file stands are all there."""
    encoding = fields.get("encoding", "none").lower()
    start, skipped = _begin(file, fields, packed=layout.compressed)
    if layout.compressed:
        check_inflated(data.stat().st_size - start, layout)
        if encoding in _GZIP:
            check_stream(data, start, path, layout, gzip=True, skipped=skipped)
    elif encoding == "raw":
        check_length(data.stat().st_size - start - skipped, layout, data)
    elif encoding in ("txt", "text", "ascii"):
        check_text(data, start + skipped, layout)
    elif encoding == "hex":
        check_characters(data, start + skipped, layout)
    else:
        raise DamagedError(f"encoding {encoding}")


def _begin(file: BinaryIO, fields: Mapping[str, str], *, packed: bool) -> tuple[int, int]:
    """Where lines end that are skipped, and bytes skipped after them, of what is unpacked."""
    begin, size = file.tell(), file.seek(0, 2)
    file.seek(begin)
    for _ in range(whole(fields.get("lineskip", "0"), "line skip", least=0, most=size)):
        file.readline()
    most = MOST_BEHIND if packed else max(size - begin, 0)
    return file.tell(), max(whole(fields.get("byteskip", "0"), "byte skip", least=-1, most=most), 0)
