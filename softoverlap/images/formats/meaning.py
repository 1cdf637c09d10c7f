"""What says what the numbers of a file mean, at whatever level it stands, and what is not read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

UNITS = ("unit", "units", "coordinateunit", "coordinateunits")
SPACES = ("frame", "space", "coordinatesystem", "coordinateframe")
MODES = ("bboxmode", "bboxformat", "boxmode", "boxformat")
"""Names of fields without case and signs: units of length, axes of the world, numbers of a box."""

_MOST_NAMED = 10


def check_meaning(
    path: Path,
    parts: Iterable[Mapping[str, Any]],
    names: tuple[str, ...],
    words: str,
    allowed: tuple[Any, ...],
) -> None:
    """Refuse what would give the numbers of a box another meaning.

    Args:
        path: The file, for messages.
        parts: Its objects, of every level.
        names: `UNITS`, `SPACES` or `MODES`.
        words: What boxes must be, such as `"in mm"`.
        allowed: Values that say so.
    """
    for part in parts:
        for key, value in part.items():
            if bare_key(key) in names and value not in allowed:
                raise ValueError(f"{path} must have boxes {words}, got {key} {value!r:.60}")


def bare_key(key: str) -> str:
    """A key without case and signs."""
    return "".join(filter(str.isalnum, key)).lower()


def notes_on_others(path: Path, keys: Iterable[str]) -> tuple[str, ...]:
    """A note on keys or columns that are not read, each named once."""
    names = [repr(key) for key in dict.fromkeys(keys) if key]
    more = ", …" if len(names) > _MOST_NAMED else ""
    listed = ", ".join(names[:_MOST_NAMED])
    return (f"{path}: not read: {listed}{more}",) if names else ()


def others(parts: Iterable[Mapping[str, Any]], known: Iterable[str]) -> list[str]:
    """Keys that are not among the known ones; those of meaning are known without case and signs."""
    names = set(known)
    return [key for part in parts for key in part if not {key, bare_key(key)} & names]
