"""Write the tables of columns and of criteria into `docs/cohort.md`: `python docs/columns.py`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from _tables import markdown_table, with_block

from softoverlap.app.columns import TABLES, Column
from softoverlap.measures import CRITERION_NOTES

PAGE = Path(__file__).with_name("cohort.md")


def markdown(table: Iterable[Column]) -> str:
    """The columns as a table in Markdown."""
    rows = [
        (f"`{column.name}`", column.title, column.meaning, column.unit, column.better)
        for column in table
    ]
    return markdown_table(("column", "title", "what it is", "unit", "better"), rows)


def criteria() -> str:
    """What each criterion of hits is, and who uses it, as a table in Markdown."""
    rows = []
    for name, note in CRITERION_NOTES.items():
        what, _, who = note.partition(": ")
        rows.append((f"`{name}`", what, who, "masks" if "mask" in name else "masks or boxes"))
    return markdown_table(("`--hit`", "what it is", "who uses it, or why", "the truth is"), rows)


def with_tables(page: str) -> str:
    """The page with each table between its marks written anew."""
    blocks = {f"columns of {name}": ("columns", markdown(table)) for name, table in TABLES.items()}
    blocks["criteria of hits"] = ("criteria", criteria())
    for name, (kind, table) in blocks.items():
        page = with_block(page, table, name, f"end of {kind}")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
