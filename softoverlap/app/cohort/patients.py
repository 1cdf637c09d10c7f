"""Whose scan each case is, since scans of one patient are drawn together."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from softoverlap.app.cohort.csv_rows import read_rows
from softoverlap.images import bids_subject

_SHOWN = 5


def subject_of(case: str) -> str:
    """The BIDS subject in a case's name, or else the case itself: intervals rest on no guess.

    Args:
        case: Name of the case, which may be a path.

    Returns:
        The patient.

    Examples:
        >>> subject_of("sub-01_ses-2_run-1"), subject_of("derivatives/sub-01/anat/lesions")
        ('sub-01', 'sub-01')
        >>> subject_of("scan 7")
        'scan 7'
    """
    return bids_subject(case) or case


def read_patients(table: str | os.PathLike[str], cases: Iterable[str]) -> dict[str, str]:
    r"""The patient of each case, from a CSV table with the columns case and patient.

    Args:
        table: The file. Other columns, and rows of other cases, are ignored.
        cases: Names of the cases.

    Returns:
        The patient of each of these cases, in their order.

    Raises:
        FileNotFoundError: If the table does not exist.
        ValueError: If it does not have these columns, lacks a patient or a case, or has two rows of
            one case.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "patients.csv"
        >>> _ = path.write_text("case,patient\nmonday,ann\nfriday,ann\nfirst,bob\n")
        >>> read_patients(path, ["first", "friday", "monday"])
        {'first': 'bob', 'friday': 'ann', 'monday': 'ann'}
    """
    table = Path(table)
    known: dict[str, str] = {}
    for number, row in enumerate(read_rows(table, "case", "patient"), start=2):
        for column, cell in row.items():
            if not cell:
                raise ValueError(
                    f"{table} must name a {column} in each row, got none in row {number}"
                )
        if row["case"] in known:
            raise ValueError(f"{table} must have one row per case, got a second of {row['case']}")
        known[row["case"]] = row["patient"]
    cases = list(dict.fromkeys(cases))
    if unknown := [case for case in cases if case not in known]:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise ValueError(
            f"{table} must have a row for every case, got none for "
            f"{', '.join(unknown[:_SHOWN])}{more}; it names {', '.join(list(known)[:_SHOWN])}"
            f"{', …' if len(known) > _SHOWN else ''}"
        )
    return {case: known[case] for case in cases}
