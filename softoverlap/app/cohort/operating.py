"""The score from which found boxes count: given, stored with them, or chosen on these cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from softoverlap._checks import refusal
from softoverlap.app.cohort.records import CaseResult, plain_result
from softoverlap.app.cohort.tables import LesionMatches, LesionTables, Row
from softoverlap.measures import FP_RATES, OperatingPoint, operating_point, operating_rule

RESAMPLES = 2000


@dataclass(frozen=True)
class SummarySettings:
    """How results are summed up; another summary needs no case to be scored again.

    Args:
        at_score: The score from which found boxes count, `"f1"` or `"fp:1"` to choose it on the
            scored cases, or None: that stored with the boxes, else `"f1"` where boxes have scores.
        patients: The patient of each case; by default the BIDS subject in its name, or the case.
        fp_rates: False positives a scan at which FROC is read.
        resamples: Draws of the bootstrap.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If `at_score` is no score and no rule.

    Examples:
        >>> SummarySettings(at_score="fp:1").at_score
        'fp:1'
    """

    at_score: float | int | str | None = None
    patients: Mapping[str, str] | None = None
    fp_rates: Sequence[float] = FP_RATES
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            operating_rule(self.at_score)
        except (TypeError, ValueError) as error:
            raise refusal("at_score", str(error).removeprefix("at ")) from error


@dataclass(frozen=True)
class ChosenPoint:
    """From which score found boxes count, and why.

    Args:
        score: The score; None if all count.
        at: What `operating_point` takes: a rule is chosen anew in each draw.
        rule: f1, fp:1, given, stored or all.
        words: How it was chosen.
        optimistic: Whether it was chosen on the cases that it is judged on.

    Examples:
        >>> ChosenPoint().rule
        'all'
    """

    score: float | None = None
    at: float | str | None = None
    rule: str = "all"
    words: str = "masks are cut by their own threshold"
    optimistic: bool = False


def choose_point(
    matches: Sequence[LesionMatches], at_score: float | int | str | None
) -> ChosenPoint:
    """The score from which boxes count in all of these cases.

    Args:
        matches: What hit what, by case.
        at_score: As in `SummarySettings`.

    Returns:
        The point.

    Raises:
        ValueError: If lesions of masks alone shall be cut at a score, boxes without scores too, or
            files of boxes store different scores.

    Examples:
        >>> choose_point([], None).rule
        'all'
    """
    if not any(match.has_boxes for match in matches):
        if at_score is not None and matches:
            raise refusal(
                "at_score", f"must be None between masks, which `threshold=` cuts, got {at_score!r}"
            )
        return ChosenPoint()
    if at_score is not None:
        return _asked(matches, operating_rule(at_score))
    stored = {(match.score_threshold, match.threshold_rule) for match in matches}
    if any(score is not None for score, _ in stored):
        return _stored(stored)
    if not _scored_boxes(matches):
        return ChosenPoint(words="boxes have no scores")
    return _asked(matches, "f1")


def at_point(result: CaseResult, points: Mapping[Any, ChosenPoint]) -> CaseResult:
    """A case's rows where boxes below the score do not count.

    Args:
        result: The result with all boxes.
        points: The point of each label, or of None where there are no labels.

    Returns:
        The same case; its boxes are kept, and say whether they count.

    Examples:
        >>> at_point(CaseResult("a", [{"case": "a", "error": "no truth"}]), {}).error
        'no truth'
    """
    if not result.matches:
        return result
    rows, lesions, matches = [], [], []
    for row, match, stored in zip(result.rows, result.lesion_matches, result.matches, strict=True):
        own = [lesion for lesion in result.lesions if _same_label(lesion, row)]
        tables = LesionTables(own, match).at(points[row.get("label")].score)
        rows.append({**row, **tables.columns})
        lesions += tables.lesions
        matches.append({**stored, "at": tables.matches.at})
    changed = replace(result, rows=rows, lesions=lesions, matches=matches)
    return plain_result(changed)


def _same_label(lesion: Row, row: Row) -> bool:
    return lesion.get("label") == row.get("label")


def _asked(matches: Sequence[LesionMatches], rule: float | str | None) -> ChosenPoint:
    if not isinstance(rule, str):
        score = float(rule) if rule is not None else None
        return ChosenPoint(score, score, "given", "as given")
    point: OperatingPoint = operating_point([match.outcomes for match in matches], rule)
    what = "the highest F1" if rule == "f1" else f"at most {rule[3:]} false positives a scan"
    words = f"{what} on these very cases, which is optimistic"
    if math.isinf(point.threshold):
        words = f"no score reaches {what} on these cases, so no box counts"
    return ChosenPoint(point.threshold, rule, rule, words, optimistic=True)


def _stored(stored: set[tuple[float | None, str | None]]) -> ChosenPoint:
    if len(stored) > 1:
        scores = ", ".join(sorted({"none" if s is None else f"{s:g}" for s, _ in stored}))
        raise refusal(
            "at_score",
            f"must be given where files of boxes store different score thresholds, got {scores}",
        )
    ((score, rule),) = stored
    words = f"stored with the boxes ({rule})" if rule else "stored with the boxes"
    return ChosenPoint(score, score, "stored", words)


def _scored_boxes(matches: Sequence[LesionMatches]) -> bool:
    """Whether a file of boxes was found, with a score for each; masks were cut already."""
    return all(match.kind in ("boxes", "boxes in masks") for match in matches) and not any(
        bool(match.outcomes.scores.isnan().any()) for match in matches
    )
