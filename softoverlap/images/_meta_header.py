"""Headers of MetaImage, checked before SimpleITK opens the file."""

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
    blocks,
    check_inflated,
    check_length,
    check_numbers,
    check_stream,
    check_text,
    check_there,
    numbered_files,
    whole,
    without_size,
)
from softoverlap.images.noted import Noted

_LONGEST_LINE = 1 << 12  # MetaIO keeps the values of a field in an array of this size
_MOST_AXES = 10  # of MetaIO, which crashes beyond
_TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16",
    "MET_INT": "int32", "MET_UINT": "uint32", "MET_LONG": "int32", "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64", "MET_ULONG_LONG": "uint64", "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}  # fmt: skip
_PER_AXIS = {
    "ElementSpacing": 1, "ElementSize": 1, "Offset": 1, "Position": 1, "Origin": 1,
    "CenterOfRotation": 1, "TransformMatrix": 2, "Rotation": 2, "Orientation": 2,
}  # fmt: skip
"""Fields of MetaImage with a number for each axis, or for each pair of axes."""

_SYNONYMS = (
    ("Offset", "Position", "Origin"), ("TransformMatrix", "Rotation", "Orientation"),
    ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
)  # fmt: skip
"""Names of one thing, of which MetaIO takes one without a word where they differ."""

_MM = {"mm": 1.0, "cm": 10.0, "um": 1e-3, "?": 1.0}
_EXACT = 1 << 53
"""Whole numbers up to here survive MetaIO, which reads text as floats."""


def meta_layout(path: Path, *, wanted: int = 0, data: bool = True) -> Noted[Layout]:
    """What the header says about its values, which are all there.

    `wanted` is the number of bytes of a value that is returned, which counts for the memory.
    Without `data`, only the header is looked at.
    """
    with path.open("rb") as file:
        fields = _fields(file)
        start = file.tell()
    layout = replace(_layout(fields), wanted=wanted)
    sized = "ElementSpacing" in fields or "ElementSize" in fields
    notes = () if sized else without_size(path, "ElementSpacing")
    return layout, (*notes, *(_check_values(path, start, layout, fields) if data else ()))


def _check_values(
    path: Path, start: int, layout: Layout, fields: Mapping[str, str]
) -> tuple[str, ...]:
    """The values, behind the header or in files of their own."""
    words = fields["ElementDataFile"].split()
    if not words:
        raise DamagedError("no data file")
    if words[0].upper() == "LOCAL":
        return _check_data(path, path, start, layout, fields)
    if words[0].upper() == "LIST":
        return _check_listed(path, _listed(path, start, fields, words), layout, fields)
    if "%" in words[0]:
        last = int(fields["DimSize"].split()[-1])
        return _check_listed(path, numbered_files(words, default=(1, last)), layout, fields)
    apart = path.parent / fields["ElementDataFile"]
    check_there(apart)
    return _check_data(path, apart, 0, layout, fields)


def _listed(path: Path, start: int, fields: Mapping[str, str], words: list[str]) -> list[str]:
    """Behind the header stands a file for each slice; MetaIO takes any bytes for names."""
    sizes = [int(size) for size in fields["DimSize"].split()]
    axes = re.fullmatch(r"(\d)D?", words[1]) if len(words) > 1 else None
    wanted = math.prod(sizes[int(axes[1]) if axes else -1 :])
    names = b"".join(blocks(path, start, LONGEST_HEADER)).decode("latin-1").splitlines()
    there = [name.strip() for name in names if name.strip()]
    if len(there) < wanted:
        raise DamagedError(f"a list of {len(there)} data files, where {wanted} are needed")
    return there[:wanted]


def _check_listed(
    path: Path, names: Sequence[str], layout: Layout, fields: Mapping[str, str]
) -> tuple[str, ...]:
    """The files are there and whole; MetaIO leaves out what it cannot read, without a word."""
    files = [path.parent / name for name in names]
    for data in files:
        check_there(data)
    notes: tuple[str, ...] = ()
    for data in files:
        share = replace(layout, values=layout.values // len(files))
        if layout.compressed:
            check_stream(data, 0, path, share)
        else:
            notes += _check_data(path, data, 0, share, fields)
    return notes


def _fields(file: BinaryIO) -> dict[str, str]:
    """The fields up to the last one, which says where the values are."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(_LONGEST_LINE)
        if not line:
            raise DamagedError("its header is damaged or cut short: it names no ElementDataFile")
        if len(line) == _LONGEST_LINE or file.tell() > LONGEST_HEADER:
            raise DamagedError(f"a line of its header has {_LONGEST_LINE} characters or more")
        text = line.decode("latin-1")
        key, sign, value = text.partition("=" if "=" in text else ":")
        if sign and fields.setdefault(key.strip(), value.strip()) != value.strip():
            raise DamagedError(f"{key.strip()[:40]} twice, with two values")
    return fields


def _layout(fields: Mapping[str, str]) -> Layout:
    axes = whole(fields.get("NDims", "none"), "NDims", least=1, most=_MOST_AXES)
    sizes = [whole(word, "DimSize") for word in fields.get("DimSize", "").split()]
    if len(sizes) != axes:
        raise DamagedError(f"DimSize {fields.get('DimSize', 'none')} for {axes} axes")
    for name, power in _PER_AXIS.items():
        if name in fields:
            check_numbers(fields[name], name, axes**power)
    _check_place(fields)
    _check_scale(fields)
    kind = fields.get("ElementType", "none")
    if kind.removesuffix("_ARRAY") not in _TYPES:
        raise DamagedError(f"ElementType {kind}")
    channels = whole(fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels")
    compressed = fields.get("CompressedData", "").lower()[:1] in ("t", "1")
    dtype = _TYPES[kind.removesuffix("_ARRAY")]
    return Layout(dtype, math.prod(sizes) * channels, compressed, _mm(fields))


def _mm(fields: Mapping[str, str]) -> float:
    unit = (fields.get("DistanceUnits") or "mm").lower()
    if unit not in _MM:
        raise DamagedError(f"DistanceUnits {unit[:40]}")
    return _MM[unit]


def _check_place(fields: Mapping[str, str]) -> None:
    """Voxels have a size above 0, and two names of one thing do not differ."""
    name = "ElementSpacing" if "ElementSpacing" in fields else "ElementSize"  # as MetaIO does
    if any(float(word) <= 0 for word in fields.get(name, "").split()):
        raise DamagedError(f"{name} {fields[name][:80]}")
    for names in _SYNONYMS:
        given = [name for name in names if name in fields]
        if len({_meaning(fields[name]) for name in given}) > 1:
            values = " and ".join(f"{name} {fields[name][:40]}" for name in given)
            raise DamagedError(f"{values}, which are names of one thing")


def _meaning(text: str) -> object:
    """Numbers, or whether it is true."""
    try:
        return tuple(map(float, text.split()))
    except ValueError:
        return text.lower()[:1]


def _check_scale(fields: Mapping[str, str]) -> None:
    """Values are what is meant: SimpleITK does not scale them."""
    for name, plain in (("Slope", 1.0), ("Offset", 0.0)):
        field = f"ElementToIntensityFunction{name}"
        if field in fields:
            check_numbers(fields[field], field, 1)
            if float(fields[field].split()[0]) != plain:
                raise DamagedError(
                    f"{field} {fields[field][:40]}, which is not applied: scale the values, and "
                    "store them with a slope of 1 and an offset of 0"
                )


def _check_data(
    path: Path, data: Path, start: int, layout: Layout, fields: Mapping[str, str]
) -> tuple[str, ...]:
    """The values are all there: bytes, text or a compressed stream."""
    length = data.stat().st_size - start
    if layout.compressed:
        claimed = whole(fields.get("CompressedDataSize", "0"), "CompressedDataSize", least=0)
        if not claimed and data == path:  # MetaIO would return whatever the memory holds
            raise DamagedError("compressed values without their CompressedDataSize")
        if claimed > length:
            raise ValueError(
                f"{path} must hold whole data, got {length} of {claimed} compressed bytes"
            )
        check_inflated(length, layout)
        check_stream(data, start, path, layout, length=claimed or length)
        return ()
    skipped = whole(fields.get("HeaderSize", "0"), "HeaderSize", least=-1)
    if fields.get("BinaryData", "true").lower()[:1] in ("f", "0"):
        check_text(data, start, layout, exact=_EXACT)
        return ()
    check_length(length - max(skipped, 0), layout, data)
    more = length - max(skipped, 0) - layout.stored
    if data == path or not more or skipped == -1:
        return ()
    return (f"{path}: its data file {data.name} holds {more} bytes more than the header says",)
