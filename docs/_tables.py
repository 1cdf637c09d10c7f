"""Tables in Markdown, and the marks in a page between which they are written anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, a line for each row."""
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def with_block(page: str, text: str, begin: str, end: str) -> str:
    """The page with the text between two marks written anew."""
    begin, end = f"<!-- {begin} -->", f"<!-- {end} -->"
    block = f"{begin}\n{text}\n{end}"
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    page, count = re.subn(pattern, lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page must have the mark {begin} once, found {count}")
    return page
