"""The files of a run: tables, words for a paper, and the summary; whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from softoverlap._checks import refusal
from softoverlap.app.cohort.methods import latex_table, methods_text
from softoverlap.app.cohort.names import JOURNAL, LATEX, METHODS, OUTPUTS, SUMMARY
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult
from softoverlap.app.cohort.tables import Row
from softoverlap.app.columns import TABLES, Column, file_header
from softoverlap.images import whole_file, write_json, write_table


def write_outputs(folder: Path, results: Sequence[CaseResult], summary: dict[str, Any]) -> None:
    """Write all tables and the summary in full precision, `methods.txt` and `results.tex` rounded.

    An old summary is removed first, and the new one is written last. So if there is a summary, the
    tables belong to the same run.

    Args:
        folder: An existing folder.
        results: The results, in the order of the rows.
        summary: The content of `summary.json`.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_outputs(folder, [CaseResult("a", [{"case": "a", "soft_dice": 0.5}])], {})
        >>> (folder / "cases.csv").read_text().split()
        ['case,error,warning,soft_dice', 'a,,,0.5']
    """
    (folder / SUMMARY).unlink(missing_ok=True)
    fields = ("rows", "lesions", "boxes")
    for (name, table), field in zip(TABLES.items(), fields, strict=True):
        rows = [row for result in results for row in getattr(result, field)]
        _write_table(folder / name, table, rows)
    for name, words in ((METHODS, methods_text(summary)), (LATEX, latex_table(summary))):
        with whole_file(folder / name) as unfinished:
            unfinished.write_text(words, encoding="utf-8", errors="backslashreplace")
    write_json(folder / SUMMARY, summary)


def check_outputs(folder: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse to overwrite inputs or files of others; nothing is removed here.

    Args:
        folder: Folder for the results.
        inputs: Files that the run reads.
        overwrite: Whether tables without a journal may be replaced.

    Raises:
        NotADirectoryError: If the folder is a file.
        FileExistsError: If there are results without a journal and `overwrite` is False.
        ValueError: If an output would replace an input.

    Examples:
        >>> check_outputs(Path("results"), [Path("results/cases.csv")], overwrite=True)
        Traceback (most recent call last):
        ValueError: output must not hold an input of that name, got results/cases.csv
    """
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise refusal("output", f"must be a folder, got the file {path}", NotADirectoryError)
    outputs = {os.path.realpath(folder / name) for name in OUTPUTS}
    for path in inputs:
        if os.path.realpath(path) in outputs:
            raise refusal("output", f"must not hold an input of that name, got {path}")
    existing = [name for name in OUTPUTS if (folder / name).exists()]
    if existing and JOURNAL not in existing and not overwrite:
        raise FileExistsError(
            f"{folder / existing[0]} must not exist yet: pass `overwrite=True` or another `output=`"
        )


def inputs_of(pairs: Iterable[ScorePair]) -> list[Path]:
    """All files of the cases.

    Examples:
        >>> inputs_of([ScorePair("a", None, (Path("a.nii"),))])
        [PosixPath('a.nii')]
    """
    return [path for pair in pairs for path in (pair.pred, *pair.truth) if path is not None]


def _write_table(path: Path, table: Sequence[Column], rows: Sequence[Row]) -> None:
    header = file_header(table, dict.fromkeys(name for row in rows for name in row))
    write_table(path, header, [[_cell(row.get(name)) for name in header] for row in rows])


def _cell(value: Any) -> Any:
    """The value of a cell; file names are separated by semicolons."""
    return ";".join(value) if isinstance(value, list) else value
