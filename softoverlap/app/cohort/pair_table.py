"""Pair predictions with truths by a table."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from softoverlap.app.cohort.csv_rows import read_rows
from softoverlap.app.cohort.one_file import file_error
from softoverlap.app.cohort.pairing import NO_PREDICTION, NO_TRUTH, PairTable, ScorePair
from softoverlap.app.cohort.patterns import one_form


def read_pairs(table: str | os.PathLike[str]) -> PairTable:
    r"""Read pairs from a CSV table with the columns case, pred and truth.

    Args:
        table: The file. Paths are relative to its folder; masks of several raters are separated by
            `;`. Other columns are ignored.

    Returns:
        Every case, in the order of the table. A case with an empty cell, a missing file or two rows
        has an error.

    Raises:
        FileNotFoundError: If the table does not exist.
        ValueError: If it does not have these columns, or has no rows.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pairs.csv"
        >>> for name in ("a.nii", "a_1.nii", "a_2.nii", "b.nii"):
        ...     path.with_name(name).touch()
        >>> _ = path.write_text("case,pred,truth\na,a.nii,a_1.nii;a_2.nii\nb,,b.nii\n")
        >>> [(pair.case, len(pair.truth), pair.error) for pair in read_pairs(path).pairs]
        [('a', 2, None), ('b', 1, 'no prediction')]
    """
    table = Path(table)
    rows = read_rows(table, "case", "pred", "truth")
    counts = Counter(one_form(row["case"]) for row in rows)
    return PairTable(tuple(_tabled(rows, counts, table.parent)))


def _tabled(rows: list[dict[str, str]], counts: Counter[str], folder: Path) -> Iterator[ScorePair]:
    """A pair for each case; some have an error."""
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        case, pred = one_form(row["case"]), row["pred"]
        truths = [part.strip() for part in row["truth"].split(";") if part.strip()]
        if case in seen:
            continue
        seen.add(case)
        error = None if case else f"no case in line {number}"
        if case and counts[case] > 1:
            error = f"{counts[case]} rows of this case in the table"
        error = error or (None if pred else NO_PREDICTION) or (None if truths else NO_TRUTH)
        paths = [_in_either_form(folder / path) for path in (pred, *truths)]
        yield ScorePair(
            case or f"line {number}",
            paths[0] if pred else None,
            tuple(paths[1:]),
            error or _missing(paths) or file_error(paths[0], paths[1:]),
        )


def _in_either_form(path: Path) -> Path:
    """The path in the Unicode form in which it exists."""
    forms = [Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD")]
    return next((other for other in (path, *forms) if os.path.lexists(other)), path)


def _missing(paths: list[Path]) -> str | None:
    """A message that lists the missing files, if any; links are there, wherever they lead."""
    gone = [str(path) for path in paths if not os.path.lexists(path)]
    return f"found no such file: {', '.join(gone)}" if gone else None
