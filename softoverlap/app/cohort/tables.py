"""Rows of lesions and of found boxes, as `lesions.csv` and `boxes.csv` have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from softoverlap.images import axis_names
from softoverlap.measures import Outcomes

Row = dict[str, Any]


@dataclass(frozen=True)
class LesionTables:
    """What is said of a case's lesions.

    Args:
        columns: Counts and means, for the case's row.
        lesions: A row a true lesion.
        outcomes: What became of each found lesion or box.
    """

    columns: Row
    lesions: list[Row]
    outcomes: Outcomes

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
        shift = torch.tensor([*start, *start])
        names = ("boxes", "lesion_boxes")
        places = {name: getattr(self.outcomes, name) + shift for name in names}
        return LesionTables(self.columns, lesions, replace(self.outcomes, **places))


def place_columns(box: Sequence[int | float], centre: Sequence[float] | None = None) -> Row:
    """The columns of a box and, if given, of a centre, in voxels.

    Examples:
        >>> place_columns([0, 0, 0, 2, 2, 2], [1, 1, 1])["centre_axis0"]
        1.0
    """
    centres = {f"centre_axis{axis}": float(at) for axis, at in enumerate(centre or ())}
    return centres | {name: float(edge) for name, edge in zip(axis_names(3), box, strict=True)}


def box_rows(outcomes: Outcomes) -> list[Row]:
    """A row of `boxes.csv` for each found box or lesion of one scan.

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
    false = int(outcomes.false_positive.sum())
    dice = math.fsum(row["soft_dice"] for row in detected)
    return {
        "lesions": len(lesions),
        "lesions_found": len(detected),
        "lesion_recall": _share(len(detected), len(lesions)),
        "pred_lesions": len(outcomes.boxes),
        "false_positives": false,
        "false_positive_ml": false_ml,
        "lesion_dice": _share(math.fsum(row["soft_dice"] for row in lesions), len(lesions)),
        "lesionwise_dice": _share(dice, len(lesions) + false),
    }


def _share(part: int | float, whole: int) -> float:
    return part / whole if whole else math.nan
