"""MONAI's detection lists: JSON with world boxes `cccwhd`, as in its LUNA16 tutorial.

```
{"training": [{"image": "a.nii.gz", "box": [[cx, cy, cz, w, h, d], ...], "label": [0, ...]}, ...],
 "validation": [...]}
```

Centres and edges are in mm along the axes of the world. The file does not say in which frame:
LUNA16's lists are LPS (the tutorial passes `affine_lps_to_ras=True`), and boxes that MONAI computes
from a NIfTI affine are RAS. So the frame must be given. Files that we write contain it, in two keys
that MONAI ignores: `frame` and `affines`. A list may instead hold boxes in voxels, if it says both
`"box_mode": "xyzxyz"` and `"units": "voxels"`: all minima, then all maxima, half-open as ours.

The centre of voxel `i` is `affine · i`, so a box over only that voxel has its centre there. MONAI's
own transform to voxels does not add half a voxel; world boxes do not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from softoverlap._checks import check_choice, refusal
from softoverlap.images.formats.grids import (
    affine_for,
    bare_scan,
    needed_affine,
    read_grid,
    scan_of,
)
from softoverlap.images.formats.meaning import (
    MODES,
    SPACES,
    UNITS,
    check_meaning,
    notes_on_others,
    others,
)
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    affine_of,
    case_of,
    check_ndim,
    checked_boxes,
    column,
    list_in,
    naming,
    number_rows,
    objects_in,
    with_notes,
)
from softoverlap.images.formats.world import FRAMES, box_corners, voxel_boxes, world_boxes
from softoverlap.images.noted import Noted, warned
from softoverlap.images.texts import read_json, write_json

LISTS = ("training", "validation", "testing", "test")
SCORES = ("label_scores", "score")
"""Keys of the scores, in MONAI's detector and in its tutorial."""
_OF_ENTRY = ("image", "box", "label", *SCORES)
_OF_LIST = (
    *LISTS, "affines", "name", "description", "reference", "licence", "license", "release",
    "relase", "tensorImageSize", "modality", "labels", "numTraining", "numTest",
)  # fmt: skip
"""Keys that are read, or that are those of the Decathlon's lists and change nothing."""
_KIND = "MONAI list of images and boxes"
_VOXELS = "voxels"
_IN_VOXELS = {"box_mode": "xyzxyz", "units": _VOXELS}
"""What a list says of boxes in voxels."""


def write(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """Write all cases as one list, `validation`, like the results of the tutorial."""
    frame = hints.frame or "RAS"
    check_choice("frame", frame, FRAMES)
    entries, affines = [], {}
    for file in files.values():
        check_ndim(path, file, 3)
        affine = needed_affine(path, file, hints)
        image = _image_name(path, file, hints)
        affines[image] = affine.tolist()
        around = warned(world_boxes(file.boxes, affine, frame, path, case_of(path, file)))
        entries.append(_entry(image, file, around))
    content = {"frame": frame, "box_mode": "cccwhd", "affines": affines, "validation": entries}
    write_json(path, content)


def _image_name(path: Path, file: BoxFile, hints: Hints) -> str:
    scan = scan_of(path, file, hints)
    return f"{case_of(path, file)}.nii.gz" if scan is None else scan.name


def _entry(image: str, file: BoxFile, around: Tensor) -> dict[str, Any]:
    low, high = around.chunk(2, dim=1)
    boxes = torch.cat([(low + high) / 2, high - low], dim=1)
    labels = [0] * len(boxes) if file.labels is None else file.labels.tolist()
    entry = {"image": image, "box": boxes.tolist(), "label": labels}
    return entry if file.scores is None else {**entry, "score": file.scores.tolist()}


def is_list(content: Any) -> bool:
    """Whether the content of a JSON file is one of MONAI's lists."""
    entries = content if isinstance(content, list) else next(_lists(content), None)
    if entries == []:  # only the name of the list shows it
        return isinstance(content, dict)
    first = entries[0] if isinstance(entries, list) else entries
    return isinstance(first, dict) and "image" in first and "box" in first


def _lists(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        yield from (content[key] for key in LISTS if isinstance(content.get(key), list))


@dataclass(frozen=True, eq=False)
class ListEntry:
    """A scan of a list; its boxes are still as the list has them.

    Args:
        path: The list.
        part: Which of its lists the scan is in, such as `"training"`; empty for a bare list.
        content: The entry.
        frame: `"RAS"` or `"LPS"` of boxes in mm, or `"voxels"`.
        rows: The affine that the list holds, if it holds one.
    """

    path: Path
    part: str
    content: Mapping[str, Any]
    frame: str
    rows: Any = None

    @property
    def image(self) -> str:
        """The scan's file as the list names it."""
        image = self.content["image"]
        if not isinstance(image, str):
            raise ValueError(f"{self.path} must name one file as image, got {image!r:.80}")
        return image

    @property
    def labels(self) -> Int64[Tensor, "boxes"] | None:
        """The class of each box, or None."""
        boxes = list_in(self.content["box"], "box")
        count = 0 if boxes == [[]] else len(boxes)
        return column(self.content.get("label"), "label", count, self.path, whole=True)

    def read(self, hints: Hints) -> BoxFile:
        """The boxes in voxels of the scan."""
        with naming(self.path, _KIND):
            return _file(self, hints)


def read(path: Path, hints: Hints) -> dict[str, BoxFile]:
    """Read every case of every list."""
    files: dict[str, BoxFile] = {}
    entries, notes = read_entries(path, hints.frame)
    with naming(path, _KIND):
        for entry in entries:
            file = entry.read(hints)
            if file.case in files:
                raise ValueError(f"{path} must list each image once, got {file.case} again")
            files[str(file.case)] = file
    return with_notes(files, notes)


def read_entries(path: Path, frame: str | None) -> Noted[list[ListEntry]]:
    """All scans of all lists, with a note on what is not read; no scan is opened."""
    content = read_json(path)
    with naming(path, _KIND):
        parts = _entries(path, content)
        entries = [entry for _, entry in parts]
        frame, affines = _frame(path, content, frame)
        own = content if isinstance(content, dict) else {}
        mode, unit = _IN_VOXELS.values() if frame == _VOXELS else ("cccwhd", "mm")
        check_meaning(path, [own, *entries], MODES, f"as {mode}", (mode,))
        check_meaning(path, [own, *entries], SPACES, f"in {frame}, as the list", (frame,))
        check_meaning(path, [own, *entries], UNITS, f"in {unit}", (unit,))
        listed = [ListEntry(path, part, entry, frame) for part, entry in parts]
        listed = [replace(entry, rows=affines.get(entry.image)) for entry in listed]
    said = (*MODES, *SPACES, *UNITS)
    left = [*others([own], (*_OF_LIST, *said)), *others(entries, (*_OF_ENTRY, *said))]
    return listed, notes_on_others(path, left)


def _entries(path: Path, content: Any) -> list[tuple[str, dict[str, Any]]]:
    """The entries of every list; lists of boxes under other names are not passed by."""
    if isinstance(content, list):
        return [("", entry) for entry in objects_in(content, "the list")]
    lists = {key: content[key] for key in LISTS if key in content}
    if not lists:
        raise ValueError(f"{path} must hold a list named {' or '.join(LISTS)}, found none")
    for key, entries in content.items():
        if key not in lists and entries != [] and is_list(entries):
            raise ValueError(f"{path} must hold lists named {' or '.join(LISTS)}, got {key!r}")
    return [(key, entry) for key in lists for entry in objects_in(lists[key], key)]


def _frame(path: Path, content: Any, given: str | None) -> tuple[str, Mapping[str, Any]]:
    """The frame from file or caller, or that boxes are in voxels; and affines by image."""
    own = content if isinstance(content, dict) else {}
    frame, affines = own.get("frame"), own.get("affines") or {}
    if _IN_VOXELS.items() <= own.items():
        if given is not None:
            raise refusal("frame", f"goes with boxes in mm, {path} has them in voxels")
        frame = _VOXELS
    else:
        frame = _world_frame(path, frame, given)
    if not isinstance(affines, dict):
        raise ValueError(f"{path} must have affines by image, got {affines!r:.60}")
    return frame, affines


def _world_frame(path: Path, frame: Any, given: str | None) -> str:
    if frame is not None and given not in (None, frame):
        raise refusal("frame", f"must be that of {path} itself, {frame}, got {given}")
    frame = frame or given
    if frame is None:
        raise ValueError(
            f"{path} does not say in which frame its boxes are: name it with `frame=`, RAS or LPS "
            "(LUNA16's lists are LPS)"
        )
    check_choice("frame", frame, FRAMES)
    return frame


def _file(listed: ListEntry, hints: Hints) -> BoxFile:
    path, rows = listed.path, listed.content["box"]
    bare = BoxFile(
        torch.zeros(0, 6, dtype=torch.float64),
        affine=affine_of(listed.rows, path),
        case=bare_scan(listed.image),
    )
    affine = affine_for(path, bare, hints)
    beside = path.parent / listed.image
    if affine is None and beside.is_file():
        affine = read_grid(beside).affine
    if listed.frame == _VOXELS:
        boxes, notes = _numbers(rows, path), ()
    else:
        affine = needed_affine(path, bare, hints) if affine is None else affine
        boxes, notes = _from_world(_numbers(rows, path), affine, listed)
    scores = next((listed.content[key] for key in SCORES if key in listed.content), None)
    return BoxFile(
        checked_boxes(boxes, path),
        column(scores, "score", len(boxes), path),
        listed.labels,
        affine,
        bare.case,
        notes,
    )


def _numbers(rows: Any, path: Path) -> Float64[Tensor, "boxes 6"]:
    return number_rows([] if rows in ([], [[]]) else rows, 6, path)


def _from_world(
    world: Float64[Tensor, "boxes 6"], affine: Float64[Tensor, "4 4"], listed: ListEntry
) -> Noted[Float64[Tensor, "boxes 6"]]:
    """Boxes in voxels from centres and edges in mm."""
    path = listed.path
    if (world[:, 3:] < 0).any():
        raise ValueError(f"{path} must have edges of at least 0, got {world[:, 3:].min():g} mm")
    upright = torch.eye(3, dtype=torch.float64).expand(len(world), 3, 3)
    corners = box_corners(world[:, :3], world[:, 3:], upright)
    return voxel_boxes(corners, affine, listed.frame, path, bare_scan(listed.image))
