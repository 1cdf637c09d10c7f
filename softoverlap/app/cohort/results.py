"""The rows of a case, collected label by label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, file_columns
from softoverlap.app.cohort.tables import LesionTables, Row

MERGED = "merged_classes"
"""The statistic of a row in which several classes count as one."""


class CaseRows:
    """Collects the rows of a case.

    Args:
        pair: The files.
        kind: What is compared, in words: `masks`, `boxes in masks`, …
        displacement: Largest displacement between the grids, in voxels, or None if unknown.
        notes: Remarks for the user.
        merged: Whether several classes count as one.

    Examples:
        >>> rows = CaseRows(ScorePair("a", None, ()), "masks", 0.0, [])
        >>> rows.result().rows
        []
    """

    def __init__(
        self,
        pair: ScorePair,
        kind: str,
        displacement: float | None,
        notes: Iterable[str],
        *,
        merged: bool = False,
    ) -> None:
        self.pair = pair
        self._of_classes: dict[str, Any] = {MERGED: True} if merged else {}
        self._notes = list(notes)
        self._head: Row = {
            "error": None,
            "warning": None,
            **file_columns(pair),
            "kind": kind,
            "geometry_displacement_voxels": _without_noise(displacement),
        }
        self._result = CaseResult(pair.case, [])

    def add(
        self,
        label: int | None,
        columns: Row,
        tables: LesionTables,
        statistics: dict[str, Any] | None = None,
    ) -> None:
        """Add the rows of a label, or of the only mask."""
        names = {"case": self.pair.case} | ({} if label is None else {"label": label})
        result = self._result
        result.rows.append({**names, **self._head, **columns, **tables.columns})
        result.lesions.extend({**names, **row} for row in tables.lesions)
        result.matches.append({**names, **tables.matches.as_dict()})
        result.statistics.append({**names, **self._of_classes, **(statistics or {})})

    def note(self, *notes: str) -> None:
        """Add remarks on the case."""
        self._notes += notes

    def result(self) -> CaseResult:
        """All rows; the notes are the warning of each, without duplicates."""
        notes = dict.fromkeys(" ".join(note.split()) for note in self._notes)
        for row in self._result.rows:
            row["warning"] = "; ".join(notes) or None
        return self._result


def _without_noise(displacement: float | None) -> float | None:
    """The displacement, 0 if it is only the rounding of float32 affines."""
    return displacement if displacement is None or displacement >= 1e-6 else 0.0
