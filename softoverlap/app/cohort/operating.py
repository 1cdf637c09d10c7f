"""The score from which found boxes count: given, stored with them, or chosen on these cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from softoverlap._checks import refusal
from softoverlap.app.cohort.matches import LesionMatches
from softoverlap.app.cohort.records import CaseResult, plain_result
from softoverlap.app.cohort.tables import LesionTables, Row
from softoverlap.measures import FP_RATES, BoxFROC, operating_point, operating_rule

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
        ValueError: If `at_score` is no score and no rule, or a rate is negative.

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
            rule = operating_rule(self.at_score)
        except (TypeError, ValueError) as error:
            raise refusal("at_score", str(error).removeprefix("at ")) from error
        if isinstance(rule, float) and math.isinf(rule):
            raise refusal("at_score", f"must be a finite score or a rule, got {self.at_score!r}")
        BoxFROC(fp_rates=self.fp_rates)


@dataclass(frozen=True)
class ChosenPoint:
    """From which score found boxes count, and why.

    Args:
        score: The score; None if all count, infinite if none does.
        at: What `operating_point` takes: a rule is chosen anew in each draw.
        rule: f1, fp:1, given, stored or all.
        words: How it was chosen.
        optimistic: Whether it was chosen on the cases that it is judged on.

    Examples:
        >>> ChosenPoint().rule
        'all'
    """

    score: float | int | None = None
    at: float | int | str | None = None
    rule: str = "all"
    words: str = "masks are cut by their own threshold"
    optimistic: bool = False


def choose_point(
    matches: Mapping[str, LesionMatches], at_score: float | int | str | None
) -> ChosenPoint:
    """The score from which boxes count in all of these cases.

    Args:
        matches: What hit what, by the name of the case.
        at_score: As in `SummarySettings`.

    Returns:
        The point.

    Raises:
        ValueError: If lesions of masks alone, or boxes without scores, shall be cut at a score, or
            files of boxes store different scores.

    Examples:
        >>> choose_point({}, None).rule
        'all'
    """
    silent = [case for case, match in matches.items() if match.outcomes.scores.isnan().any()]
    if at_score is not None and matches:
        if not any(match.has_boxes for match in matches.values()):
            raise refusal(
                "at_score",
                f"must be left out between masks, which `threshold=` cuts, got {at_score!r}",
            )
        if silent:
            raise refusal(
                "at_score",
                "must be left out where boxes have no scores, as in "
                f"{_some(silent)}, got {at_score!r}",
            )
        return _asked(list(matches.values()), operating_rule(at_score))
    found = {case: match for case, match in matches.items() if match.kind in _OF_FOUND_BOXES}
    if any(match.score_threshold is not None for match in found.values()):
        return _stored(found)
    if len(found) < len(matches) or not found:
        return ChosenPoint()
    return ChosenPoint(words="boxes have no scores") if silent else _chosen(list(found.values()))


def _chosen(found: Sequence[LesionMatches]) -> ChosenPoint:
    """The score of the highest F1, where there are scores to choose from."""
    if len({score for match in found for score in match.outcomes.scores.tolist()}) == 1:
        return ChosenPoint(words="all boxes have the same score")
    if not any(bool(match.outcomes.worth.any()) for match in found):
        return ChosenPoint(words="there is no lesion by which to choose a score")
    return _asked(found, "f1")


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
    # no plain value stands for infinity, the score from which no box counts
    return replace(plain_result(replace(result, rows=rows, lesions=lesions)), matches=matches)


def _same_label(lesion: Row, row: Row) -> bool:
    return lesion.get("label") == row.get("label")


def _asked(matches: Sequence[LesionMatches], rule: float | str | None) -> ChosenPoint:
    if not isinstance(rule, str):
        top = max(
            (score for match in matches for score in match.outcomes.scores.tolist()),
            default=math.inf,
        )
        above = rule is not None and rule > top
        words = f"as given, above the highest score, {top:.4g}" if above else "as given"
        return ChosenPoint(rule, rule, "given", words)
    score = operating_point([match.outcomes for match in matches], rule).threshold
    what = "the highest F1" if rule == "f1" else f"at most {rule[3:]} false positives a scan"
    words = (
        f"{what} on these very cases, which is optimistic; intervals choose it anew in each draw"
    )
    if math.isinf(score):  # nothing counts, which flatters nobody
        words = f"no score gains anything under the rule of {what} on these cases"
    return ChosenPoint(score, rule, rule, words, optimistic=math.isfinite(score))


def _stored(matches: Mapping[str, LesionMatches]) -> ChosenPoint:
    """The score that all files store; how it was chosen may be said in different words."""
    cases: dict[float | None, list[str]] = {}
    for case, match in matches.items():
        cases.setdefault(match.score_threshold, []).append(case)
    if len(cases) > 1:
        scores = ", ".join(
            f"{'none' if score is None else format(score, 'g')} ({_some(names)})"
            for score, names in cases.items()
        )
        raise refusal(
            "at_score",
            f"must be given where files of boxes store different score thresholds, got {scores}",
        )
    (score,) = cases
    rules = dict.fromkeys(match.threshold_rule for match in matches.values())
    by = ", ".join(rule for rule in rules if rule)
    words = f"stored with the boxes ({by})" if by else "stored with the boxes"
    return ChosenPoint(score, score, "stored", words)


def _some(cases: Sequence[str]) -> str:
    """The first names of a list."""
    return ", ".join(cases[:_SHOWN]) + (", …" if len(cases) > _SHOWN else "")


_SHOWN = 3
_OF_FOUND_BOXES = ("boxes", "boxes in masks")
