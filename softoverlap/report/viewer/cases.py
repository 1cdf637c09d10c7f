"""The cases of a folder of results, as the viewer lists and shows them."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softoverlap.data import IMAGE_SUFFIXES, read_boxes
from softoverlap.report.viewer.layers import Layer

Row = Mapping[str, str]
FindImage = Callable[[str], Path | None]

AXES = tuple(f"axis{axis}_{end}" for end in ("min", "max") for axis in range(3))
_TEXT = ("case", "label", "error", "warning", "pred", "truth", "kind", "image")


@dataclass(frozen=True)
class ViewerCase:
    """A row of `cases.csv`: what there is to see.

    Args:
        name: Name of the case.
        label: The label of the row, empty where there is one mask alone.
        error: Why the case could not be scored, or an empty string.
        warning: What a user should know, or an empty string.
        scores: All numbers of the row by column, None where one is not defined.
        layers: Image, prediction and truth, as far as they are volumes.
        boxes: Found and true boxes, in voxels of the truth's grid, as plain values.
        affine: Voxel indices of that grid to RAS mm, where no volume tells it.

    Examples:
        >>> ViewerCase("sub-01", "", "", "", {}).layers
        ()
    """

    name: str
    label: str
    error: str
    warning: str
    scores: Mapping[str, float | None]
    layers: tuple[Layer, ...] = ()
    boxes: Sequence[Mapping[str, Any]] = field(default_factory=list)
    affine: Sequence[Sequence[float]] | None = None


def read_cases(
    results: str | os.PathLike[str], *, images: str | os.PathLike[str] | None = None
) -> list[ViewerCase]:
    """Read what `softoverlap score` wrote, without opening a scan.

    Args:
        results: The folder with `cases.csv` and, if there, `lesions.csv`, `boxes.csv` and
            `summary.json`.
        images: Folder with the scans, named as the cases, or a pattern with `{case}`.

    Returns:
        A case for each row, in the order of the file.

    Raises:
        FileNotFoundError: If there are no results.
        ValueError: If a file is damaged, or the pattern has no `{case}`.

    Examples:
        >>> read_cases("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: nowhere must hold the results of softoverlap score, found no cases.csv
    """
    folder = Path(results)
    if not (folder / "cases.csv").is_file():
        raise FileNotFoundError(
            f"{folder} must hold the results of softoverlap score, found no cases.csv"
        )
    rows = _read_table(folder / "cases.csv")
    settings, find = _settings(folder / "summary.json"), _finder(images)
    tables = {name: _by_case(folder / f"{name}.csv") for name in ("boxes", "lesions")}
    return [_case(row, settings, find, tables) for row in rows]


def _case(
    row: Row,
    settings: Mapping[str, Any],
    find: FindImage,
    tables: Mapping[str, Mapping[tuple[str, str], list[Row]]],
) -> ViewerCase:
    key = row["case"], row.get("label", "")
    found = [_box("found", one) for one in tables["boxes"].get(key, [])]
    true = [_box("truth", one) for one in tables["lesions"].get(key, [])]
    return ViewerCase(
        name=key[0],
        label=key[1],
        error=row.get("error", ""),
        warning=row.get("warning", ""),
        scores={name: _number(text) for name, text in row.items() if name not in _TEXT},
        layers=tuple(_layers(row, settings, find)),
        boxes=[box for box in (*true, *found) if box is not None],
        affine=_affine(row),
    )


def _layers(row: Row, settings: Mapping[str, Any], find: FindImage) -> list[Layer]:
    """The volumes of a row: image if known, prediction and truth where they are masks."""
    label = int(float(row["label"])) if row.get("label") else None
    pred, truths = _paths(row.get("pred", "")), _paths(row.get("truth", ""))
    known = _paths(row.get("image", "")) or tuple(filter(None, [find(row["case"])]))
    layers = [Layer("image", known[:1])] if known else []
    displaced = (_number(row.get("geometry_displacement_voxels", "")) or 0) > 0.01
    index = settings.get("geometry") == "index" and displaced
    if truths and not _is_boxes(truths[0]):
        layers.append(Layer("truth", truths, settings.get("truth_values", "auto"), label))
    if pred and not _is_boxes(pred[0]):
        onto = truths[0] if index and truths and not _is_boxes(truths[0]) else None
        layers.append(Layer("pred", pred, settings.get("values", "auto"), label, onto))
    return layers


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part).absolute() for part in text.split(";") if part)


def _is_boxes(path: Path) -> bool:
    return not path.is_dir() and not path.name.lower().endswith(IMAGE_SUFFIXES)


def _affine(row: Row) -> list[list[float]] | None:
    """Where voxels lie if the truth is boxes, and the prediction too."""
    files = [*_paths(row.get("truth", "")), *_paths(row.get("pred", ""))]
    if not files or not all(map(_is_boxes, files)):
        return None
    try:
        affine = read_boxes(files[0]).affine
    except (OSError, ValueError):
        return None
    return None if affine is None else affine.tolist()


def _box(kind: str, row: Row) -> dict[str, Any] | None:
    """A box as plain values, or None if the row has none."""
    edges = [_number(row.get(name, "")) for name in AXES]
    if None in edges:
        return None
    number = row.get("box" if kind == "found" else "lesion", "")
    detected = row.get("detected", "").lower()
    outcome = {"true": "found", "1": "found", "false": "missed", "0": "missed"}.get(detected, "")
    return {
        "kind": kind,
        "number": _number(number),
        "box": edges,
        "score": _number(row.get("score", "")),
        "outcome": row.get("outcome", "") if kind == "found" else outcome,
    }


def _finder(images: str | os.PathLike[str] | None) -> FindImage:
    """How the scan of a case is found."""
    if images is None:
        return lambda case: None
    text = os.fspath(images)
    if "{case}" in text:
        return lambda case: _first(Path(text.replace("{case}", case)))
    if not Path(text).is_dir():
        raise ValueError(f"images must be a folder or a pattern with {{case}}, got {text}")
    suffixes = sorted(IMAGE_SUFFIXES, key=len, reverse=True)
    return lambda case: _first(*(Path(text) / f"{case}{suffix}" for suffix in suffixes))


def _first(*paths: Path) -> Path | None:
    return next((path.absolute() for path in paths if path.exists()), None)


def _by_case(path: Path) -> dict[tuple[str, str], list[Row]]:
    """The rows of a table by case and label; none if it is not there."""
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in _read_table(path) if path.is_file() else []:
        rows.setdefault((row["case"], row.get("label", "")), []).append(row)
    return rows


def _read_table(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} must be CSV in UTF-8, got {error}") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not row.get("case"):
            raise ValueError(
                f"{path} must have a case and a cell for each column, not line {number}"
            )
    return rows


def _settings(path: Path) -> Mapping[str, Any]:
    """How the cases were scored; the defaults if the summary is not there."""
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8")).get("settings", {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} must hold a JSON object, got {error}") from error
    return settings if isinstance(settings, dict) else {}


def _number(text: str) -> float | None:
    """The number in a cell, or None."""
    try:
        value = float({"True": "1", "False": "0"}.get(text, text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
