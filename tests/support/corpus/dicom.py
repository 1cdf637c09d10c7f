"""DICOM: every element of a slice, in one slice and in all; series that are none; single files."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from tests.support.corpus.record import (
    Damaged,
    cut_short,
    damaged,
    flipped,
    is_refused,
    lesion_mask,
    slug,
)

Element = tuple[int, int, str, bytes]
_LONG = {"OB", "OW", "SQ", "UN", "UT"}
_ROOT = "1.2.826.0.1.3680043.2.1125.7"
SLICES = 8
CT, SEGMENTATION, STRUCTURES = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "66.4", "481.3"))
LITTLE, DEFLATED, JPEG = (f"1.2.840.10008.1.2{end}" for end in (".1", ".1.99", ".4.70"))


def dicom(seed: int) -> Iterator[Damaged]:
    """Folders with a series, of which one slice or every slice is damaged."""
    rng = random.Random(seed)
    slices = [_slice(number) for number in range(SLICES)]
    for what, changed in _elements(slices[2]):
        yield _series(f"one {what}", [*slices[:2], changed, *slices[3:]])
    everywhere = [dict(_elements(one)) for one in slices]
    for what in list(everywhere[0])[::2]:
        yield _series(f"all {what}", [named[what] for named in everywhere])
    written = [_file(one) for one in slices]
    start = len(written[2]) - 12 * 10 * 2
    for what, content in (
        *cut_short(written[2], {"preamble": 100, "magic": 132, "meta": 300, "data": start}),
        *flipped(written[2], start, rng, 40),
        *_bytes(written[2]),
    ):
        yield _series(f"one {what}", [*written[:2], content, *written[3:]])
    yield from _stacks(slices)


def dicom_files() -> Iterator[Damaged]:
    """Single files, which are slices or nothing at all."""
    whole = _file(_slice(0))
    yield damaged("dicom whole", ".dcm", whole)
    for what, content in (*cut_short(whole, {"magic": 132}), *_bytes(whole)):
        yield damaged(f"dicom {what}", ".dcm", content)


def _slice(number: int, **changed: bytes) -> list[Element]:
    """The elements of a slice; `changed` holds values by tag, such as `t00280010`."""
    pixels = lesion_mask()[:, :, number].T.astype("<i2").tobytes()
    elements: list[Element] = [
        (0x0002, 0x0002, "UI", CT.encode()),
        (0x0002, 0x0003, "UI", f"{_ROOT}.3.{number + 1}".encode()),
        (0x0002, 0x0010, "UI", LITTLE.encode()),
        (0x0008, 0x0016, "UI", CT.encode()),
        (0x0008, 0x0018, "UI", f"{_ROOT}.3.{number + 1}".encode()),
        (0x0008, 0x0060, "CS", b"CT"),
        (0x0018, 0x0050, "DS", b"2.5"),
        (0x0020, 0x000D, "UI", f"{_ROOT}.1".encode()),
        (0x0020, 0x000E, "UI", f"{_ROOT}.2".encode()),
        (0x0020, 0x0013, "IS", str(number + 1).encode()),
        (0x0020, 0x0032, "DS", f"5\\-7\\{3 + 2.5 * number}".encode()),
        (0x0020, 0x0037, "DS", b"-1\\0\\0\\0\\-1\\0"),
        (0x0028, 0x0002, "US", struct.pack("<H", 1)),
        (0x0028, 0x0004, "CS", b"MONOCHROME2"),
        (0x0028, 0x0010, "US", struct.pack("<H", 10)),
        (0x0028, 0x0011, "US", struct.pack("<H", 12)),
        (0x0028, 0x0030, "DS", b"1.2\\1"),
        (0x0028, 0x0100, "US", struct.pack("<H", 16)),
        (0x0028, 0x0101, "US", struct.pack("<H", 16)),
        (0x0028, 0x0102, "US", struct.pack("<H", 15)),
        (0x0028, 0x0103, "US", struct.pack("<H", 1)),
        (0x0028, 0x1052, "DS", b"0"),
        (0x0028, 0x1053, "DS", b"1"),
        (0x7FE0, 0x0010, "OW", pixels),
    ]
    return [(a, b, kind, changed.get(f"t{a:04x}{b:04x}", value)) for a, b, kind, value in elements]


_WRONG = {
    "UI": (b"x", b"1.2.3" * 40, b"=1+1"),
    "CS": (b"", b"\xff\xff", b"RGB"),
    "IS": (b"nan", b"99999999999999999999", b"-1"),
    "DS": (b"nan\\nan\\nan", b"0\\0\\0\\0\\0\\0", b"1e400\\1e400\\1e400", b"x", b"-1\\-1"),
    "US": (b"\0\0", b"\xff\xff", b"\1\0", b"\7\0"),
    "OW": (b"\0" * 10, b"\0" * 9999),
}


def _elements(elements: list[Element]) -> Iterator[tuple[str, bytes]]:
    """Each element missing, empty, with wrong values, of another type, and of absurd lengths."""
    for at, (group, element, kind, value) in enumerate(elements):
        tag = f"{group:04x}{element:04x}"

        def with_one(*new: Element, at: int = at) -> bytes:
            return _file([*elements[:at], *new, *elements[at + 1 :]])

        yield f"{tag} missing", with_one()
        yield f"{tag} empty", with_one((group, element, kind, b""))
        yield f"{tag} twice", with_one((group, element, kind, value), (group, element, kind, value))
        for number, wrong in enumerate(_WRONG[kind]):
            yield f"{tag} wrong {number:02d}", with_one((group, element, kind, wrong))
        whole = _file(elements)
        written = _encoded(group, element, kind, value)
        size = 4 if kind in _LONG else 2
        start = whole.index(written) + (12 if kind in _LONG else 8) - size
        for number, length in enumerate((b"\xff" * size, b"\xfe" * size)):
            yield f"{tag} length {number:02d}", whole[:start] + length + whole[start + size :]


def _bytes(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Damages of the file as a whole."""
    yield "no preamble", whole[128:]
    yield "wrong magic", whole[:128] + b"DICX" + whole[132:]
    yield "text", b"this is not a slice\n" * 40
    yield "claims two gigabytes", whole[:132] + b"\x02\0\0\0UN\0\0\xf0\xff\xff\x7f"
    nested = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" * 3000
    start = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
    yield "sequence in sequence", whole + start + nested
    for name, syntax in (("deflated", DEFLATED), ("jpeg", JPEG), ("unknown", "1.2.3")):
        yield f"says {name}", _file(_slice(0, t00020010=syntax.encode()))


def _stacks(slices: list[list[Element]]) -> Iterator[Damaged]:
    """Series whose slices are whole, but form no stack."""
    files = [_file(one) for one in slices]
    yield _series("stack of one", files[:1])
    yield _series("stack with a gap", [*files[:1], *files[2:]])
    yield _series("stack with a slice twice", [*files, files[1]])
    places = [b"0\\0\\0", b"0\\1\\2.5", b"0\\2\\5", b"0\\3\\7.5"]
    leaning = [_slice(k, t00200032=place) for k, place in enumerate(places)]
    yield _series("stack that leans", list(map(_file, leaning)))
    same = [_slice(k, t00200032=b"0\\0\\0") for k in range(SLICES)]
    yield _series("stack in one place", list(map(_file, same)))
    for name, kind in (("structures", STRUCTURES), ("segmentation", SEGMENTATION)):
        other = [(0x0008, 0x0016, "UI", kind.encode()), (0x0020, 0x000E, "UI", b"1.2.9")]
        yield _series(f"stack beside {name}", [*files, _file(other)])
        yield _series(f"only {name}", [_file(other)])
    twin = [_slice(k, t0020000e=b"1.2.99") for k in range(SLICES)]
    yield _series("two series", [*files, *map(_file, twin)])
    large = _slice(2, t00280010=b"\xff\xff", t00280011=b"\xff\xff")
    yield _series("slice of gigabytes", [*files[:2], _file(large), *files[3:]])
    every = [_slice(k, t00280010=b"\xff\xff", t00280011=b"\xff\xff") for k in range(SLICES)]
    yield _series("slices of gigabytes", list(map(_file, every)))
    frames = _slice(2)
    frames.insert(13, (0x0028, 0x0008, "IS", b"999999999"))
    yield _series("endless frames", [*files[:2], _file(frames), *files[3:]])


def _series(what: str, slices: list[list[Element] | bytes]) -> Damaged:

    name = slug(f"series {what}")
    files = {
        f"{name}/{k:02d}.dcm": one if isinstance(one, bytes) else _file(one)
        for k, one in enumerate(slices)
    }
    return Damaged(name, files, is_refused(name))


def _file(elements: list[Element]) -> bytes:
    """Preamble, magic, and the elements with explicit types in little endian."""
    meta = b"".join(_encoded(*element) for element in elements if element[0] == 2)
    length = _encoded(2, 0, "UL", struct.pack("<I", len(meta)))
    rest = b"".join(_encoded(*element) for element in elements if element[0] != 2)
    return bytes(128) + b"DICM" + length + meta + rest


def _encoded(group: int, element: int, kind: str, value: bytes) -> bytes:
    padding = b"\0" if kind in ("UI", "OB", "OW") else b" "
    value += padding * (len(value) % 2)
    size = struct.pack("<HI", 0, len(value)) if kind in _LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", group, element) + kind.encode() + size + value
