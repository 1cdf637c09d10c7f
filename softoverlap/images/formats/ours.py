"""Our own JSON files: boxes in voxels, with the affine.

A file holds one JSON object, described by `softoverlap/images/boxes.schema.json`:

| key | value |
| --- | --- |
| `format`, `version` | `"softoverlap-boxes"`, 1 |
| `case` | name of the scan, or null |
| `coordinates` | a sentence: voxel corners, half-open, voxel `i` fills `[i, i + 1)` |
| `ndim` | number of axes |
| `axes` | names of a box's numbers: all minima, then all maxima, in tensor axis order |
| `affine` | rows of the (4, 4) affine from voxel indices (centres) to RAS mm, or null |
| `boxes` | a list of objects: `box` (2 · ndim numbers), and if known `score`, `label`, `ignored` |
| `score_threshold` | if known: boxes of this score or more are findings, the others candidates |
| `threshold_rule` | if known: how the threshold was chosen, in words |
| `smallest_anchor` | if known: edges of the detector's smallest anchor in voxels, `ndim` numbers |

`ignored` is true for a lesion that is neither hit, false nor missed, and false where it is absent.

Numbers are written with enough digits to be read back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from softoverlap.images.formats.grids import affine_for
from softoverlap.images.formats.meaning import notes_on_others
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    affine_of,
    axis_names,
    case_of,
    checked_boxes,
    column,
    flags,
    known_in,
    naming,
    number_rows,
    objects_in,
    only_file,
)
from softoverlap.images.texts import read_json, write_json

FORMAT = "softoverlap-boxes"
VERSION = 1
MOST_AXES = 64
"""As many as a tensor may have."""
COORDINATES = "voxel corners, half-open: voxel i fills [i, i + 1)"
SCHEMA = Path(__file__).parents[1] / "boxes.schema.json"


def box_schema() -> dict[str, Any]:
    """The JSON Schema of our own files of boxes.

    Returns:
        The schema, draft 2020-12, which is `images/boxes.schema.json` in the package.

    Examples:
        >>> box_schema()["properties"]["format"]["const"]
        'softoverlap-boxes'
    """
    return read_json(SCHEMA)


def write(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """Write one case as JSON."""
    file = only_file(path, files)
    ndim = file.boxes.shape[1] // 2
    rows: list[dict[str, Any]] = [{"box": row} for row in file.boxes.tolist()]
    known = ("score", file.scores), ("label", file.labels), ("ignored", file.ignored)
    for key, values in known:
        for row, value in zip(rows, [] if values is None else values.tolist(), strict=False):
            row[key] = value
    affine = affine_for(path, file, hints)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "case": file.case,
        "coordinates": COORDINATES,
        "ndim": ndim,
        "axes": axis_names(ndim),
        "affine": None if affine is None else affine.tolist(),
        **_operating_point(file),
        "boxes": rows,
    }
    write_json(path, content)


def _operating_point(file: BoxFile) -> dict[str, Any]:
    """What is known about the detector that found the boxes."""
    anchor = None if file.smallest_anchor is None else list(file.smallest_anchor)
    known = {
        "score_threshold": file.score_threshold,
        "threshold_rule": file.threshold_rule,
        "smallest_anchor": anchor,
    }
    return {key: value for key, value in known.items() if value is not None}


def read(path: Path, hints: Hints) -> dict[str, BoxFile]:
    """Read the case of a file."""
    content = read_json(path)
    with naming(path, "JSON file of boxes"):
        _check_kind(content, path)
        file = _box_file(content, path)
    return {case_of(path, file): replace(file, affine=affine_for(path, file, hints))}


def _check_kind(content: Any, path: Path) -> None:
    kind = content.get("format") if isinstance(content, dict) else type(content).__name__
    if kind != FORMAT:
        raise ValueError(f"{path} must have the format {FORMAT!r}, got {kind!r}")
    version = content.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ValueError(f"{path} must have version {VERSION}, got {version!r}")


def _box_file(content: dict[str, Any], path: Path) -> BoxFile:
    rows, ndim, case = objects_in(content["boxes"], "boxes"), content["ndim"], content["case"]
    if type(ndim) is not int or not 1 <= ndim <= MOST_AXES:
        raise ValueError(f"{path} must have a whole number of axes as ndim, got {ndim!r}")
    if case is not None and not isinstance(case, str):
        raise ValueError(f"{path} must have a name as case, got {case!r}")
    _check_meaning(content, ndim, path)
    boxes = number_rows([row["box"] for row in rows], 2 * ndim, path)
    anchor = content.get("smallest_anchor")
    return BoxFile(
        checked_boxes(boxes, path),
        column(known_in(rows, "score"), "score", len(rows), path),
        column(known_in(rows, "label"), "label", len(rows), path, whole=True),
        affine_of(content["affine"], path),
        case,
        notes_on_others(path, _others(content, rows)),
        score_threshold=content.get("score_threshold"),
        threshold_rule=content.get("threshold_rule"),
        ignored=flags([row.get("ignored") for row in rows], "ignored", path),
        smallest_anchor=tuple(anchor) if isinstance(anchor, list) else anchor,
    )


def _check_meaning(content: Mapping[str, Any], ndim: int, path: Path) -> None:
    """Refuse numbers of another convention."""
    coordinates, axes = content.get("coordinates", COORDINATES), content.get("axes")
    if coordinates != COORDINATES:
        raise ValueError(
            f"{path} must have {COORDINATES!r} as coordinates, got {coordinates!r:.80}"
        )
    if axes not in (None, axis_names(ndim)):
        raise ValueError(f"{path} must have the axes {axis_names(ndim)}, got {axes!r:.80}")


def _others(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that this format does not have."""
    known = box_schema()["properties"]
    of_box = known["boxes"]["items"]["properties"]
    return [key for key in content if key not in known] + [
        key for row in rows for key in row if key not in of_box
    ]
