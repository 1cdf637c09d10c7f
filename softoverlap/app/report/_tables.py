"""The tables that the page's script sorts and filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from softoverlap.app.columns import CASES, LESIONS, Column, find_column, shown_in
from softoverlap.app.figures import plural
from softoverlap.app.report._html import Markup, element, embedded_json, joined
from softoverlap.app.report._results import Cell, Row, Table

MOST_LESIONS = 20_000
"""More would make the page too large; the worst are kept."""


def case_table(cases: Table, pictures: Mapping[tuple[Cell, Cell], str]) -> Markup:
    """The table of all cases; a case with a picture leads to it."""
    links = [pictures.get((row.get("case"), row.get("label")), "") for row in cases.rows]
    return _interactive("cases", "case", cases, CASES, links=links)


def lesion_table(lesions: Table) -> Markup:
    """The table of the lesions, of very many the worst."""
    if not lesions.rows:
        return missing("There are no lesions in lesions.csv.")
    kept = sorted(lesions.rows, key=_dice)[:MOST_LESIONS]
    left_out = len(lesions.rows) - len(kept)
    if not left_out:
        return _interactive("lesions", "lesion", lesions, LESIONS)
    words = f"The worst {len(kept)} lesions; {left_out} more are in lesions.csv."
    shown = _interactive("lesions", "lesion", Table(lesions.columns, tuple(kept)), LESIONS)
    return joined([element("p", words), shown])


def missing(words: object) -> Markup:
    """In place of what cannot be shown."""
    return element("p", words, class_="missing")


def _dice(row: Row) -> float:
    value = row.get("soft_dice")
    return value if isinstance(value, float) else 0.0


def _interactive(
    name: str, noun: str, table: Table, known: Sequence[Column], *, links: Sequence[str] = ()
) -> Markup:
    """What the script needs: the rows as data, and where to put them."""
    used = [
        column for column in table.columns if any(row.get(column) is not None for row in table.rows)
    ]
    main = [column for column in shown_in(known, "table") if column in used]
    columns = [*main, *(column for column in used if column not in main)]
    data: dict[str, Any] = {
        "noun": noun,
        "main": len(main),
        "columns": [_column(find_column(known, column)) for column in columns],
        "rows": [[_cell(row.get(column)) for column in columns] for row in table.rows],
        "links": list(links),
    }
    noscript = element(
        "noscript", missing(f"{plural(len(table.rows), noun)}: to see them, allow scripts.")
    )
    place = element("div", id=f"{name}-table", class_="interactive", data_source=f"{name}-data")
    return joined([place, noscript, embedded_json(f"{name}-data", data)])


def _column(column: Column) -> dict[str, str]:
    """A column as the script has it; the words are those of its tooltip."""
    words = f"{column.heading}: {column.explanation}" if column.explanation else ""
    return {"name": column.name, "words": words}


def _cell(value: Cell) -> Cell | int:
    """Six digits are enough to look at; whole numbers as such."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")
    return value
