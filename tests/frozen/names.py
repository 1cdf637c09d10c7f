"""The one table between the names that the calls use and what the package calls them today.

A key of the stored values begins with the name that a thing had when it was frozen. Where a public
name changes, add one line here; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import softoverlap

RENAMED: dict[str, str | Callable[..., Any]] = {}
"""Frozen name -> today's public name, or a function that makes the old call out of new parts."""

FIELDS: dict[str, str] = {}
"""Field of a result today -> its name when it was frozen."""

_RECORDS = "a record; its fields are stored with what returns it"
_FILES = "reads or writes without computing; stored through what is read back"
_DRAWS = "draws; there is no number to keep"

LEFT_OUT = {
    "Aligned": _RECORDS,
    "AnchorWeights": _RECORDS,
    "AveragePrecision": _RECORDS,
    "AverageRecall": _RECORDS,
    "BestThreshold": _RECORDS,
    "BlandAltman": _RECORDS,
    "ExpectedBounds": _RECORDS,
    "FROC": _RECORDS,
    "FROCInterval": _RECORDS,
    "FalsePositives": _RECORDS,
    "Lesion": _RECORDS,
    "LesionCounts": _RECORDS,
    "LesionMatch": _RECORDS,
    "LesionRecall": _RECORDS,
    "MetricSummary": _RECORDS,
    "PanopticQuality": _RECORDS,
    "ReliabilityCurve": _RECORDS,
    "ScoreExistenceCorrelation": _RECORDS,
    "Staple": _RECORDS,
    "Volume": _RECORDS,
    "Report": _DRAWS,
    "plot_case": _DRAWS,
    "plot_froc": _DRAWS,
    "save_figure": _DRAWS,
    "write_report": _DRAWS,
    "DaskRunner": "spreads the cases that score_cohort scores; its own tests hold it equal",
    "ProcessPool": "spreads the cases that score_cohort scores; its own tests hold it equal",
    "ScorePair": "names files; made by every cohort here",
    "ScoreSettings": "settings of score_case and score_cohort, varied there",
    "save_nifti": _FILES,
    "write_box_files": _FILES,
    "write_boxes": _FILES,
}
"""Public names without entries of their own, and why."""


class _Names:
    """`api.box_iou`, or `api["box_iou"]`, is what the package calls so today."""

    def __getattr__(self, name: str) -> Any:
        today = RENAMED.get(name, name)
        return getattr(softoverlap, today) if isinstance(today, str) else today

    __getitem__ = __getattr__


api = _Names()


def covered(keys: list[str]) -> set[str]:
    """Public names of today that entries with these keys call."""
    frozen = {key.split("/")[0] for key in keys}
    return {str(RENAMED.get(name, name)) for name in frozen}
