"""NIfTI-1, NIfTI-2, compressed, pairs of header and data, and MGH: every field of the header."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Iterator

import nibabel
import numpy as np
from nibabel.freesurfer.mghformat import header_dtype as fields_mgh
from nibabel.nifti1 import header_dtype as fields_1
from nibabel.nifti2 import header_dtype as fields_2

from tests.support.corpus.record import (
    AFFINE,
    Damaged,
    cut_short,
    damaged,
    flipped,
    gzip_of_zeros,
    lesion_mask,
)

PLAIN = {
    "sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "magic", "scl_slope",
    "version", "dims", "type", "goodRASFlag", "delta",
}  # fmt: skip
"""Fields without which there is no image: they get all wrong values, the others two each."""


def nifti_bytes(kind: type = nibabel.Nifti1Image, values: np.ndarray | None = None) -> bytes:
    """A file that is whole."""
    image = kind(lesion_mask() if values is None else values, np.array(AFFINE))
    image.header.set_xyzt_units("mm")
    return image.to_bytes()


def nifti(seed: int) -> Iterator[Damaged]:
    """NIfTI-1, `.nii` and `.nii.gz`."""
    rng = random.Random(seed)
    whole = nifti_bytes()
    for what, content in (*_fields(whole, fields_1, rng), *_wholes(whole)):
        yield damaged(f"plain {what}", ".nii", content)
    for what, content in (*flipped(whole, 352, rng, 30), *cut_short(whole, _REGIONS)):
        yield damaged(f"plain {what}", ".nii", content)
    for what, content in list(_fields(whole, fields_1, rng))[::12]:
        yield damaged(f"gz {what}", ".nii.gz", gzip.compress(content, mtime=0))
    packed = gzip.compress(whole, mtime=0)
    for what, content in (*_gzipped(packed, whole), *flipped(packed, len(packed), rng, 10)):
        yield damaged(f"gz {what}", ".nii.gz", content)
    for what, values in _values():
        yield damaged(f"values {what}", ".nii", nifti_bytes(values=values))


def nifti2(seed: int) -> Iterator[Damaged]:
    """NIfTI-2, whose numbers are wider."""
    rng, whole = random.Random(seed), nifti_bytes(nibabel.Nifti2Image)
    for what, content in _fields(whole, fields_2, rng):
        yield damaged(what, ".nii", content)
    for what, content in cut_short(whole, {"header": 100, "data": 544}):
        yield damaged(what, ".nii", content)


def nifti_pair(seed: int) -> Iterator[Damaged]:
    """Header and data apart (`.hdr`, `.img`)."""
    rng = random.Random(seed)
    image = nibabel.Nifti1Pair(lesion_mask(), np.array(AFFINE))
    parts = image.make_file_map({"header": None, "image": None})
    parts = {key: nibabel.FileHolder(fileobj=io.BytesIO()) for key in parts}
    image.to_file_map(parts)
    header, data = (parts[key].fileobj.getvalue() for key in ("header", "image"))
    for what, content in list(_fields(header, fields_1, rng))[::4]:
        yield damaged(what, ".img", data, hdr=content)
    for what, content in cut_short(header, {"header": 100}):
        yield damaged(f"header {what}", ".img", data, hdr=content)
    for what, content in cut_short(data, {"data": 0}):
        yield damaged(f"data {what}", ".img", content, hdr=header)
    yield damaged("no header", ".img", data)
    yield Damaged("no-data.hdr", {"no-data.hdr": header})


def mgh(seed: int) -> Iterator[Damaged]:
    """FreeSurfer's `.mgh` and `.mgz`."""
    rng = random.Random(seed)
    whole = nibabel.MGHImage(lesion_mask(), np.array(AFFINE)).to_bytes()
    whole = whole[: 284 + lesion_mask().size]  # what follows the values may be missing
    for what, content in _fields(whole, np.dtype(fields_mgh).descr, rng):
        yield damaged(f"plain {what}", ".mgh", content)
    for what, content in cut_short(whole, {"dims": 12, "affine": 60, "data": 284}):
        yield damaged(f"plain {what}", ".mgh", content)
    packed = gzip.compress(whole, mtime=0)
    for what, content in cut_short(packed, {"gzip header": 10, "checksum": len(packed) - 8}):
        yield damaged(f"gz {what}", ".mgz", content)
    yield damaged("gz tail of gigabytes", ".mgz", packed + gzip_of_zeros(4096))
    yield damaged("gz random", ".mgz", next(flipped(packed, len(packed), rng, 1))[1])


_REGIONS = {"size of header": 4, "dim": 44, "affine": 300, "extension": 350, "data": 352}


def _fields(whole: bytes, dtype: list[tuple], rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Every number of every field, with values that are wrong for its type."""
    types = np.dtype(dtype)
    for name in types.names:
        part, offset = types.fields[name][:2]
        count = int(np.prod(part.shape)) if part.shape else 1
        kind = part.base
        for index in range(count):
            values = _wrong(kind)
            if name not in PLAIN:
                values = rng.sample(values, 2)
            for number, value in enumerate(values):
                start = offset + index * kind.itemsize
                place = f"{name} {index}" if count > 1 else name
                changed = whole[:start] + value + whole[start + kind.itemsize :]
                yield f"{place} wrong {number:02d}", changed


def _wrong(kind: np.dtype) -> list[bytes]:
    """Values that no writer means."""
    if kind.kind == "S":
        texts = (b"\0", b"\xff" * kind.itemsize, b"../../etc/passwd", b"=1+1")
        return [text[: kind.itemsize].ljust(kind.itemsize, b"\0") for text in texts]
    if kind.kind == "f":
        values = (np.nan, np.inf, 0, -1, 1e38, 1e-38)
    else:
        limits = np.iinfo(kind)
        values = (limits.min, limits.max, 0, max(limits.min, -1), 2, 255 % (limits.max + 1))
    return [np.array(value, kind).tobytes() for value in values]


def _wholes(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Damages of more than one field."""
    large = np.array([3, 32767, 32767, 32767, 1, 1, 1, 1], "<i2").tobytes()
    endless = np.array([7, *[32767] * 7], "<i2").tobytes()
    yield "every axis absurd", whole[:40] + large + whole[56:]
    yield "seven axes absurd", whole[:40] + endless + whole[56:]
    large_scan = np.array([3, 1500, 1500, 1500, 1, 1, 1, 1], "<i2").tobytes()
    yield "a scan larger than its file", whole[:40] + large_scan + whole[56:]
    numbers = np.frombuffer(whole[:348], np.dtype(fields_1))
    yield "numbers of the other end", numbers.byteswap().tobytes() + whole[348:]
    yield "size and dim of the other end", whole[3::-1] + whole[4:40] + _swapped(whole)
    yield "header twice", whole[:352] + whole
    yield "no header", whole[352:]
    yield "text", b"this is not an image\n" * 40
    yield "zeros", bytes(len(whole))
    yield "endless extension", whole[:348] + b"\1\0\0\0" + b"\xf0\xff\xff\x7f" + whole[356:]
    yield "negative extension", whole[:348] + b"\1\0\0\0" + b"\xf0\xff\xff\xff" + whole[356:]
    singular = bytearray(whole)
    singular[280:328] = np.ones(12, "<f4").tobytes()
    yield "singular sform", bytes(singular)
    singular[252:256] = bytes(4)
    yield "no form", bytes(singular)


def _swapped(whole: bytes) -> bytes:
    return np.frombuffer(whole[40:56], "<i2").byteswap().tobytes() + whole[56:]


def _gzipped(packed: bytes, whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Damages of the compressed file."""
    ends = {"magic": 2, "gzip header": 10, "checksum": len(packed) - 8}
    yield from cut_short(packed, ends)
    yield "wrong checksum", packed[:-8] + b"\0\0\0\0" + packed[-4:]
    yield "wrong size", packed[:-4] + b"\xff\xff\xff\x7f"
    yield "garbage behind", packed + b"garbage"
    yield "not compressed", whole
    yield "twice compressed", gzip.compress(packed, mtime=0)
    yield "unknown method", packed[:2] + b"\7" + packed[3:]
    yield "tail of gigabytes", packed + gzip_of_zeros(4096)
    large = np.array([3, 1500, 1500, 1500, 1, 1, 1, 1], "<i2").tobytes()
    bomb = gzip.compress(whole[:40] + large + whole[56:352], mtime=0)
    yield "declares gigabytes", bomb
    yield "holds gigabytes", bomb + gzip_of_zeros(3376)


def _values() -> Iterator[tuple[str, np.ndarray]]:
    """Values that are no mask."""
    mask = lesion_mask().astype(np.float32)
    for what, value in (("nan", np.nan), ("infinite", np.inf), ("minus", -1.0), ("huge", 1e30)):
        wrong = mask.copy()
        wrong[0, 0, 0] = value
        yield what, wrong
    yield "all nan", np.full_like(mask, np.nan)
    yield "complex", mask.astype(np.complex64)
    yield "float64 beyond float32", np.full(mask.shape, 1e300)
    yield "large labels", np.full(mask.shape, 2**31 - 1, np.int32)
    yield "flat", mask[:, :, 0]
    yield "five axes", mask.reshape(12, 10, 2, 2, 2)
    yield "one voxel", mask[:1, :1, :1]
    yield "colours", np.zeros(mask.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
