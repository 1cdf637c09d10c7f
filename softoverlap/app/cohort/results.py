"""The rows of a case, put together label by label."""

from __future__ import annotations

from typing import Any

from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, file_columns
from softoverlap.app.cohort.tables import LesionTables, Row


class CaseRows:
    """Collects the rows of a case.

    Args:
        pair: The files.
        kind: What is compared, in words: `masks`, `boxes in masks`, …
        displacement: Largest displacement between the grids, in voxels, or None if unknown.
        warning: What a user should know, or None.

    Examples:
        >>> rows = CaseRows(ScorePair("a", None, ()), "masks", 0.0, None)
        >>> rows.result().rows
        []
    """

    def __init__(
        self, pair: ScorePair, kind: str, displacement: float | None, warning: str | None
    ) -> None:
        self.pair = pair
        self._head: Row = {
            "error": None,
            "warning": None if warning is None else " ".join(warning.split()),
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
        """The rows of a label, or of the one mask that there is."""
        names = {"case": self.pair.case} | ({} if label is None else {"label": label})
        result = self._result
        result.rows.append({**names, **self._head, **columns, **tables.columns})
        result.lesions.extend({**names, **row} for row in tables.lesions)
        result.matches.append({**names, "outcomes": tables.outcomes.as_dict()})
        result.statistics.append({**names, **(statistics or {})})

    def result(self) -> CaseResult:
        """All rows."""
        return self._result


def _without_noise(displacement: float | None) -> float | None:
    """Affines in float32 are never nearer to each other than this."""
    return displacement if displacement is None or displacement >= 1e-6 else 0.0
