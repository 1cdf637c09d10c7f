"""Rows of `lesions.csv` and `boxes.csv`, and the columns of a case that count lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch

from softoverlap.images import axis_names
from softoverlap.measures import LesionCounts, LesionwiseDice, Outcomes

Row = dict[str, Any]

_LESIONWISE_DICE = LesionwiseDice(dilation=0, min_mm3=0.0)


@dataclass(frozen=True)
class LesionTables:
    """The tables of the lesions of a case.

    Args:
        columns: Counts and means, for the case's row.
        lesions: One row per true lesion.
        outcomes: Whether each predicted lesion or box is a hit.
    """

    columns: Row
    lesions: list[Row]
    outcomes: Outcomes


def place_columns(box: Sequence[int | float], centre: Sequence[float] | None = None) -> Row:
    """The columns of a box and, if given, of a centre, in voxels.

    Examples:
        >>> place_columns([0, 0, 0, 2, 2, 2], [1, 1, 1])["centre_axis0"]
        1.0
    """
    centres = {f"centre_axis{axis}": float(at) for axis, at in enumerate(centre or ())}
    return centres | {name: float(edge) for name, edge in zip(axis_names(3), box, strict=True)}


def box_rows(outcomes: Outcomes) -> list[Row]:
    """A row of `boxes.csv` for each predicted box or lesion of one scan.

    Examples:
        >>> import torch
        >>> from softoverlap import match_scan
        >>> target = {"box": torch.tensor([[0.0, 0, 0, 1, 1, 1]]), "label": torch.zeros(1)}
        >>> outcomes = match_scan({**target, "label_scores": torch.ones(1)}, target)
        >>> box_rows(outcomes)[0]["outcome"], box_rows(outcomes)[0]["lesion"]
        ('hit', 0)
    """
    return [
        {
            "box": number,
            "score": result.score,
            "outcome": result.outcome,
            "lesion": result.lesion,
            **place_columns(result.box),
        }
        for number, result in enumerate(outcomes.each_box())
    ]


def lesion_columns(lesions: Sequence[Row], outcomes: Outcomes, *, false_ml: float) -> Row:
    """The case's columns, from the rows of its lesions and the outcomes of what was found.

    `lesionwise_dice` is Σ Dice of the lesions found over TP + FN + FP: between masks and with
    `min_mm3` 0 it is `compute_lesionwise_dice(dilation=0, min_mm3=0)`. With another `min_mm3` they
    differ: here lesions of either mask are left out by their soft volume, there true ones alone,
    by the voxels at or above the threshold.

    `lesion_recall` and FROC count by two rules. Between masks a lesion is found if any predicted
    one shares a voxel with it, so that one prediction may find several; FROC, as for boxes, lets
    each prediction take one lesion, so that its sensitivity may stay below the recall.
    """
    detected = [row for row in lesions if row["detected"]]
    counts = LesionCounts(
        tp=len(detected), fp=int(outcomes.false_positive.sum()), fn=len(lesions) - len(detected)
    )
    return {
        "lesions": len(lesions),
        "lesions_found": counts.tp,
        "lesion_recall": counts.recall,
        "pred_lesions": len(outcomes.boxes),
        "false_positives": counts.fp,
        "false_positive_ml": false_ml,
        "lesion_dice": _mean_dice(lesions, replace(counts, fp=0)),
        "lesionwise_dice": _mean_dice(detected, counts),
    }


def _mean_dice(lesions: Sequence[Row], counts: LesionCounts) -> float:
    """The score of the sums: Σ Dice of these lesions over all that is counted."""
    dice = math.fsum(row["soft_dice"] for row in lesions)
    sums = torch.tensor([dice, *astuple(counts)], dtype=torch.float64)
    return float(_LESIONWISE_DICE.score(sums))
