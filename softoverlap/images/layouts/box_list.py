"""MONAI's detection lists: a JSON file that names scans and their boxes in mm.

```
{"training": [{"image": "a.nii.gz", "box": [[cx, cy, cz, w, h, d], …], "label": [0, …]}, …],
 "validation": [...]}
```

Scans are named by paths below a folder, by default that of the list. The entries of `validation`
are the list's own validation set; those of other lists are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softoverlap._checks import refusal
from softoverlap.images.formats.grids import bare_scan
from softoverlap.images.formats.monai import ListEntry, is_list, read_entries
from softoverlap.images.formats.record import naming
from softoverlap.images.layouts.names import patient_of
from softoverlap.images.layouts.record import ONE_CLASS, Case, Findings, Fold
from softoverlap.images.texts import read_json

_TRAINING, _VALIDATION = ("", "training"), "validation"
_MOST_CLASSES = 1000


def lists_in(place: Path) -> list[Path]:
    """The lists of boxes that a folder holds, or else its broken JSON files; or the named file."""
    if place.is_file():
        return [place]
    contents: dict[Path, Any] = {}
    broken: list[Path] = []
    for path in sorted(path for path in place.glob("*.json") if path.is_file()):
        try:
            contents[path] = read_json(path)
        except ValueError:
            broken.append(path)
    return [path for path, content in contents.items() if is_list(content)] or broken


def find(place: Path, images: Path | None, frame: str | None) -> Findings:
    """The scans of the list that are there."""
    lists = lists_in(place)
    if len(lists) != 1:
        names = ", ".join(path.name for path in lists) or "none"
        raise refusal("folder", f"must hold one list of boxes, or be one, got {names} in {place}")
    (path,) = lists
    entries, notes = read_entries(path, frame)
    found = Findings(notes=list(notes))
    used = [entry for entry in entries if entry.part in (*_TRAINING, _VALIDATION)]
    if len(used) < len(entries):
        found.notes.append(f"{path}: {len(entries) - len(used)} scans of its test lists left out")
    if not used:
        raise ValueError(f"{path} must list scans as training, got none")
    found.classes = _classes(path, read_json(path), used)
    for entry in used:
        _add(entry, images or path.parent, found)
    found.fold = _own_fold(found)
    return found


def _add(entry: ListEntry, images: Path, found: Findings) -> None:
    image = images / entry.image
    name = bare_scan(entry.image)
    if name in found.names:
        raise ValueError(f"{entry.path} must list each image once, got {name} again")
    found.names.add(name)
    if not image.exists():  # of DICOM it is a folder
        found.drop([image], f"{entry.path.name} lists it, found no such file")
        return
    case = Case(name, patient_of(name), image, None, (), classes=found.classes, boxes=entry)
    found.cases.append(case)


def _own_fold(found: Findings) -> Fold | None:
    """The parts that the list names, if it names both."""
    parts: dict[bool, list[str]] = {True: [], False: []}
    for case in found.cases:
        assert case.boxes is not None  # as _add gives them
        parts[case.boxes.part == _VALIDATION].append(case.name)
    if not (parts[True] and parts[False]):
        return None
    return Fold(tuple(sorted(parts[False])), tuple(sorted(parts[True])))


def _classes(path: Path, content: Any, entries: list[ListEntry]) -> tuple[str, ...]:
    """Names of the classes: those of the list, or numbers up to the highest."""
    with naming(path, "MONAI list of images and boxes"):
        columns = [entry.labels for entry in entries]
        labels = [int(label) for column in columns if column is not None for label in column]
        if wrong := [label for label in labels if not 0 <= label < _MOST_CLASSES]:
            raise ValueError(f"{path} must have labels in [0, {_MOST_CLASSES}), got {wrong[0]}")
        count = max(labels, default=0) + 1
        named = content.get("labels") if isinstance(content, dict) else None
        if isinstance(named, dict) and set(named) == {str(n) for n in range(len(named))}:
            count = max(count, len(named))
            return tuple(str(named.get(str(n), f"class {n}")) for n in range(count))
    return ONE_CLASS if count == 1 else tuple(f"class {n}" for n in range(count))
