"""Tables that users write: CSV in UTF-8, with named columns."""

from __future__ import annotations

import csv
from pathlib import Path


def read_rows(table: Path, *columns: str) -> list[dict[str, str]]:
    r"""The rows of a table that has these columns, among others; cells without spaces around them.

    Args:
        table: The file.
        columns: Names of the columns.

    Returns:
        A dict a row, of these columns; a cell that is missing is empty.

    Raises:
        FileNotFoundError: If the table does not exist.
        ValueError: If it is no such table, lacks a column, or has no rows.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "table.csv"
        >>> _ = path.write_text("case,age,patient\na, 40,ann \n")
        >>> read_rows(path, "case", "patient")
        [{'case': 'a', 'patient': 'ann'}]
    """
    if not table.is_file():
        raise FileNotFoundError(f"{table} must be a CSV table, found no such file")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, header = list(reader), reader.fieldnames or []
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{table} must be a CSV table in UTF-8, got: {error}") from error
    if not set(columns) <= set(header):
        wanted = f"{', '.join(columns[:-1])} and {columns[-1]}"
        raise ValueError(
            f"{table} must have the columns {wanted}, separated by commas, "
            f"got {', '.join(header) or 'none'}"
        )
    if not rows:
        raise ValueError(f"{table} must have one row per case, got none")
    return [{name: (row[name] or "").strip() for name in columns} for row in rows]
