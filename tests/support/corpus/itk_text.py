"""NRRD and MetaImage: every line of their headers, and the data that the header promises."""

from __future__ import annotations

import bz2
import gzip
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tests.support.corpus.record import (
    Damaged,
    cut_short,
    damaged,
    deflated_zeros,
    flipped,
    gzip_of_zeros,
    lesion_mask,
)

DATA = lesion_mask().tobytes(order="F")

NRRD = {
    "type": "uchar",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "12 10 8",
    "space directions": "(-1,0,0) (0,-1.2,0) (0,0,2.5)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(5,-7,3)",
}

NRRD_WRONG: Mapping[str, Sequence[str]] = {
    "type": ("", "block", "float", "double", "int64", "quaternion", "uchar uchar", "-1"),
    "dimension": ("", "0", "-3", "2", "4", "16", "17", "99999999999", "3.5", "nan", "x"),
    "space": ("", "3D-right-handed", "left", "scanner-xyz-time", "mars"),
    "sizes": (
        "", "0 0 0", "12 10", "12 10 8 3", "-12 10 8", "12 10 9", "1500 1500 1000", "12 10 x",
        "4294967296 4294967296 4294967296", "99999999999999999999999 1 1", "nan 1 1", "1 1 1",
    ),
    "space directions": (
        "", "none none none", "(0,0,0) (0,0,0) (0,0,0)", "(1,0,0) (1,0,0) (1,0,0)", "(1,0,0)",
        "(nan,0,0) (0,1,0) (0,0,1)", "(inf,0,0) (0,1,0) (0,0,1)", "(1e400,0,0) (0,1,0) (0,0,1)",
        "(1,0) (0,1) (1,1)", "(1,0,0 (0,1,0) (0,0,1)", "((((((((((", "(1e-320,0,0) (0,1,0) (0,0,1)",
    ),
    "kinds": ("", "domain", "vector vector vector", "domain domain domain list", "x y z"),
    "endian": ("", "big", "middle"),
    "encoding": ("", "ascii", "hex", "gzip", "bzip2", "rar", "raw raw"),
    "space origin": ("", "(nan,nan,nan)", "(0,0)", "(1e400,0,0)", "0 0 0", "("),
}  # fmt: skip

NRRD_MORE = (
    "spacings: 0 0 0", "spacings: nan nan nan", "spacings: -1 -1 -1", "spacings: 1 1",
    "thicknesses: nan nan", "axis mins: nan nan nan", "axis maxs: -1 -1 -1", "units: mm mm mm mm",
    "centers: cell cell", "labels: \"a\" \"b", "line skip: -1", "line skip: 99999999999",
    "byte skip: -1", "byte skip: -99", "byte skip: 4294967297", "byte skip: x", "number: 5",
    "block size: 99999999999", "content: =1+1", "min: nan", "old max: inf", "sample units: %s%n",
    "measurement frame: (1,0,0)", "space dimension: 7", "space units: \"mm\"", "sizes: 1 1 1",
    "data file: gone.raw", "data file: .", "data file: LIST", "data file: x%04d.raw 1 99999999 1",
    "data file: x%s%s%n.raw 1 5 1", "data file: /dev/zero", "key:=value", "nonsense", ": : :",
    "#" + "x" * 99999, "x" * 99999 + ": 1", "type\0: uchar", "sizes: \xff\xfe",
)  # fmt: skip

META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "-1 0 0 0 -1 0 0 0 1",
    "Offset": "5 -7 3",
    "CenterOfRotation": "0 0 0",
    "AnatomicalOrientation": "RAI",
    "ElementSpacing": "1 1.2 2.5",
    "DimSize": "12 10 8",
    "ElementType": "MET_UCHAR",
    "ElementDataFile": "LOCAL",
}

META_WRONG: Mapping[str, Sequence[str]] = {
    "ObjectType": ("", "Tube", "Scene", "x"),
    "NDims": ("", "0", "-3", "2", "4", "11", "99999999", "3.5", "nan", "x"),
    "BinaryData": ("", "False", "x"),
    "BinaryDataByteOrderMSB": ("", "True", "x"),
    "CompressedData": ("", "True", "x"),
    "TransformMatrix": (
        "", "0 0 0 0 0 0 0 0 0", "1 0 0", "nan 0 0 0 1 0 0 0 1", "1 1 1 1 1 1 1 1 1",
        "1e400 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0 x",
    ),
    "Offset": ("", "0 0", "nan nan nan", "1e400 0 0", "x y z"),
    "CenterOfRotation": ("", "nan nan nan", "0"),
    "AnatomicalOrientation": ("", "XYZ", "R", "???", "RAIRAIRAIRAI"),
    "ElementSpacing": ("", "0 0 0", "-1 -1 -1", "nan 1 1", "inf 1 1", "1 1", "1e-320 1 1", "x"),
    "DimSize": (
        "", "0 0 0", "-12 10 8", "12 10", "12 10 9", "1500 1500 1000", "12 10 x", "nan 1 1",
        "65536 65536 65536", "4294967296 4294967296 4294967296", "99999999999999999999 1 1",
    ),
    "ElementType": (
        "", "MET_FLOAT", "MET_NONE", "MET_STRING", "MET_OTHER", "MET_DOUBLE_ARRAY", "MET_LONG_LONG",
        "x", "MET_CHAR_ARRAY",
    ),
    "ElementDataFile": (
        "", "gone.raw", ".", "LIST", "LIST 2D", "x%04d.raw 1 99999999 1", "x%s%n.raw 1 5 1",
        "/dev/zero", "local", "../../../etc/passwd",
    ),
}  # fmt: skip

META_MORE = (
    "HeaderSize = -1", "HeaderSize = 99999999999", "HeaderSize = -99", "HeaderSize = x",
    "ElementNumberOfChannels = 0", "ElementNumberOfChannels = -1",
    "ElementNumberOfChannels = 99999999", "ElementNumberOfChannels = 2", "ElementSize = nan nan",
    "CompressedDataSize = -1", "CompressedDataSize = 99999999999", "CompressedDataSize = x",
    "CompressionLevel = 99", "Modality = MET_MOD_OTHER", "ElementToIntensityFunctionSlope = nan",
    "ElementToIntensityFunctionSlope = 0", "ElementMin = inf", "SequenceID = x y z w",
    "Name = =1+1", "Comment = %s%n%s", "Orientation = 1 0 0", "DimSize = 1 1 1", "nonsense",
    " = = ", "x" * 99999 + " = 1", "Comment = " + "x" * 99999, "NDims\0 = 3",
)  # fmt: skip


def nrrd(seed: int) -> Iterator[Damaged]:
    """NRRD with its data, and `.nhdr` with the data apart."""
    rng = random.Random(seed)
    for what, header in _headers(NRRD, NRRD_WRONG, NRRD_MORE, _nrrd):
        yield damaged(what, ".nrrd", header + DATA)
    for what, content in _torn(_nrrd(NRRD.items()), rng):
        yield damaged(what, ".nrrd", content)
    for encoding, data in _encoded():
        yield damaged(f"{encoding} data", ".nrrd", _nrrd_of(encoding=encoding.split()[0]) + data)
    for what, place in _places("raw"):
        header = _nrrd(NRRD.items())[:-1] + f"data file: {place}\n".encode()
        yield damaged(f"apart {what}", ".nhdr", header, raw=DATA[: -1 if what == "short" else None])


def meta(seed: int) -> Iterator[Damaged]:
    """MHA, and MHD with the data apart."""
    rng = random.Random(seed)
    for what, header in _headers(META, META_WRONG, META_MORE, _meta):
        yield damaged(what, ".mha", header + DATA)
    for what, content in _torn(_meta(META.items()), rng):
        yield damaged(what, ".mha", content)
    for what, size, data in _compressed():
        yield damaged(f"packed {what}", ".mha", _packed(size) + data)
    bomb = deflated_zeros(2048, zlib.MAX_WBITS)[0]
    yield damaged("packed tail of gigabytes", ".mha", _packed(len(bomb)) + bomb)
    large = _packed(len(bomb), DimSize="2048 1024 1024")
    yield damaged("packed gigabytes", ".mha", large + bomb)
    for what, text in _lists():
        yield damaged(f"list {what}", ".mhd", _meta_of(ElementDataFile="LIST") + text)
    for what, place in _places("raw"):
        header = _meta_of(ElementDataFile=place)
        yield damaged(f"apart {what}", ".mhd", header, raw=DATA[: -1 if what == "short" else None])


def _torn(header: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """A whole file cut short, with another sign at its start, or with a header of other bytes."""
    whole = header + DATA
    yield from cut_short(whole, {"header": 60, "data": len(header)})
    yield from _magics(whole)
    yield from flipped(whole, len(header), rng, 40)


def _headers(
    fields: Mapping[str, str],
    wrong: Mapping[str, Sequence[str]],
    more: Sequence[str],
    write: Callable[..., bytes],
) -> Iterator[tuple[str, bytes]]:
    """Each field missing, twice, and with each wrong value; then lines that do not belong there."""
    for name, values in wrong.items():
        rest = [item for item in fields.items() if item[0] != name]
        yield f"{name} missing", write(rest)
        yield f"{name} twice", write([*rest[:1], (name, fields[name]), *fields.items()])
        for number, value in enumerate(values):
            yield f"{name} wrong {number:02d}", write({**fields, name: value}.items())
    *head, last = (write([item], start="", end="") for item in fields.items())
    start, end = write([], end=""), write([], start="")
    for number, line in enumerate(more):
        lines = [start, *head, line.encode("latin-1") + b"\n", last, end]
        yield f"line {number:02d}", b"".join(lines)


def _nrrd(items: Iterable[tuple[str, str]], start: str = "NRRD0004\n", end: str = "\n") -> bytes:
    return "".join([start, *(f"{name}: {value}\n" for name, value in items), end]).encode()


def _nrrd_of(**changed: str) -> bytes:
    return _nrrd({**NRRD, **changed}.items())


def _meta(items: Iterable[tuple[str, str]], start: str = "", end: str = "") -> bytes:
    return "".join([start, *(f"{name} = {value}\n" for name, value in items), end]).encode()


def _meta_of(**changed: str) -> bytes:
    return _meta({**META, **changed}.items())


def _magics(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """The first line, and the ends of lines."""
    rest = whole[whole.index(b"\n") :]
    for number, first in enumerate((b"", b"NRRD", b"NRRD9999", b"NRRD0000", b"NIFTI", b"\xff\xfe")):
        yield f"magic {number}", first + rest
    yield "ends of lines of Windows", whole.replace(b"\n", b"\r\n", 9)
    yield "one line", whole.replace(b"\n", b" ")
    yield "text", b"this is not an image\n" * 40
    yield "zeros", bytes(len(whole))


def _encoded() -> Iterator[tuple[str, bytes]]:
    """Data that is not in the encoding that the header names, or too long, or cut short."""
    packed, packed_bz2 = gzip.compress(DATA, mtime=0), bz2.compress(DATA)
    yield "gzip cut", packed[:-9]
    yield "gzip without checksum", packed[:-8]
    yield "gzip wrong checksum", packed[:-8] + bytes(4) + packed[-4:]
    yield "gzip of half", gzip.compress(DATA[:500], mtime=0)
    yield "gzip of more", gzip.compress(DATA * 2, mtime=0)
    yield "gzip and garbage", packed + b"garbage"
    yield "gzip and tail of gigabytes", packed + gzip_of_zeros(4096)
    yield "bzip2 cut", packed_bz2[:-9]
    yield "bzip2 wrong checksum", packed_bz2[:-8] + bytes(8)
    yield "bzip2 of half", bz2.compress(DATA[:500])
    yield "ascii of bytes", DATA
    yield "ascii of words", b"one two three " * 99
    yield "ascii of half", b"1 " * 400
    yield "ascii beyond the type", b"99999999999999999999 " * len(DATA)
    yield "hex of words", b"xyz " * 400
    yield "hex odd", b"0" * (2 * len(DATA) - 1)
    yield "raw short", DATA[:-1]
    yield "raw long", DATA + b"\0"


def _packed(size: int, **changed: str) -> bytes:
    """A header of compressed data, whose size it says unless that is negative."""
    first = {} if size < 0 else {"CompressedDataSize": str(size)}
    return _meta({**first, **META, "CompressedData": "True", **changed}.items())


def _compressed() -> Iterator[tuple[str, int, bytes]]:
    """What is wrong, the size of the stream as the header says, and the stream."""
    packed = zlib.compress(DATA)
    for what, data in (
        ("cut", packed[:-9]),
        ("without checksum", packed[:-4]),
        ("wrong checksum", packed[:-4] + bytes(4)),
        ("of half", zlib.compress(DATA[:500])),
        ("of more", zlib.compress(DATA * 2)),
        ("and garbage", packed + b"garbage"),
        ("not at all", DATA),
    ):
        yield what, len(data), data
    yield "of no size", -1, packed
    yield "of size nothing", 0, packed
    yield "of half its size", len(packed) // 2, packed
    yield "of twice its size", 2 * len(packed), packed


def _lists() -> Iterator[tuple[str, bytes]]:
    """Lists of files with a slice each, which are not there."""
    yield "of nothing", b""
    yield "of bytes", DATA
    yield "of files that are gone", b"".join(b"gone-%d.raw\n" % k for k in range(8))
    yield "of itself", b"list-of-itself.mhd\n" * 8
    yield "of too few", b"list-of-too-few.mhd\n"


def _places(end: str) -> Iterator[tuple[str, str]]:
    """What a header may name as the place of its data; the first file's data is one byte short."""
    yield "short", f"apart-short.{end}"
    yield "gone", f"apart-elsewhere.{end}"
    yield "itself", "apart-itself.nhdr"
    yield "folder", "."
    yield "device", "/dev/zero"
    yield "nothing", ""
    yield "above", f"../../../apart-above.{end}"
    yield "null byte", "a\0b"
    yield "long name", "x" * 5000
