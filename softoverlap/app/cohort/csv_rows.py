"""Tables that users write: CSV in UTF-8, with named columns."""

from __future__ import annotations

from pathlib import Path

from softoverlap.images import read_table


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
    content = read_table(table)
    if not set(columns) <= set(content.columns):
        wanted = f"{', '.join(columns[:-1])} and {columns[-1]}"
        raise ValueError(
            f"{table} must have the columns {wanted}, separated by commas, "
            f"got {', '.join(content.columns) or 'none'}"
        )
    if not content.rows:
        raise ValueError(f"{table} must have one row per case, got none")
    return [{name: row.get(name, "").strip() for name in columns} for row in content.rows]
