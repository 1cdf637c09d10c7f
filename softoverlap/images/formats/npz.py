"""Arrays of an npz file, sized up before anything is unpacked, and without unpickling."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from softoverlap.images.limits import check_memory

MOST_BOXES = 1 << 20
"""More rows than this are no boxes of a scan, whatever they would take."""

_AS_LIST = 100
"""Bytes of a number in a list, and of the lists and tensors that are made from it."""
_OURS = ("pred_", "itk_", "restore")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def load_npz(path: Path) -> dict[str, Any]:
    """Arrays of an npz file of boxes as lists, and None for those that hold no boxes.

    Raises:
        ValueError: If the file is no npz, is encrypted, holds pickles, or an array is not what its
            header says or takes too much memory. The message names the file.
        OSError: If the file cannot be opened.
    """
    with _opened(path) as archive:
        names = _distinct(archive.namelist())
        ours = {key: name for key, name in names.items() if key.startswith(_OURS)}
        check_memory(path, sum(_needed_as_list(archive, name) for name in ours.values()))
        return {key: _listed(archive, ours.get(key)) for key in names}


def load_npz_array(path: Path, key: str) -> np.ndarray:
    """One array of an npz file.

    Raises:
        ValueError: As `load_npz`, or if there is no such array.
        OSError: If the file cannot be opened.
    """
    with _opened(path) as archive:
        names = _distinct(archive.namelist())
        if key not in names:
            raise ValueError(f"{path} must hold an array {key!r}, got {', '.join(names) or 'none'}")
        check_memory(path, _stored(archive, names[key])[1])
        return _array(archive, names[key])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; what goes wrong within is an error that names the file."""
    path.open("rb").close()  # what the system says about the file itself
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except Exception as error:  # zipfile and NumPy raise a dozen kinds on damaged bytes
        if str(error).startswith(str(path)):
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} must be a readable npz without pickles, got: {words}") from error


def _distinct(members: list[str]) -> dict[str, str]:
    """Names of arrays and their members; of two with one name, one would win without a word."""
    names = {member.removesuffix(".npy"): member for member in members}
    if len(names) < len(members):
        raise ValueError("two arrays of one name")
    return names


def _stored(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], int]:
    """Shape and bytes of an array, if its member is as long as its header says."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of {name}")
        shape, _, dtype = _HEADERS[version](member)
        begin = member.tell()
    if dtype.hasobject:
        raise ValueError(f"pickled objects in {name}")
    held, size = archive.getinfo(name).file_size - begin, math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or held != size:
        raise ValueError(f"{name} of shape {shape}, which are {size} bytes, with {held} bytes")
    return shape, size


def _needed_as_list(archive: zipfile.ZipFile, name: str) -> int:
    """Bytes that an array of boxes will take."""
    shape, size = _stored(archive, name)
    if shape and shape[0] > MOST_BOXES:
        raise ValueError(f"{shape[0]} rows in {name}: a scan has at most {MOST_BOXES} boxes")
    return size + _AS_LIST * math.prod(shape)


def _listed(archive: zipfile.ZipFile, name: str | None) -> Any:
    return None if name is None else _array(archive, name).tolist()


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
