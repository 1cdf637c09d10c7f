"""CSV: one row per box, with case, score, label and corners in voxels.

The columns are those of `detections.csv`: `case`, `score`, `label`, `axis0_min`, `axis1_min`, ...,
`axis0_max`, ... A column `ignored` (True or False) says which lesions are neither hit, false nor
missed. Other columns are not read; `case`, `score`, `label` and `ignored` may be missing or empty.
A table has no affine, and a case without boxes has no row. LUNA16's lists of nodules are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from softoverlap.images.formats import luna16
from softoverlap.images.formats.cells import check_cells, number_cell
from softoverlap.images.formats.grids import affine_for
from softoverlap.images.formats.meaning import SPACES, UNITS, notes_on_others, others
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    axis_names,
    case_of,
    checked_boxes,
    column,
    flags,
    number_rows,
    with_notes,
)
from softoverlap.images.texts import TextTable, plain_columns, read_text, table_of, write_table

_KNOWN = (
    "case", "score", "label", "ignored", "above", "outcome", "lesion", "box", "volume_mm3",
)  # fmt: skip
"""Columns that are read, or that our own results have besides."""
_AXIS = re.compile(r"axis\d+_(?:min|max)")


def write(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """Write all cases as one table; numbers are read back exactly."""
    dimensions = {file.boxes.shape[1] // 2 for file in files.values()}
    if len(dimensions) != 1:
        raise ValueError(f"{path} must get boxes of one dimension, got {sorted(dimensions)}")
    names = axis_names(dimensions.pop())
    header = ["case", "score", "label", *names]
    if any(file.ignored is not None for file in files.values()):
        header.append("ignored")
    rows = [row for file in files.values() for row in _rows(case_of(path, file), file)]
    write_table(path, header, [row[: len(header)] for row in rows])


def _rows(case: str, file: BoxFile) -> list[list[Any]]:
    empty = [""] * len(file.boxes)
    scores = empty if file.scores is None else file.scores.tolist()
    labels = empty if file.labels is None else file.labels.tolist()
    ignored = empty if file.ignored is None else file.ignored.tolist()
    lines = zip(scores, labels, file.boxes.tolist(), ignored, strict=True)
    return [[case, score, label, *box, flag] for score, label, box, flag in lines]


def read(path: Path, hints: Hints) -> dict[str, BoxFile]:
    """Read every case with a row; rows without a case belong to one named after the file."""
    table = _plain_table(path)
    if luna16.is_list(table.columns):
        return luna16.read(path, table, hints)
    names = _axes(path, table.columns)
    check_cells(path, table, "in voxels", ("voxel", "voxels"))
    cases: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        cases.setdefault(row.get("case") or "", []).append((line, row))
    files = [_file(path, case, lines, names, hints) for case, lines in cases.items()]
    by_case = {case_of(path, file): file for file in files}
    if len(by_case) < len(files):
        unnamed = next(file for file in files if file.case is None)
        raise ValueError(
            f"{path} must name the case of every row, got rows without one, which would be named "
            f"after the file, and the case {case_of(path, unnamed)}"
        )
    left = others([dict.fromkeys(table.columns)], (*_KNOWN, *names, *UNITS, *SPACES))
    return with_notes(by_case, notes_on_others(path, left))


def _plain_table(path: Path) -> TextTable:
    """The table with plain names of columns, as all functions here read it."""
    return _parsed(path, read_text(path, "CSV"))


@lru_cache(maxsize=2)
def _parsed(path: Path, text: str) -> TextTable:
    """Kept for both sides of a cohort: a list of all cases is read for each case anew."""
    return plain_columns(path, table_of(path, text))


def is_in_mm(path: Path) -> bool:
    """Whether a table is LUNA16's list, and not in voxels."""
    return luna16.is_list(_plain_table(path).columns)


def listed_points(path: Path) -> tuple[str, ...]:
    """The series with points, which have no size, in a list of LUNA16; none of another table.

    Raises:
        ValueError: If it is no table, or a diameter is no number of at least 0.
    """
    table = _plain_table(path)
    return luna16.series_of_points(path, table) if luna16.is_list(table.columns) else ()


def listed_cases(path: Path) -> tuple[str, ...]:
    """The cases that a table names, in its order; none where a row names none.

    Raises:
        ValueError: If it is no table.
    """
    table = _plain_table(path)
    column = luna16.SERIES if luna16.is_list(table.columns) else "case"
    cases = dict.fromkeys(row.get(column, "").strip() for row in table.rows)
    return () if "" in cases else tuple(cases)


def _axes(path: Path, header: Sequence[str]) -> list[str]:
    """The columns of a box."""
    of_axes = {name for name in header if _AXIS.fullmatch(name)}
    ndim = sum(name.endswith("_min") for name in of_axes)
    names = axis_names(ndim)
    if not ndim or set(names) != of_axes:
        wanted = ", ".join(axis_names(ndim or 3))
        raise ValueError(f"{path} must have the columns {wanted}, got {', '.join(header)}")
    return names


def _file(
    path: Path,
    case: str,
    lines: Sequence[tuple[int, Mapping[str, str]]],
    names: Sequence[str],
    hints: Hints,
) -> BoxFile:
    boxes = [[number_cell(path, line, row, name) for name in names] for line, row in lines]
    columns = {
        key: [
            number_cell(path, line, row, key, whole=key == "label")
            for line, row in lines
            if row.get(key)
        ]
        for key in ("score", "label")
    }
    file = BoxFile(
        checked_boxes(number_rows(boxes, len(names), path), path),
        column(columns["score"] or None, "score", len(lines), path),
        column(columns["label"] or None, "label", len(lines), path, whole=True),
        None,
        case or None,
        ignored=flags([_flag(path, line, row) for line, row in lines], "ignored", path),
    )
    return replace(file, affine=affine_for(path, file, hints))


def _flag(path: Path, line: int, row: Mapping[str, str]) -> bool | None:
    text = row.get("ignored", "").strip().lower()
    if text not in ("", "true", "false", "1", "0", "1.0", "0.0"):
        raise ValueError(f"{path} must have True or False as ignored in line {line}, got {text!r}")
    return text in ("true", "1", "1.0") if text else None
