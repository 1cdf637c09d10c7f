"""The formats of boxes that are tables or arrays: CSV, npz and npy."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from tests.support.corpus.record import Damaged, cut_short, damaged, deflated_zeros, flipped

_COLUMNS = (
    "case", "score", "label", "axis0_min", "axis1_min", "axis2_min", "axis0_max", "axis1_max",
    "axis2_max", "ignored",
)  # fmt: skip
_ROWS = (
    ("", "0.9", "1", "2", "3", "2", "6", "7", "5.5", "False"),
    ("", "0.2", "0", "8", "6", "5", "11", "9", "7", "True"),
)
_CELLS = (
    "", "x", "nan", "inf", "-1", "1e400", "1e30", "1,5", "9" * 400, "=1+1", "'=1+1", "None", "1_0",
    "\0", '"', "0x10", "true", " 5 ", "１２",
)  # fmt: skip


def csv_boxes(seed: int) -> Iterator[Damaged]:
    """Tables with a row for each box."""
    rng = random.Random(seed)
    for column, name in enumerate(_COLUMNS):
        for number, cell in enumerate(rng.sample(_CELLS, 9)):
            rows = [list(row) for row in _ROWS]
            rows[1][column] = cell
            yield damaged(f"csv {name} wrong {number:02d}", ".csv", _table(_COLUMNS, rows))
        without = [key for key in range(len(_COLUMNS)) if key != column]
        rows = [[row[key] for key in without] for row in _ROWS]
        columns = [_COLUMNS[key] for key in without]
        yield damaged(f"csv {name} missing", ".csv", _table(columns, rows))
        twice = [[*row, row[column]] for row in _ROWS]
        yield damaged(f"csv {name} twice", ".csv", _table([*_COLUMNS, name], twice))
    whole = _table(_COLUMNS, _ROWS)
    for what, content in (*cut_short(whole, {"header": 10, "row": 90}), *_texts(whole)):
        yield damaged(f"csv {what}", ".csv", content)
    for what, content in flipped(whole, len(whole), rng, 20):
        yield damaged(f"csv {what}", ".csv", content)


def _table(columns, rows) -> bytes:
    lines = [",".join(columns), *(",".join(row) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


def _texts(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield "semicolons", whole.replace(b",", b";")
    yield "tabs", whole.replace(b",", b"\t")
    yield "utf 16", whole.decode().encode("utf-16")
    yield "mark of utf 8", b"\xef\xbb\xbf" + whole
    yield "not utf 8", whole + b"\xff\xfe,1\n"
    yield "null bytes", whole.replace(b"0.9", b"0\0.9")
    yield "open quote", whole + b'"open,1,2\n' + whole
    yield "long cell", whole + b"x" * 200_000 + b",1,2\n"
    yield "too few cells", whole + b"a,1\n"
    yield "too many cells", whole + b"a" + b",1" * 99 + b"\n"
    yield "no rows", whole[: whole.index(b"\n") + 1]
    yield "no header", whole[whole.index(b"\n") + 1 :]
    yield "header twice", whole[: whole.index(b"\n") + 1] + whole
    yield "ends of lines of old Macs", whole.replace(b"\n", b"\r")
    yield "empty lines", whole.replace(b"\n", b"\n\n\n")
    yield "inverted box", whole.replace(b",6,7,5.5", b",1,1,1")
    yield "two cases", whole.replace(b"\n,0.9", b"\na,0.9")
    yield "case that is a path", whole.replace(b"\n,", b"\n../../a,")
    yield "case that is a formula", whole.replace(b"\n,", b"\n=1+1,")


def npz_boxes(seed: int) -> Iterator[Damaged]:
    """Arrays of nnDetection's boxes in a zip file."""
    rng = random.Random(seed)
    for key in _arrays():
        for number, array in enumerate(_WRONG):
            yield damaged(f"npz {key} wrong {number:02d}", ".npz", _npz(**{key: array}))
        arrays = {name: array for name, array in _arrays().items() if name != key}
        yield damaged(f"npz {key} missing", ".npz", _zipped(arrays))
    whole = _npz()
    ends = {"magic": 2, "name": 35, "header of array": 100, "directory": len(whole) - 300}
    ends["end record"] = len(whole) - 22
    for what, content in (*cut_short(whole, ends), *flipped(whole, len(whole), rng, 60)):
        yield damaged(f"npz {what}", ".npz", content)
    for name, array in _headers():
        yield damaged(f"npz header {name}", ".npz", _members({"pred_boxes.npy": array}))
    for what, content in _zips(whole):
        yield damaged(f"npz {what}", ".npz", content)
    yield damaged("npz an array alone", ".npz", _npy(_arrays()["pred_boxes"]))


_WRONG = (
    np.array(np.nan), np.array([]), np.full((2, 6), np.nan), np.full((2, 6), np.inf),
    np.array([["a", "b"]]), np.zeros((2, 6), complex), np.array([None, {}], object),
    np.zeros((2, 6), bool), np.full((2, 6), 2**63, np.uint64), np.zeros((1, 1, 1, 1, 6)),
    np.zeros((2, 6), "M8[D]"), np.zeros(2, [("a", "f4"), ("b", "S3")]),
)  # fmt: skip


def _arrays() -> dict[str, np.ndarray]:
    return {
        "pred_boxes": np.array([[1, 2, 5, 7, 1, 6], [4, 5, 7, 9, 7, 11.0]]),
        "pred_scores": np.array([0.9, 0.2]),
        "pred_labels": np.array([1, 0]),
        "itk_origin": np.array([5.0, -7.0, 3.0]),
        "itk_spacing": np.array([1.0, 1.2, 2.5]),
        "itk_direction": np.array([-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0]),
    }


def _npz(**changed: np.ndarray) -> bytes:
    return _zipped(_arrays() | changed)


def _zipped(arrays: dict[str, np.ndarray]) -> bytes:
    return _members({f"{name}.npy": _npy(array) for name, array in arrays.items()})


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _members(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of one date, so that each run writes the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def _header(text: str, version: bytes = b"\1\0", magic: bytes = b"\x93NUMPY") -> bytes:
    head = text.encode("latin-1")
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return magic + version + struct.pack("<H", len(head)) + head


def _words(descr: str = "'<f8'", order: str = "False", shape: str = "(2, 6)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def _headers() -> Iterator[tuple[str, bytes]]:
    """Arrays whose header promises what is not there, or is none."""
    data = np.ones((2, 6)).tobytes()
    shapes = (
        "(99999999999, 6)", "(1, ", "(-1, 6)", "(-2, -6)", "()", "(2.5, 6)", "(0, 6)", "None",
        "(True, 6)", "'x'", "(9223372036854775807, 9223372036854775807)", "(2, 6, 0, 99999999999)",
        "(" + "1," * 99 + ")", "(" * 500, "(1e3, 6)",
    )  # fmt: skip
    for number, shape in enumerate(shapes):
        yield f"shape {number:02d}", _header(_words(shape=shape)) + data
    types = (
        "'O'",
        "'<f99'",
        "'|V99999999999'",
        "'x'",
        "[('a', '<f8')]",
        "None",
        "'<U99999999'",
        "[]",
    )
    for number, descr in enumerate(types):
        yield f"type {number:02d}", _header(_words(descr=descr)) + data
    for number, order in enumerate(("None", "'x'", "2", "True")):
        yield f"order {number:02d}", _header(_words(order=order)) + data
    for number, text in enumerate(
        ("", "{}", "[]", "__import__('os')", "{" * 90, "\xff\0", "{1: 2}")
    ):
        yield f"words {number:02d}", _header(text) + data
    yield "version", _header(_words(), version=b"\x63\0") + data
    yield "magic", _header(_words(), magic=b"\x93NUMPX") + data
    yield "length", _header(_words())[:8] + b"\xff\xff" + data
    yield "alone", _header(_words())


def _zips(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Damages of the zip file as a whole."""
    for what, local, central, value in (
        ("encrypted", 6, 8, b"\1\0"), ("unknown method", 8, 10, b"\x63\0"),
        ("method of bzip2", 8, 10, b"\x0c\0"), ("method of lzma", 8, 10, b"\x0e\0"),
        ("wrong checksum", 14, 16, b"\1\2\3\4"), ("absurd size", 22, 24, b"\xfe\xff\xff\x7f"),
        ("absurd packed size", 18, 20, b"\xfe\xff\xff\x7f"), ("long name", 26, 28, b"\xff\xff"),
        ("far away", 0, 42, b"\xfe\xff\xff\x7f"),
    ):  # fmt: skip
        changed = bytearray(whole)
        at = whole.index(b"PK\1\2")
        changed[at + central : at + central + len(value)] = value
        if local:
            changed[local : local + len(value)] = value
        yield what, bytes(changed)
    yield "a pickle", _members({"pred_boxes.npy": b"\x80\4\x95\n\0\0\0\0\0\0\0]\x94."})
    yield "a folder", _members({"pred_boxes.npy/": b""})
    yield "a path", _members({"../../pred_boxes.npy": _npy(np.ones((2, 6)))})
    yield "no array", _members({"pred_boxes": b"text"})
    yield "empty archive", _members({})
    yield "garbage before", b"garbage" * 9 + whole
    yield "garbage behind", whole + b"garbage" * 9
    yield "text", b"this is not an archive\n" * 40
    many = {f"a{number}.npy": _npy(np.zeros(1)) for number in range(3000)}
    yield "many members", _members(_boxes_alone() | many)
    rows = 2048 * (1 << 20) // 48
    yield "bomb of boxes", _bomb("pred_boxes.npy", _header(_words(shape=f"({rows}, 6)")), 2048)
    wide = _header(_words(descr="'|u1'", shape=f"({2048 << 20},)"))
    yield "bomb of bytes", _bomb("pred_scores.npy", wide, 2048)
    yield "bomb beside", _bomb("other.npy", wide, 2048)


def _boxes_alone() -> dict[str, bytes]:
    return {"pred_boxes.npy": _npy(_arrays()["pred_boxes"])}


def _bomb(name: str, header: bytes, mebibytes: int) -> bytes:
    """A small archive of which one member opens to gigabytes, beside boxes that are whole."""
    packed, checksum = deflated_zeros(mebibytes, -zlib.MAX_WBITS, header)
    size = len(header) + (mebibytes << 20)
    rest = {} if name == "pred_boxes.npy" else _boxes_alone()
    stream = io.BytesIO(_members(rest))
    with zipfile.ZipFile(stream, "a") as file:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.CRC, info.file_size, info.compress_size = checksum, size, len(packed)
        info.header_offset = file.start_dir
        stream.seek(file.start_dir)
        stream.write(info.FileHeader(zip64=False) + packed)
        file.start_dir = stream.tell()
        file.filelist.append(info)
        file._didModify = True
    return stream.getvalue()
