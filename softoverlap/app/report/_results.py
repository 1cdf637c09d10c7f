"""A folder of results as `softoverlap score` writes it: read, checked, and named when damaged."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from softoverlap.app.columns import TABLES, Column, Place, find_column, shown_in
from softoverlap.app.report._summary import Part, read_part
from softoverlap.images import parse_json, read_json, read_table

Cell = str | float | tuple[str, ...] | None
"""Numbers are floats, whole ones too; the files of the truth are a tuple."""

Row = Mapping[str, Cell]

_TEXT = {column.name for table in TABLES.values() for column in table if column.kind == "text"}
_COMMAND = "write the folder with softoverlap score"
_CUT_OFF = "the run was cut off: run the same command again"


@dataclass(frozen=True)
class Table:
    """A CSV file: numbers as numbers, None where a cell is empty."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def where(self, keep: Callable[[Row], bool]) -> Table:
        return Table(self.columns, tuple(row for row in self.rows if keep(row)))

    def numbers(self, *columns: str) -> list[tuple[Row, tuple[float, ...]]]:
        """The rows that have a number in each of the columns, with these numbers."""
        rows = []
        for row in self.rows:
            cells = (row.get(name) for name in columns)
            values = tuple(cell for cell in cells if isinstance(cell, float))
            if len(values) == len(columns):
                rows.append((row, values))
        return rows


@dataclass(frozen=True)
class Results:
    """All of a folder; a part of the summary a label, or one alone without name."""

    folder: Path
    version: str
    settings: Mapping[str, Any]
    confidence: float
    cases: Table
    lesions: Table
    boxes: Table
    parts: tuple[Part, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    """How the detector was trained, where the demo tells it."""

    @property
    def failed(self) -> Table:
        return self.cases.where(lambda row: bool(row.get("error")))

    @property
    def scored(self) -> Table:
        return self.cases.where(lambda row: not row.get("error"))

    def of_part(self, part: Part) -> Results:
        """The rows of a label alone."""
        if not part.name:
            return self

        def mine(row: Row) -> bool:
            return label_name(row) == part.name

        names = ("cases", "lesions", "boxes")
        tables = {name: getattr(self, name).where(mine) for name in names}
        return replace(self, **tables, parts=(part,))


def meaningful(results: Results, table: Sequence[Column], place: Place) -> list[str]:
    """The columns seen there, without the overlaps that no box could bring to 1 with a mask."""
    kinds = {text(row, "kind") for row in results.scored.rows}
    mixed = kinds & {"boxes in masks", "masks in boxes"}
    shown = shown_in(table, place)
    return [name for name in shown if not (mixed and find_column(table, name).of_masks)]


def label_name(row: Row) -> str:
    """The row's label as the summary calls it, empty if it has none."""
    label = row.get("label")
    return str(int(label)) if isinstance(label, float) else str(label or "")


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Read `cases.csv` and `summary.json`, and `lesions.csv` and `boxes.csv` where they are there.

    Raises:
        FileNotFoundError: If the folder, the cases or the summary are missing.
        ValueError: If a file is not as the command writes it. The message names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} must be a folder of results, found none: {_COMMAND}")
    for name in ("cases.csv", "summary.json"):
        if not (folder / name).is_file():
            cut_off = name == "summary.json" and (folder / "scores.jsonl").is_file()
            cure = _CUT_OFF if cut_off else _COMMAND
            raise FileNotFoundError(f"{folder} must hold {name}, found none: {cure}")
    summary = _read_summary(folder / "summary.json")
    cases = _with_truths(_read_table(folder / "cases.csv"), folder)
    if "case" not in cases.columns:
        names = ", ".join(cases.columns) or "nothing"
        raise ValueError(f"{folder / 'cases.csv'} must have a column case, got {names}")
    others = [folder / name for name in ("lesions.csv", "boxes.csv")]
    tables = [_read_table(path) if path.is_file() else Table((), ()) for path in others]
    return _put_together(folder, summary, cases, *tables)


def _put_together(
    folder: Path, summary: Mapping[str, Any], cases: Table, lesions: Table, boxes: Table
) -> Results:
    try:
        labels = summary.get("labels") or {"": summary}
        return Results(
            folder=folder,
            version=str(summary.get("version", "")),
            settings=dict(summary.get("settings") or {}),
            confidence=float(summary["bootstrap"]["confidence"]),
            cases=cases,
            lesions=lesions,
            boxes=boxes,
            parts=tuple(read_part(str(name), part) for name, part in labels.items()),
            training=_read_training(folder / "training.json"),
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{folder / 'summary.json'} must be as softoverlap score writes it, got "
            f"{type(error).__name__} {error}"
        ) from error


def _read_summary(path: Path) -> Mapping[str, Any]:
    summary = read_json(path)
    if not isinstance(summary, dict) or summary.get("format") != "softoverlap-summary":
        raise ValueError(f"{path} must be a summary of softoverlap score, got another file")
    return summary


def _read_training(path: Path) -> Mapping[str, Any]:
    """What the demo says of its training; empty where there is no such file, or it is damaged."""
    try:
        training = read_json(path)
    except (OSError, ValueError):
        return {}
    return training if isinstance(training, dict) else {}


def _read_table(path: Path) -> Table:
    """The rows of a CSV file; a column is of numbers if all its cells are, or empty."""
    table = read_table(path)
    columns, rows = table.columns, table.rows
    for number, row in enumerate(rows, start=2):
        if len(row) < len(columns):
            raise ValueError(f"{path} must have a cell for each column, line {number} has not")
    kinds = {name: _kind(name, (row[name] for row in rows)) for name in columns}
    parsed = tuple({name: kinds[name](row[name]) for name in columns} for row in rows)
    return Table(columns, parsed)


def _kind(name: str, cells: Iterable[str]) -> Callable[[str], Cell]:
    """How to read a column's cells."""
    try:
        if name not in _TEXT:
            for cell in cells:
                float(cell or 0)
            return _number
    except ValueError:
        pass
    return lambda cell: cell or None


def _number(cell: str) -> float | None:
    value = float(cell) if cell else math.nan
    return value if math.isfinite(value) else None


def text(row: Row, column: str) -> str:
    """A cell as words, empty if there is none."""
    value = row.get(column)
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else ""


def truths_of(row: Row) -> tuple[str, ...]:
    """The files of the truth, one for each rater."""
    files = row.get("truth")
    return files if isinstance(files, tuple) else ()


def _with_truths(cases: Table, folder: Path) -> Table:
    """The table with a tuple of the files of each truth in place of their names in a row.

    A name may hold the semicolon that separates names in the table: the journal lists them.
    """
    cells = {text(row, "truth") for row in cases.rows}
    journal = folder / "scores.jsonl"
    lists = {}
    if journal.is_file() and any(";" in cell for cell in cells):
        lists = {";".join(names): names for names in _journal_truths(journal)}
    truths = {cell: lists.get(cell) or tuple(filter(None, cell.split(";"))) for cell in cells}
    rows = tuple({**row, "truth": truths[text(row, "truth")]} for row in cases.rows)
    return Table(cases.columns, rows)


def _journal_truths(path: Path) -> Iterator[tuple[str, ...]]:
    """The files of every truth in a journal; lines that a crash damaged are passed by."""
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            for row in parse_json(line).get("rows", ()):
                yield tuple(map(str, row.get("truth") or ()))
