"""Whether a case's files are still those that were scored: names, sizes and times of change."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

Stamp = tuple[str, int, int, int]
"""Path, size, and the times at which content and file were changed; -1 where it is gone."""

_HEADERS = {
    ".mhd": ("=", "elementdatafile"),
    ".mha": ("=", "elementdatafile"),
    ".nhdr": (":", "datafile"),
    ".nrrd": (":", "datafile"),
}
_NUMBER = re.compile(r"%\d*d")
_LONGEST = 1 << 16  # of a header's line: data may stand behind it


def file_stamps(path: Path) -> list[Stamp]:
    """Stamps of a file, of the data apart from its header, or of a folder's files (a DICOM series).

    A file that was replaced by one of the same size and time still has another time of change.

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
    """The files that the header of a MetaImage or NRRD file names: one, a list, or a pattern."""
    if path.suffix.lower() not in _HEADERS:
        return []
    sign, field = _HEADERS[path.suffix.lower()]
    with path.open("rb") as file:
        lines = (line.decode("latin-1") for line in iter(lambda: file.readline(_LONGEST), b""))
        for line in lines:
            name, found, value = line.partition(sign)
            if found and name.strip().lower().replace(" ", "") == field:
                return _data_files(path.parent, value.strip(), lines)
            if not line.strip():  # the header of an NRRD file ends here
                return []
    return []


def _data_files(folder: Path, value: str, lines: Iterator[str]) -> list[Path]:
    """A file, those of the lines below, or all whose name has a number in this place."""
    words = value.split()
    if not words or words[0].upper() == "LOCAL":
        return []
    if words[0].upper() == "LIST":
        return [folder / line.strip() for line in lines if line.strip()]
    if not _NUMBER.search(words[0]):
        return [folder / value]
    pattern = "*".join(map(glob.escape, _NUMBER.split(words[0])))
    return sorted(map(Path, glob.glob(os.path.join(glob.escape(str(folder)), pattern))))
