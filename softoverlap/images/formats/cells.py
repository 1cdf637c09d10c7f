"""Cells of the tables of boxes: numbers, and what says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from softoverlap.images.formats.meaning import SPACES, UNITS, bare_key, check_meaning
from softoverlap.images.texts import TextTable, number_in


def check_cells(path: Path, table: TextTable, words: str, allowed: tuple[str, ...]) -> None:
    """Refuse a column that says that the numbers are something else; empty cells say nothing."""
    names = (*UNITS, *SPACES)
    for column in (name for name in table.columns if bare_key(name) in names):
        cells = dict.fromkeys(row.get(column, "").strip().lower() for row in table.rows)
        check_meaning(path, ({column: cell} for cell in cells), names, words, ("", *allowed))


def number_cell(
    path: Path, line: int, row: Mapping[str, str], name: str, *, whole: bool = False
) -> float | int:
    """The number in a cell; the message has the line of the file."""
    text = row.get(name)
    try:
        return number_in(text or "", whole=whole)
    except ValueError as error:
        words = f"a {'whole ' if whole else ''}number as {name}"
        raise ValueError(f"{path} must have {words} in line {line}, got {text!r}") from error
