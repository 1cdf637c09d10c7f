"""Stamps that show whether the files of a case have changed: names, sizes and times."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from softoverlap.images import tables_beside

Stamp = tuple[str, int, int, int]
"""Path, size, and the times of the last change of content and of file; -1 if the file is gone."""

_HEADERS = {
    ".mhd": ("=", "elementdatafile"),
    ".mha": ("=", "elementdatafile"),
    ".nhdr": (":", "datafile"),
    ".nrrd": (":", "datafile"),
}
_NUMBER = re.compile(r"%\d*d")
_LONGEST = 1 << 16  # bytes of a header line: binary data may follow the header


def file_stamps(path: Path) -> list[Stamp]:
    """Stamps of a file and its separate data files, or of the files in a folder (a DICOM series).

    If a file is replaced by one of the same size and modification time, the time at which the file
    itself was changed still differs.

    Examples:
        >>> [(Path(name).name, *rest) for name, *rest in file_stamps(Path("gone.nii"))]
        [('gone.nii', -1, -1, -1)]
    """
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path, *_data_apart(path)]
    except OSError:
        files = [path]
    return [_stamp(file) for file in files]


def _stamp(file: Path) -> Stamp:
    name = os.path.abspath(file)
    try:
        status = file.stat()
    except (OSError, ValueError):  # ValueError: a damaged header names a file with a NUL
        return name, -1, -1, -1
    return name, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _data_apart(path: Path) -> list[Path]:
    """The data that the header of a MetaImage or NRRD file names, or a label map of classes."""
    if path.suffix.lower() == ".json":
        return list(tables_beside(path))
    if path.suffix.lower() not in _HEADERS or not path.is_file():  # a pipe may never end
        return []
    sign, field = _HEADERS[path.suffix.lower()]
    with path.open("rb") as file:
        lines = (line.decode("latin-1") for line in iter(lambda: file.readline(_LONGEST), b""))
        for line in lines:
            name, separator, value = line.partition(sign)
            if separator and name.strip().lower().replace(" ", "") == field:
                return _data_files(path.parent, value.strip(), lines)
            if not line.strip():  # the header of an NRRD file ends here
                return []
    return []


def _data_files(folder: Path, value: str, lines: Iterator[str]) -> list[Path]:
    """One file, the files listed in the following lines, or all files that match a pattern."""
    words = value.split()
    if not words or words[0].upper() == "LOCAL":
        return []
    if words[0].upper() == "LIST":
        return [folder / line.strip() for line in lines if line.strip()]
    if not _NUMBER.search(words[0]):
        return [folder / value]
    pattern = "*".join(map(glob.escape, _NUMBER.split(words[0])))
    return sorted(map(Path, glob.glob(os.path.join(glob.escape(str(folder)), pattern))))
