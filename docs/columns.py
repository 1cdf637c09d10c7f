"""Write the tables of columns into `docs/cohort.md`: `python docs/columns.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from softoverlap.app.columns import TABLES, Column

PAGE = Path(__file__).with_name("cohort.md")


def markdown(table: Iterable[Column]) -> str:
    """The columns as a table in Markdown."""
    rows = [
        (f"`{column.name}`", column.title, column.meaning, column.unit, column.better)
        for column in table
    ]
    head = ("column", "title", "what it is", "unit", "better")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))


def with_tables(page: str) -> str:
    """The page with each table between its marks written anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- columns of {name} -->", "<!-- end of columns -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        block = f"{begin}\n{markdown(table)}\n{end}"
        page, count = re.subn(pattern, lambda _, block=block: block, page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{PAGE} must have the mark {begin} once, found {count}")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
