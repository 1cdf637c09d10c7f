"""Whether files can be a pair: each is there, and none is both sides."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from softoverlap.images import is_dangling, link_fault

_STORE = "/annex/objects/"  # of git-annex, in which equal files are links to one content


def is_same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, also by links.

    Equal files in a store of git-annex are links to one content; they count as two.

    Examples:
        >>> is_same_file(Path("a.nii"), Path("./a.nii")), is_same_file(Path("a.nii"), Path("b.nii"))
        (True, False)
    """
    if not (first.exists() and second.exists()):
        return os.path.abspath(first) == os.path.abspath(second)
    if not os.path.samefile(first, second):
        return False
    if _STORE not in os.path.realpath(first):
        return True
    return any(_STORE not in place.as_posix() for place in _places(first) & _places(second))


def file_error(pred: Path, truths: Iterable[Path]) -> str | None:
    """Why the files of a case cannot be a pair, or None.

    Examples:
        >>> file_error(Path("a.nii"), [Path("a.nii")])
        'one file is both the prediction and the truth: a.nii'
    """
    truths = list(truths)
    for path in (pred, *truths):
        inside = list(path.iterdir()) if path.is_dir() else []  # slices of a DICOM series
        for file in filter(is_dangling, [path, *inside]):
            fault = link_fault(file)
            cure = ": fetch its content, for example with `datalad get`"
            return f"{file} is {fault}{cure if 'missing' in fault else ''}"
    if any(is_same_file(pred, truth) for truth in truths):
        return f"one file is both the prediction and the truth: {pred}"
    return None


def _places(path: Path) -> set[Path]:
    """The file and, if it is a link, all that it leads to on its way."""
    places: set[Path] = set()
    place = Path(os.path.realpath(path.parent), path.name)
    while place not in places:
        places.add(place)
        if place.is_symlink():
            aim = place.parent / os.readlink(place)
            place = Path(os.path.realpath(aim.parent), aim.name)
    return places
