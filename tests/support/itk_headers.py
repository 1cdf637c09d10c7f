"""Headers of MetaImage and NRRD with one field changed, before the values of a small image."""

from __future__ import annotations

GRID = (6, 5, 4)
VALUES = bytes(range(120))

META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "CenterOfRotation": "0 0 0",
    "ElementSpacing": "1 1 1", "DimSize": "6 5 4", "ElementType": "MET_UCHAR",
    "ElementDataFile": "LOCAL",
}  # fmt: skip
NRRD = {
    "type": "uchar", "dimension": "3", "space": "left-posterior-superior", "sizes": "6 5 4",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)", "kinds": "domain domain domain",
    "encoding": "raw", "space origin": "(0,0,0)",
}  # fmt: skip


def meta(values=VALUES, **changed):
    """A MetaImage file; a field that is None is left out."""
    fields = {**META, **changed}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # what follows it are values
    lines = [f"{name} = {value}\n" for name, value in fields.items() if value is not None]
    return "".join(lines).encode("latin-1") + values


def nrrd(values=VALUES, first="NRRD0004", end="\n", **changed):
    """An NRRD file; underscores in names are spaces, and a field that is None is left out."""
    fields = {**NRRD, **{name.replace("_", " "): value for name, value in changed.items()}}
    lines = [f"{name}: {value}\n" for name, value in fields.items() if value is not None]
    return f"{first}\n{''.join(lines)}{end}".encode("latin-1") + values
