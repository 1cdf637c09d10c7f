"""Which cases are worst, and where in them to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softoverlap.app.columns import CASES, RANKED_BY
from softoverlap.app.report._results import Results, Row, Table, meaningful
from softoverlap.images import axis_names

_CENTRE = tuple(f"centre_axis{axis}" for axis in range(3))


@dataclass(frozen=True)
class Focus:
    """A point in voxels, and what is there."""

    point: tuple[float, ...]
    words: str
    box: tuple[float, ...] | None = None
    """Its box in voxels, if that is known."""


def ranking(results: Results) -> str | None:
    """The column by which cases are worst, or None if there is no score."""
    told = meaningful(results, CASES, "summary")
    ranked = (name for name in RANKED_BY if name in told and results.scored.numbers(name))
    return next(ranked, None)


def worst_cases(results: Results, most: int) -> list[Row]:
    """The cases of the lowest score, worst first; equal ones by false positives, then in order."""
    column = ranking(results)
    if column is None:
        return []

    def badness(ranked: tuple[Row, tuple[float, ...]]) -> tuple[float, float]:
        row, (score,) = ranked
        false = row.get("false_positives")
        return score, -false if isinstance(false, float) else 0.0

    return [row for row, _ in sorted(results.scored.numbers(column), key=badness)[:most]]


def focus(lesions: Table, boxes: Table) -> Focus | None:
    """The largest missed lesion, else the worst found one, else the surest false positive."""
    if missed := worst_misses(lesions):
        return missed[0][1]
    places = lesions.where(lambda row: not _is_ignored(row)).numbers(
        *_CENTRE, "volume_mm3", "soft_dice"
    )
    if places:
        row, (*point, volume, dice) = min(places, key=lambda place: place[1][4])
        state = f"found with a soft Dice of {dice:.3g}"
        return Focus(tuple(point), f"lesion {_number(row)}, {state}, {volume:.4g} mm³", _box(row))
    false = worst_false_positives(boxes)
    return false[0][1] if false else None


def worst_misses(lesions: Table) -> list[tuple[Row, Focus]]:
    """The missed lesions and where they lie, the largest first."""
    missed = lesions.where(lambda row: row.get("detected") == "False" and not _is_ignored(row))
    places = missed.numbers(*_CENTRE, "volume_mm3")
    places.sort(key=lambda place: -place[1][3])
    return [
        (row, Focus(tuple(point), f"lesion {_number(row)}, missed, {volume:.4g} mm³", _box(row)))
        for row, (*point, volume) in places
    ]


def worst_false_positives(boxes: Table) -> list[tuple[Row, Focus]]:
    """The false positives at the operating point and where they lie, the surest first."""
    false = boxes.where(
        lambda row: row.get("outcome") == "false positive" and row.get("above") != "False"
    )
    places = sorted(false.numbers(*axis_names(3)), key=lambda place: -_score(place[0]))
    found = []
    for row, edges in places:
        middle = tuple((low + high) / 2 for low, high in zip(edges[:3], edges[3:], strict=True))
        scored = isinstance(row.get("score"), float)
        words = f"a false positive of score {_score(row):.3g}" if scored else "a false positive"
        found.append((row, Focus(middle, words, edges)))
    return found


def of_case(table: Table, row: Row) -> Table:
    """The table's rows of a case, and of its label."""
    keys: Sequence[str] = ("case", "label")
    return table.where(lambda other: all(other.get(key) == row.get(key) for key in keys))


def _is_ignored(row: Row) -> bool:
    """Whether a lesion does not count; the column is there where some lesion does not."""
    return bool(row.get("not_counted"))


def _number(row: Row) -> str:
    value = row.get("lesion")
    return f"{value:g}" if isinstance(value, float) else "?"


def _box(row: Row) -> tuple[float, ...] | None:
    edges = tuple(edge for name in axis_names(3) if isinstance(edge := row.get(name), float))
    return edges if len(edges) == 6 else None


def _score(row: Row) -> float:
    score = row.get("score")
    return score if isinstance(score, float) else 1.0
