"""What hit what in a case: the record from which its tables are formed at any score threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import compress
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from softoverlap.app.cohort.hit_rule import IGNORED, TOO_LARGE
from softoverlap.measures import Outcomes

Coverage = dict[str, Any]
"""`volume_mm3` of a lesion, and `steps`: pairs of a score and the mm³ covered from there on."""


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
        smallest_anchor: How many are too small for any box of the detector's smallest anchor, or
            None.
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


def left_out(
    outcomes: Outcomes, near: Bool[Tensor, "lesions boxes"], reasons: Sequence[str]
) -> list[str | None]:
    """Of each found one that does not count, on which kind of lesion it lies."""
    kinds = [TOO_LARGE, IGNORED]
    on = {
        kind: near[[row for row, reason in enumerate(reasons) if reason == kind]].any(dim=0)
        for kind in kinds
    }
    away = outcomes.left_out.tolist()
    return [
        next((kind for kind in kinds if bool(on[kind][box])), None) if out else None
        for box, out in enumerate(away)
    ]


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
