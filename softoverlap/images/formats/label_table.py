"""The table beside a label map: the score and the class of each value.

It is `NAME.csv` (columns `value`, `score`, and `label` for the class), or `NAME.json` as
nnDetection writes it: `{"1": {"score": ..., "label": ...}}` beside predictions, and `{"instances":
{"1": CLASS, ...}}` beside labels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softoverlap.images.formats.record import BoxFile, bare_name, naming
from softoverlap.images.nifti import NIFTI_SUFFIXES, is_nifti_name
from softoverlap.images.texts import (
    number_in,
    plain_columns,
    read_json,
    read_table,
    whole_number,
    write_table,
)


def is_instances(content: Any) -> bool:
    """Whether the content of a JSON file is nnDetection's table of classes."""
    return isinstance(content, dict) and isinstance(content.get("instances"), dict)


def is_json(path: Path) -> bool:
    """Whether a table is JSON, by its suffix."""
    return path.suffix.lower() == ".json"


def map_beside(path: Path) -> Path:
    """The label map of nnDetection's table of classes."""
    maps = [path.with_name(f"{bare_name(path)}{end}") for end in NIFTI_SUFFIXES]
    found = next((map for map in maps if map.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{path} holds the classes of a label map: {bare_name(path)}.nii.gz must lie "
            "beside it, found no such file"
        )
    return found


def tables_beside(path: Path) -> tuple[Path, ...]:
    """Possible tables of a label map, or the map of nnDetection's table; none for other files."""
    if is_json(path):
        try:
            return (map_beside(path),) if is_instances(read_json(path)) else ()
        except (ValueError, OSError):  # whoever reads the file says what is wrong with it
            return ()
    if not is_nifti_name(path):
        return ()
    names = (f"{bare_name(path)}{end}" for end in (".csv", ".json", ".CSV", ".JSON"))
    return tuple(map(path.with_name, names))


def score_table(path: Path) -> Path:
    """The table that is written with a label map."""
    return path.with_name(f"{bare_name(path)}.csv")


def read_scores(
    path: Path, scores: Path | None
) -> dict[int, tuple[float | None, int | None]] | None:
    """Score and class by value, or None without a table."""
    beside = [file for file in tables_beside(path) if os.path.lexists(file)]
    source = scores or next(iter(beside), None)
    if source is None:
        return None
    if not source.is_file():
        raise FileNotFoundError(f"{source} must be the table of {path}, found no such file")
    rows = _json_rows(source) if is_json(source) else list(_table_rows(source))
    table: dict[int, tuple[float | None, int | None]] = {}
    for row in rows:
        value, score, label = _cells(source, row)
        if value in table:
            raise ValueError(f"{source} must have one row per value, got two for {value}")
        table[value] = score, label
    return table


def _table_rows(path: Path) -> Sequence[Mapping[str, Any]]:
    return plain_columns(path, read_table(path)).rows


def _json_rows(path: Path) -> list[Mapping[str, Any]]:
    content = read_json(path)
    with naming(path, "table of scores"):
        if is_instances(content):
            return [{"value": v, "label": whole_number(k)} for v, k in content["instances"].items()]
        return [{**row, "value": value} for value, row in content.items()]


def _cells(path: Path, row: Mapping[str, Any]) -> tuple[int, float | None, int | None]:
    try:
        score, label = row.get("score"), row.get("label")
        return (
            _whole_cell(row["value"]),
            None if score in ("", None) else _real_cell(score),
            None if label in ("", None) else _whole_cell(label),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} must have the columns value, score, label, got {row}") from error


def _whole_cell(cell: Any) -> int:
    """A whole number, of CSV or JSON."""
    return int(number_in(cell, whole=True)) if isinstance(cell, str) else whole_number(cell)


def _real_cell(cell: Any) -> float:
    if isinstance(cell, str):
        return float(number_in(cell))
    if type(cell) not in (int, float):
        raise TypeError(f"no number: {cell!r}")
    return float(cell)


def write_scores(path: Path, file: BoxFile) -> None:
    """Write the table of a label map."""
    empty: list[Any] = [""] * len(file.boxes)
    scores = empty if file.scores is None else file.scores.tolist()
    labels = empty if file.labels is None else file.labels.tolist()
    rows = zip(range(1, len(empty) + 1), scores, labels, strict=True)
    write_table(path, ["value", "score", "label"], rows)


def written_files(path: Path) -> tuple[Path, ...]:
    """All files that are written with a label map."""
    return path, score_table(path)
