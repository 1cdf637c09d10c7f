"""What `summary.json` says of detection at one score threshold, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from softoverlap.app.figures import POINT_FIGURES, counts_none
from softoverlap.app.report._values import Interval, as_interval, as_number


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, NaN where it is not defined."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class OperatingPoint:
    """Detection at a score threshold, NaN where every box counts, infinite where none does."""

    threshold: float
    words: str
    optimistic: bool
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class SizeClass:
    """Lesions of one class of sizes, and the share that was found by either rule."""

    name: str
    lesions: int
    sensitivity: float
    by_centre: float


@dataclass(frozen=True)
class Counts:
    """On how much the figures stand; None for what the summary does not tell."""

    patients: int | None = None
    scans: int | None = None
    lesions: int | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detected:
    """The headline of detection; empty or None for what the summary does not tell."""

    hit: str = ""
    counts: Counts = field(default_factory=Counts)
    point: OperatingPoint | None = None
    by_centre: Mapping[str, float] = field(default_factory=dict)
    centre_words: str = ""
    by_size: tuple[SizeClass, ...] = ()
    too_large: Mapping[str, float] = field(default_factory=dict)
    ignored: Mapping[str, float] = field(default_factory=dict)
    unreachable: Mapping[str, float] = field(default_factory=dict)
    no_curve: str = ""


def read_detected(part: Mapping[str, Any]) -> Detected:
    """Read the headline of a part; KeyError, TypeError or ValueError if it is damaged."""
    centre = part.get("by_centre") or {}
    apart = ("too_large", "ignored", "unreachable")
    return Detected(
        hit=str((part.get("hit") or {}).get("words", "")),
        counts=_counts(part.get("counts") or {}),
        point=_point(part.get("operating_point")),
        by_centre={name: as_number(centre[name]) for name in POINT_FIGURES if name in centre},
        centre_words=str(centre.get("words", "")),
        by_size=tuple(_size_class(row) for row in part.get("by_size") or ()),
        no_curve=str(part.get("no_curve") or ""),
        **{name: _numbers_of(part.get(name) or {}) for name in apart},
    )


def _counts(counts: Mapping[str, Any]) -> Counts:
    names = ("patients", "scans", "lesions")
    known = {name: int(counts[name]) for name in names if counts.get(name) is not None}
    return Counts(**known, missing=tuple(map(str, counts.get("missing") or ())))


def _point(point: Mapping[str, Any] | None) -> OperatingPoint | None:
    if point is None:
        return None
    figures = {
        name: Estimate(as_number(point[name]), as_interval(point.get(f"{name}_interval")))
        for name in POINT_FIGURES
    }
    return OperatingPoint(
        threshold=math.inf if counts_none(point) else as_number(point.get("threshold")),
        words=str(point.get("words", "")),
        optimistic=bool(point.get("optimistic", False)),
        figures=figures,
    )


def _size_class(row: Mapping[str, Any]) -> SizeClass:
    shares: Sequence[Any] = (row["sensitivity"], row.get("by_centre"))
    return SizeClass(str(row["size"]), int(row["lesions"]), *map(as_number, shares))


def _numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: as_number(value) for name, value in values.items()}
