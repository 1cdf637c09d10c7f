"""Rows of `lesions.csv` and `boxes.csv`, and the columns of a case that count lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from itertools import compress
from typing import Any

import torch

from softoverlap._units import MM3_PER_ML
from softoverlap.app.cohort.hit_rule import IGNORED, TOO_LARGE
from softoverlap.app.cohort.matches import LesionMatches
from softoverlap.images import axis_names
from softoverlap.measures import LesionCounts, LesionwiseDice

Row = dict[str, Any]

_LESIONWISE_DICE = LesionwiseDice(dilation=0, min_mm3=0.0)


@dataclass(frozen=True)
class LesionTables:
    """The tables of the lesions of a case.

    Args:
        lesions: A row a true lesion.
        matches: What hit what.
    """

    lesions: list[Row]
    matches: LesionMatches

    @property
    def columns(self) -> Row:
        """Counts and means, for the case's row."""
        return lesion_columns(self.lesions, self.matches)

    def at(self, score: float | None) -> LesionTables:
        """The same where found boxes below a score don't count."""
        matches = replace(self.matches, at=score)
        return LesionTables([_lesion_at(row, score) for row in self.lesions], matches)

    def moved(self, start: Sequence[int]) -> LesionTables:
        """The same with all places in the voxels of another grid, where this grid has its first."""
        if not any(start):
            return self
        by = {f"centre_axis{axis}": at for axis, at in enumerate(start)}
        by |= dict(zip(axis_names(3), (*start, *start), strict=True))
        lesions = [
            {name: value + by[name] if name in by else value for name, value in row.items()}
            for row in self.lesions
        ]
        return LesionTables(lesions, self.matches.moved(start))


def place_columns(box: Sequence[int | float], centre: Sequence[float] | None = None) -> Row:
    """The columns of a box and, if given, of a centre, in voxels.

    Examples:
        >>> place_columns([0, 0, 0, 2, 2, 2], [1, 1, 1])["centre_axis0"]
        1.0
    """
    centres = {f"centre_axis{axis}": float(at) for axis, at in enumerate(centre or ())}
    return centres | {name: float(edge) for name, edge in zip(axis_names(3), box, strict=True)}


def box_rows(matches: LesionMatches) -> list[Row]:
    """A row of `boxes.csv` for each found box or lesion of one scan.

    Examples:
        >>> from softoverlap import match_scan
        >>> target = {"box": torch.tensor([[0.0, 0, 0, 1, 1, 1]]), "label": torch.zeros(1)}
        >>> outcomes = match_scan({**target, "label_scores": torch.ones(1)}, target)
        >>> row = box_rows(LesionMatches("boxes", outcomes, [1.0]))[0]
        >>> row["outcome"], row["lesion"], row["above"]
        ('hit', 0, True)
    """
    return [
        {
            "box": number,
            "score": result.score,
            "above": above,
            "outcome": result.outcome,
            "lesion": result.lesion,
            **place_columns(result.box),
        }
        for number, (result, above) in enumerate(
            zip(matches.outcomes.each_box(), matches.above.tolist(), strict=True)
        )
    ]


def lesion_columns(lesions: Sequence[Row], matches: LesionMatches) -> Row:
    """The case's columns, from the rows of its lesions and what hit what.

    `lesionwise_dice` is Σ Dice of the lesions found over TP + FN + FP: between masks and with
    `min_mm3` 0 it is `compute_lesionwise_dice(dilation=0, min_mm3=0)`. With another `min_mm3` they
    differ: here lesions of either mask are left out by their soft volume, there true ones alone,
    by the voxels at or above the threshold.
    """
    rows = [row for row in lesions if not row["not_counted"]]
    detected, outcomes = [row for row in rows if row["detected"]], matches.counted
    counts = LesionCounts(
        tp=len(detected), fp=int(outcomes.false_positive.sum()), fn=len(rows) - len(detected)
    )
    false = (matches.outcomes.false_positive & matches.above).tolist()
    reasons = [row["not_counted"] for row in lesions]
    columns = {
        "lesions": len(rows),
        "lesions_found": counts.tp,
        "lesion_recall": counts.recall,
        "pred_lesions": len(outcomes.boxes),
        "false_positives": counts.fp,
        "false_positive_ml": math.fsum(compress(matches.volumes, false)) / MM3_PER_ML,
        "ignored_lesions": reasons.count(IGNORED),
        "too_large_lesions": reasons.count(TOO_LARGE),
    }
    if not matches.has_boxes:
        return columns | {
            "lesion_dice": _mean_dice(rows, replace(counts, fp=0)),
            "lesionwise_dice": _mean_dice(detected, counts),
        }
    volume, covered = matches.too_large
    return columns | {
        "found_by_centre": sum(bool(row["found_by_centre"]) for row in rows),
        "box_iou": _mean([row["box_iou"] for row in detected]),
        "too_large_covered": covered / volume if volume else None,
        "lesions_beyond_own_box": matches.own_box or None,
        "lesions_below_smallest_anchor": matches.smallest_anchor,
    }


def _lesion_at(row: Row, score: float | None) -> Row:
    """The row of a lesion; what was found of it may lie below the score."""
    changes: Row = {}
    if _is_below(row.get("score"), score):
        changes |= {"detected": False, "n_pred": 0, "pred_volume_mm3": 0.0, "score": None}
        changes |= {name: 0.0 for name in ("box_iou", "soft_dice", "soft_iou") if name in row}
    if _is_below(row.get("centre_score"), score):
        changes |= {"found_by_centre": False, "centre_score": None}
    return row | changes


def _is_below(score: float | None, lowest: float | None) -> bool:
    return score is not None and lowest is not None and score < lowest


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _mean_dice(lesions: Sequence[Row], counts: LesionCounts) -> float:
    """The score of the sums: Σ Dice of these lesions over all that is counted."""
    dice = math.fsum(row["soft_dice"] for row in lesions)
    sums = torch.tensor([dice, *astuple(counts)], dtype=torch.float64)
    return float(_LESIONWISE_DICE.score(sums))
