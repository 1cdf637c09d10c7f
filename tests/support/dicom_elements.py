"""DICOM files, element by element: explicit little endian, as small as can be."""

from __future__ import annotations

import struct

EXPLICIT = "1.2.840.10008.1.2.1"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
_LONG = ("OB", "OW", "SQ", "UN", "UT")


def element(group, number, kind, value, length=None):
    """One element; `length` is what it claims, if that is not what it holds."""
    value = value.encode() if isinstance(value, str) else value
    value += (b"\0" if kind in ("UI", "OB") else b" ") * (len(value) % 2)
    length = len(value) if length is None else length
    size = struct.pack("<HI", 0, length) if kind in _LONG else struct.pack("<H", length)
    return struct.pack("<HH", group, number) + kind.encode() + size + value


def dicom_file(*elements, kind=CT, syntax=EXPLICIT):
    """A file of a class, with these elements behind the common ones."""
    head = element(2, 0x10, "UI", syntax)
    meta = element(2, 0, "UL", struct.pack("<I", len(head))) + head
    common = element(8, 0x16, "UI", kind) + element(8, 0x18, "UI", "1.2.3")
    return b"\0" * 128 + b"DICM" + meta + common + b"".join(elements)


def pixels(rows=2, columns=2, bits=16, held=8, frames=None):
    """The elements of an image, with so many bytes of pixels."""
    number = (element(0x28, 8, "IS", str(frames)),) if frames is not None else ()
    return (
        element(0x28, 2, "US", struct.pack("<H", 1)), *number,
        element(0x28, 0x10, "US", struct.pack("<H", rows)),
        element(0x28, 0x11, "US", struct.pack("<H", columns)),
        element(0x28, 0x100, "US", struct.pack("<H", bits)),
        element(0x7FE0, 0x10, "OW", bytes(held)),
    )  # fmt: skip
