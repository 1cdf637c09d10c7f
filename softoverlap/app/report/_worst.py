"""Which cases are worst, and where in them to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softoverlap.app.report._results import Results, Row, Table
from softoverlap.images import axis_names

RANKED_BY = ("soft_dice", "lesion_dice", "lesionwise_dice", "lesion_recall")


@dataclass(frozen=True)
class Focus:
    """A point in voxels, and what is there."""

    point: tuple[float, ...]
    words: str
    box: tuple[float, ...] | None = None
    """Its box in voxels, if that is known."""


def ranking(results: Results) -> str | None:
    """The column by which cases are worst, or None if there is no score."""
    return next((name for name in RANKED_BY if results.scored.numbers(name)), None)


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
    centres = [f"centre_axis{axis}" for axis in range(3)]
    places = lesions.numbers(*centres, "volume_mm3", "soft_dice")
    missed = [one for one in places if one[0].get("detected") == "False"]
    if places:
        chosen = max(missed, key=lambda one: one[1][3], default=None)
        chosen = chosen or min(places, key=lambda one: one[1][4])
        row, (*point, volume, dice) = chosen
        state = "missed" if missed else f"of soft Dice {dice:.3g}"
        return Focus(tuple(point), f"lesion {_number(row)}, {state}, {volume:.4g} mm³", _box(row))
    false = boxes.where(lambda row: row.get("outcome") == "false positive")
    wrong = false.numbers(*axis_names(3))
    if wrong:
        row, edges = max(wrong, key=lambda one: _score(one[0]))
        middle = tuple((low + high) / 2 for low, high in zip(edges[:3], edges[3:], strict=True))
        return Focus(middle, f"a false positive of score {_score(row):.3g}", edges)
    return None


def of_case(table: Table, row: Row) -> Table:
    """The table's rows of a case, and of its label."""
    keys: Sequence[str] = ("case", "label")
    return table.where(lambda other: all(other.get(key) == row.get(key) for key in keys))


def _number(row: Row) -> str:
    value = row.get("lesion")
    return f"{value:g}" if isinstance(value, float) else "?"


def _box(row: Row) -> tuple[float, ...] | None:
    edges = tuple(edge for name in axis_names(3) if isinstance(edge := row.get(name), float))
    return edges if len(edges) == 6 else None


def _score(row: Row) -> float:
    score = row.get("score")
    return score if isinstance(score, float) else 1.0
