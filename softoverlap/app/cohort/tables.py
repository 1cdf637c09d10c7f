"""Rows of lesions and of found boxes, as `lesions.csv` and `boxes.csv` have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.images import axis_names
from softoverlap.measures import match_scan

Row = dict[str, Any]
OUTCOMES = {1: "hit", 0: "duplicate", -1: "false positive"}


@dataclass(frozen=True)
class LesionTables:
    """What is said of a case's lesions.

    Args:
        columns: Counts and means, for the case's row.
        lesions: A row a true lesion.
        boxes: A row a found lesion or box.

    Examples:
        >>> LesionTables({"lesions": 0}, [], []).columns
        {'lesions': 0}
    """

    columns: Row
    lesions: list[Row]
    boxes: list[Row]


def place_columns(box: Sequence[int | float], centre: Sequence[float] | None = None) -> Row:
    """The columns of a box and, if given, of a centre, in voxels.

    Examples:
        >>> place_columns([0, 0, 0, 2, 2, 2], [1, 1, 1])["centre_axis0"]
        1.0
    """
    centres = {f"centre_axis{axis}": float(at) for axis, at in enumerate(centre or ())}
    return centres | {name: float(edge) for name, edge in zip(axis_names(3), box, strict=True)}


def match_boxes(
    boxes: Float[Tensor, "boxes 6"],
    scores: Float[Tensor, "boxes"] | None,
    quality: Float[Tensor, "lesions boxes"],
    *,
    threshold: float,
) -> tuple[list[Row], list[int]]:
    """Rows of found boxes, matched greedily by score as FROC counts them.

    Args:
        boxes: Found boxes, in voxels.
        scores: Their scores, or None if they have none.
        quality: How well each box meets each lesion.
        threshold: The lowest quality that hits.

    Returns:
        A row a box, and for each lesion the number of the box that took it, -1 for none.

    Examples:
        >>> rows, taken = match_boxes(
        ...     torch.tensor([[0.0, 0, 0, 1, 1, 1]]), None, torch.tensor([[0.6]]), threshold=0.1
        ... )
        >>> rows[0]["outcome"], rows[0]["lesion"], taken
        ('hit', 0, [0])
    """
    count = len(boxes)
    ranked = torch.ones(count) if scores is None else scores
    found = {"box": boxes, "label": torch.zeros(count), "label_scores": ranked}
    truth = {"box": torch.zeros(len(quality), 6), "label": torch.zeros(len(quality))}
    outcomes = match_scan(found, truth, hit=lambda *_: quality, threshold=threshold)
    outcome, lesion = outcomes.outcome.flatten(), outcomes.lesion.flatten()
    taken = [-1] * len(quality)
    rows = []
    for number, box in enumerate(boxes.tolist()):
        which = int(lesion[number])
        if which >= 0:
            taken[which] = number
        rows.append(
            {
                "box": number,
                "score": None if scores is None else float(scores[number]),
                "outcome": OUTCOMES[int(outcome[number])],
                "lesion": which if which >= 0 else None,
                **place_columns(box),
            }
        )
    return rows, taken


def lesion_columns(lesions: Sequence[Row], boxes: Sequence[Row], *, false_ml: float) -> Row:
    """The case's columns, from the rows of its lesions and of what was found.

    `lesionwise_dice` is Σ Dice of the lesions found over TP + FN + FP: between masks and with
    `min_mm3` 0 it is `compute_lesionwise_dice(dilation=0, min_mm3=0)`. With another `min_mm3` they
    differ: here lesions of either mask are left out by their soft volume, there true ones alone,
    by the voxels at or above the threshold.

    `lesion_recall` and FROC count by two rules. Between masks a lesion is found if any predicted
    one shares a voxel with it, so that one prediction may find several; FROC, as for boxes, lets
    each prediction take one lesion, so that its sensitivity may stay below the recall.
    """
    found = [row for row in lesions if row["detected"]]
    false = sum(row["outcome"] == OUTCOMES[-1] for row in boxes)
    dice = math.fsum(row["soft_dice"] for row in found)
    return {
        "lesions": len(lesions),
        "lesions_found": len(found),
        "lesion_recall": _share(len(found), len(lesions)),
        "pred_lesions": len(boxes),
        "false_positives": false,
        "false_positive_ml": false_ml,
        "lesion_dice": _share(math.fsum(row["soft_dice"] for row in lesions), len(lesions)),
        "lesionwise_dice": _share(dice, len(lesions) + false),
    }


def _share(part: int | float, whole: int) -> float:
    return part / whole if whole else math.nan
