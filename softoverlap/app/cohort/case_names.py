"""A list of the cases that are scored, such as LUNA16's `seriesuids.csv`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from softoverlap.app.cohort.patterns import one_form
from softoverlap.app.cohort.sides import SideFile
from softoverlap.images import Unpaired, read_table

_COLUMNS = ("case", "seriesuid")
_SHOWN = 3


def read_case_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    r"""The names of a list: one a line, or those of the column `case` or `seriesuid`.

    Args:
        path: The file.

    Returns:
        Each name once, in the order of the list.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such list, or names nothing in a line.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "seriesuids.csv"
        >>> _ = path.write_text("1.3.6\n1.3.9\n")
        >>> read_case_names(path)
        ('1.3.6', '1.3.9')
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a list of cases, found no such file")
    table = read_table(path)
    headings = [name for name in table.columns if name.strip().lower() in _COLUMNS]
    if not headings and len(table.columns) != 1:
        raise ValueError(
            f"{path} must name a case in each line, or have a column {' or '.join(_COLUMNS)}, "
            f"got the columns {', '.join(table.columns) or 'none'}"
        )
    column = next(iter(headings), table.columns[0])
    cells = [row.get(column, "") for row in table.rows]
    names = [name.strip() for name in (cells if headings else [column, *cells])]
    if not names or "" in names:
        got = "an empty one" if names else "no line"
        raise ValueError(f"{path} must name a case in each line, got {got}")
    return tuple(dict.fromkeys(map(one_form, names)))


def unlisted(side: Mapping[str, Sequence[SideFile]], cases: Set[str]) -> list[Unpaired]:
    """Files of other cases than those that are listed; a table of many cases is one.

    Args:
        side: The files of each case.
        cases: The listed cases.

    Returns:
        Each file once, with the cases that are left out.

    Examples:
        >>> unlisted({"a": [], "b": [SideFile(Path("b.nii"), "b", "b")]}, {"a"})[0].reason
        'not among the listed cases: b'
    """
    others: dict[Path, list[str]] = {}
    for case in (case for case in side if case not in cases):
        for file in side[case]:
            others.setdefault(file.path, []).append(case)
    return [
        Unpaired(path, f"not among the listed cases: {shown(names)}")
        for path, names in others.items()
    ]


def shown(names: Sequence[str]) -> str:
    """The first names, and how many there are if these are not all.

    Examples:
        >>> shown(["a", "b"]), shown(["a", "b", "c", "d"])
        ('a, b', 'a, b, c, … (4 in all)')
    """
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
