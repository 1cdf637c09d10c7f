"""Rows of `lesions.csv` and `boxes.csv`, and the columns of a case that count lesions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import compress
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from softoverlap._units import MM3_PER_ML
from softoverlap.images import axis_names
from softoverlap.measures import LesionCounts, LesionwiseDice, Outcomes

Row = dict[str, Any]
Coverage = dict[str, Any]
"""`volume_mm3` of a lesion, and `steps`: pairs of a score and the mm³ covered from there on."""

IGNORED, TOO_LARGE = "ignored", "too large"
"""Why a lesion does not count."""

_LESIONWISE_DICE = LesionwiseDice(dilation=0, min_mm3=0.0)


@dataclass(frozen=True)
class LesionMatches:
    """What hit what in a case: all from which its columns are formed, at any score threshold.

    Args:
        kind: What was compared: masks, boxes in masks, masks in boxes, or boxes.
        outcomes: What became of each found lesion or box, by the rule.
        volumes: Volume of each found one in mm³, or NaN.
        left_out: Of each found one that does not count, which lesion it lies on, ignored or too
            large; None for all others, and nothing where all count.
        by_centre: The same outcomes where a hit is a centre near enough, or None between masks.
        covered: Of each true lesion too large for a box, its volume and how much of it the found
            boxes cover from each score on, in mm³, by descending score.
        score_threshold: The score that was stored with the boxes as their operating point, or None.
        threshold_rule: How that was chosen.
        own_box: How many lesions not even their own tight box could hit, None between masks.
        smallest_anchor: How many no box of the detector's smallest anchor could hit, or None.
        at: The score from which found boxes count here; None for all.

    Examples:
        >>> from softoverlap.measures import match_quality
        >>> nothing = torch.zeros(0, 6, dtype=torch.float64)
        >>> outcomes = match_quality(
        ...     torch.zeros(0, 0), torch.zeros(0, 0).bool(), boxes=nothing, scores=None,
        ...     lesion_boxes=nothing, existence=[], sizes=[],
        ... )
        >>> LesionMatches("boxes", outcomes, []).counted.scans.tolist()
        [[0, 0]]
    """

    kind: str
    outcomes: Outcomes
    volumes: list[float]
    left_out: list[str | None] = field(default_factory=list)
    by_centre: Outcomes | None = None
    covered: list[Coverage] = field(default_factory=list)
    score_threshold: float | None = None
    threshold_rule: str | None = None
    own_box: int | None = None
    smallest_anchor: int | None = None
    at: float | None = None

    @property
    def has_boxes(self) -> bool:
        """Whether a box takes part."""
        return self.by_centre is not None

    @property
    def above(self) -> Bool[Tensor, "boxes"]:
        """Which found ones count: those at or above the score, and those without a score."""
        if self.at is None:
            return torch.ones(len(self.volumes), dtype=torch.bool)
        return ~(self.outcomes.scores < self.at)

    @property
    def counted(self) -> Outcomes:
        """The outcomes of those that count: no lower score ever changes them."""
        return _kept(self.outcomes, self.above)

    @property
    def counted_by_centre(self) -> Outcomes | None:
        """The same by centre."""
        return None if self.by_centre is None else _kept(self.by_centre, self.above)

    @property
    def too_large(self) -> tuple[float, float]:
        """Volume of the lesions that are too large for a box, and what of it is covered, in mm³."""
        reached = [
            max((mm3 for score, mm3 in lesion["steps"] if self._counts(score)), default=0.0)
            for lesion in self.covered
        ]
        return math.fsum(lesion["volume_mm3"] for lesion in self.covered), math.fsum(reached)

    def left_out_for(self, reason: str) -> int:
        """How many found ones at or above the score lie on lesions of this kind alone."""
        return list(compress(self.left_out, self.above.tolist())).count(reason)

    def _counts(self, score: float | None) -> bool:
        return self.at is None or score is None or score >= self.at

    def moved(self, start: Sequence[int]) -> LesionMatches:
        """The same in the voxels of another grid, where this grid has its first."""
        by_centre = None if self.by_centre is None else _moved(self.by_centre, start)
        return replace(self, outcomes=_moved(self.outcomes, start), by_centre=by_centre)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        for name in ("outcomes", "by_centre"):
            values[name] = None if values[name] is None else values[name].as_dict()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LesionMatches:
        """The matches of such data."""
        known = {part.name: values[part.name] for part in fields(cls) if part.name in values}
        for name in ("outcomes", "by_centre"):
            if known.get(name) is not None:
                known[name] = Outcomes.from_dict(known[name])
        known["volumes"] = [math.nan if mm3 is None else mm3 for mm3 in known["volumes"]]
        return cls(**known)


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
        "ignored_lesions": reasons.count(IGNORED) or None,
    }
    if not matches.has_boxes:
        return columns | {
            "lesion_dice": _mean_dice(rows, replace(counts, fp=0)),
            "lesionwise_dice": _mean_dice(detected, counts),
        }
    volume, covered = matches.too_large
    return columns | {
        "found_by_centre": sum(row["found_by_centre"] for row in rows),
        "box_iou": _mean([row["box_iou"] for row in detected]),
        "too_large_lesions": reasons.count(TOO_LARGE) or None,
        "too_large_covered": covered / volume if volume else None,
        "lesions_beyond_own_box": matches.own_box or None,
        "lesions_below_smallest_anchor": matches.smallest_anchor,
    }


def _lesion_at(row: Row, score: float | None) -> Row:
    """The row of a lesion; what was found of it may lie below the score."""
    own, centre = row.get("score"), row.get("centre_score")
    lost = score is not None and own is not None and own < score
    by_centre = {}
    if score is not None and centre is not None:
        by_centre["found_by_centre"] = row["found_by_centre"] and centre >= score
    return row | by_centre | (_NOT_FOUND if lost else {})


_NOT_FOUND = {"detected": False, "box_iou": 0.0, "n_pred": 0, "pred_volume_mm3": 0.0, "score": None}


def _kept(outcomes: Outcomes, kept: Bool[Tensor, "boxes"]) -> Outcomes:
    """Some of the boxes of one scan, and all of its lesions."""
    if bool(kept.all()):
        return outcomes
    boxes = kept.nonzero().flatten().tolist()
    return outcomes.as_one_scan(boxes, range(len(outcomes.lesion_boxes)))


def _moved(outcomes: Outcomes, start: Sequence[int]) -> Outcomes:
    shift = torch.tensor([*start, *start])
    names = ("boxes", "lesion_boxes")
    return replace(outcomes, **{name: getattr(outcomes, name) + shift for name in names})


def left_out(
    outcomes: Outcomes, near: Bool[Tensor, "lesions boxes"], reasons: Sequence[str]
) -> list[str | None]:
    """Of each found one that does not count, on which kind of lesion it lies."""
    kinds = [TOO_LARGE, IGNORED]
    on = {
        kind: near[[row for row, reason in enumerate(reasons) if reason == kind]].any(dim=0)
        for kind in kinds
    }
    away = (outcomes.outcome[:, 0, 0] == _LEFT_OUT).tolist()
    return [
        next((kind for kind in kinds if bool(on[kind][box])), None) if out else None
        for box, out in enumerate(away)
    ]


_LEFT_OUT = 2  # as `Outcomes` has it


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _mean_dice(lesions: Sequence[Row], counts: LesionCounts) -> float:
    """The score of the sums: Σ Dice of these lesions over all that is counted."""
    dice = math.fsum(row["soft_dice"] for row in lesions)
    sums = torch.tensor([dice, *astuple(counts)], dtype=torch.float64)
    return float(_LESIONWISE_DICE.score(sums))
