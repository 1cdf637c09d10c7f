"""Text files: JSON and CSV, each read and written in one place.

Two things keep a file from meaning something else to another reader. A key or a column that occurs
twice is refused, since one of both would win without a word. And a cell of CSV that a spreadsheet
would run as a formula is written with an apostrophe in front, which `read_table` takes away.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softoverlap.images.files import whole_file
from softoverlap.images.limits import check_memory

_OTHER_CODES = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins as UTF-16 does
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_FORMULA = re.compile(r"'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])")
_AFTER_SIGN = re.compile(r";(?='*\s*[=+\-@＝＋－＠])")  # where ; parts cells, as in many countries
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_ESCAPED = re.compile(r";'(?='*\s*[=+\-@＝＋－＠])")
_NOT_FINITE = ("nan", "inf", "infinity")
_WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)


_COPIES = 12
"""Bytes that a byte of JSON or CSV takes: of the text, and of the lists and numbers made of it."""


@dataclass(frozen=True)
class TextTable:
    """The header of a CSV file, its rows by column, and the line of the file where each row begins.

    Cells that a row lacks are not in it.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    lines: tuple[int, ...]


def read_text(path: Path, kind: str) -> str:
    """The text of a file in UTF-8, with or without a mark at its start.

    Raises:
        FileNotFoundError: If there is no such file, or it is a folder, a pipe or a device, which
            may never end.
        ValueError: If it is in another encoding, or larger than the limit of memory allows.
    """
    if not path.is_file():
        other = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "none"
        raise FileNotFoundError(f"{path} must be a {kind} file, found {other}")
    check_memory(path, _COPIES * path.stat().st_size)
    content = path.read_bytes()
    other = next((name for mark, name in _OTHER_CODES.items() if content.startswith(mark)), None)
    try:
        if other is None:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        other = f"byte {content[error.start]:#04x} at position {error.start}"
    raise ValueError(f"{path} must be a {kind} file in UTF-8, got {other}")


def read_json(path: str | os.PathLike[str]) -> Any:
    r"""The content of a JSON file in UTF-8.

    Args:
        path: The file.

    Returns:
        Dicts, lists, strings, numbers, booleans and None.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON, or an object in it has a key twice. The message is one line
            and names the file.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = path.write_text('{"boxes": [1], "boxes": []}')
        >>> read_json(path)
        Traceback (most recent call last):
        ValueError: ... must be a JSON file, got: the key 'boxes' twice in one object
    """
    path = Path(path)
    text = read_text(path, "JSON")
    if not text.strip():
        raise ValueError(f"{path} must be a JSON file, got an empty one")
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON file, got: {one_line(error)}") from error


def parse_json(text: str | bytes) -> Any:
    """The content of JSON.

    Raises:
        ValueError: If it is no JSON, nested too deeply, or an object in it has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("lists or objects that are nested too deeply") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = _first_twice(key for key, _ in pairs)
        raise ValueError(f"the key {twice!r} twice in one object")
    return content


def _first_twice(names: Iterable[str]) -> str | None:
    """The first name that occurs more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON, completely or not at all; numbers are read back exactly.

    Args:
        path: The file; an existing one is replaced.
        content: What to write.

    Raises:
        FileNotFoundError: If the folder of `path` does not exist.
        ValueError: If a number is not finite.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> write_json(path, {"boxes": [0.1]})
        >>> read_json(path)
        {'boxes': [0.1]}
    """
    text = json.dumps(content, indent=1, allow_nan=False)
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def read_table(path: str | os.PathLike[str]) -> TextTable:
    r"""The columns and rows of a CSV file, separated by commas; empty lines are no rows.

    Args:
        path: The file.

    Returns:
        Cells as text, as they were before `write_table`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no CSV in UTF-8, a column occurs twice, or a row has more cells than
            columns. The message is one line and names the file.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("case,score\n'=a,0.5\n")
        >>> read_table(path).rows
        ({'case': '=a', 'score': '0.5'},)
    """
    path = Path(path)
    return table_of(path, read_text(path, "CSV"))


def table_of(path: Path, text: str) -> TextTable:
    """The table in the text of a CSV file, by the rules of `read_table`."""
    try:
        lines = list(_lines(text))
    except csv.Error as error:
        raise ValueError(f"{path} must be a CSV file, got: {error}") from error
    header = [_plain(cell) for cell in lines[0][1]] if lines else []
    twice = _first_twice(filter(None, header))
    if twice is not None:
        raise ValueError(f"{path} must have each column once, got {twice!r} twice")
    for number, line in lines:
        if any(line[len(header) :]):  # a spreadsheet may end a line with empty cells
            raise ValueError(
                f"{path} must have a cell for each column, line {number} has not: "
                f"{len(line)} cells for {len(header)} columns"
            )
    rows = [dict(zip(header, map(_plain, line), strict=False)) for _, line in lines[1:]]
    return TextTable(tuple(header), tuple(rows), tuple(number for number, _ in lines[1:]))


def plain_columns(path: Path, table: TextTable) -> TextTable:
    """The table with names of columns as they are compared: without case and outer spaces.

    Raises:
        ValueError: If two names are the same then.
    """
    names = [name.strip().lower() for name in table.columns]
    if (twice := _first_twice(filter(None, names))) is not None:
        raise ValueError(f"{path} must have each column once, got {twice!r} twice")
    new = dict(zip(table.columns, names, strict=True))
    rows = tuple({new[name]: cell for name, cell in row.items()} for row in table.rows)
    return TextTable(tuple(names), rows, table.lines)


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of CSV that are not empty, each with the line where it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begin = 1
    for line in reader:
        if line:
            yield begin, line
        begin = reader.line_num + 1


def write_table(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV file with numbers in full precision, completely or not at all.

    A text that a spreadsheet would run as a formula, such as `=A1` or `-A1`, is written with an
    apostrophe in front, which `read_table` takes away; numbers stay as they are. Bytes of a file
    name that are not UTF-8 are written as escapes.

    Args:
        path: The file; an existing one is replaced.
        header: Names of the columns.
        rows: A value for each column; None is an empty cell.

    Raises:
        FileNotFoundError: If the folder of `path` does not exist.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cases.csv"
        >>> write_table(path, ["case", "bias"], [["sub-01", -0.75], ["=A1", None]])
        >>> path.read_text().split()
        ['case,bias', 'sub-01,-0.75', "'=A1,"]
    """
    with (
        whole_file(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(map(_safe, header))
        writer.writerows(map(_safe, row) for row in rows)


def _safe(cell: object) -> object:
    """The cell, with an apostrophe before a text that a spreadsheet would run."""
    if cell is None or isinstance(cell, int | float):
        return cell
    text = _AFTER_SIGN.sub(";'", str(cell))
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _plain(cell: str) -> str:
    """What `_safe` was given."""
    cell = cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
    return _ESCAPED.sub(";", cell)


def number_in(text: str, *, whole: bool = False) -> float | int:
    """The number that a cell holds; 1.0 is a whole number, and 1_000 is none.

    Raises:
        ValueError: If it holds no number, or no whole one where one is wanted.

    Examples:
        >>> number_in("-1.5"), number_in("1.0", whole=True)
        (-1.5, 1)
    """
    text = text.strip()
    if whole and _WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    if whole or not (_NUMBER.fullmatch(text) or text.lstrip("+-").lower() in _NOT_FINITE):
        raise ValueError(f"no {'whole ' if whole else ''}number: {text!r}")
    return float(text)


def whole_number(value: Any) -> int:
    """A whole number of JSON, which may be written as 1.0.

    Raises:
        ValueError: If it is another number or no number.

    Examples:
        >>> whole_number(2.0)
        2
    """
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise ValueError(f"no whole number: {value!r}")


def one_line(error: Exception) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())
