"""CSV tables, and the names of the columns of a box."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence

from softoverlap.images.files import whole_file


def axis_names(ndim: int) -> list[str]:
    """Names of a box's numbers: all minima, then all maxima, in tensor axis order.

    Args:
        ndim: Number of axes.

    Returns:
        2 * ndim names.

    Examples:
        >>> axis_names(1)
        ['axis0_min', 'axis0_max']
    """
    return [f"axis{axis}_{end}" for end in ("min", "max") for axis in range(ndim)]


def write_table(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV file with numbers in full precision, completely or not at all.

    Bytes of a file name that are not UTF-8 are written as escapes.

    Args:
        path: The file; an existing one is replaced.
        header: Names of the columns.
        rows: A value for each column; None is an empty cell.

    Raises:
        FileNotFoundError: If the folder of `path` does not exist.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "cases.csv"
        >>> write_table(path, ["case", "soft_dice"], [["sub-01", 0.75], ["sub-02", None]])
        >>> path.read_text().split()
        ['case,soft_dice', 'sub-01,0.75', 'sub-02,']
    """
    with (
        whole_file(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
