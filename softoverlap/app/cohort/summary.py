"""What a cohort's scores say together: means with bootstrap intervals, and pooled curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from softoverlap.app.cohort.detection import MOST_DRAWS, Found, detection_summary
from softoverlap.app.cohort.means import CONFIDENCE, column_means
from softoverlap.app.cohort.operating import ChosenPoint, SummarySettings, at_point, choose_point
from softoverlap.app.cohort.patients import subject_of
from softoverlap.app.cohort.records import CaseResult, ScoreSettings, plain_values
from softoverlap.app.cohort.results import MERGED
from softoverlap.app.cohort.tables import Row
from softoverlap.app.cohort.voxels import CALIBRATION
from softoverlap.measures import compute_bland_altman


@dataclass(frozen=True)
class Concluded:
    """All cases at their operating point, and what they say together.

    Args:
        results: The results, in the order in which they came.
        summary: As `summary.json` has it.

    Examples:
        >>> Concluded([], {}).summary
        {}
    """

    results: list[CaseResult]
    summary: dict[str, Any]


def conclude(
    results: Sequence[CaseResult],
    options: SummarySettings | None = None,
    *,
    settings: ScoreSettings | None = None,
) -> Concluded:
    """Choose from which score found boxes count, and sum up all cases there.

    Every column of numbers has its mean, median and standard deviation over the cases that have a
    value, and the percentile bootstrap interval of mean and median over patients. Lesions are
    pooled over all cases: sensitivity, precision, F1 and false positives a scan at the operating
    point, and where scores differ FROC and average precision; `no_curve` says why there are none.
    `n_empty` counts rows whose masks are both empty.

    Args:
        results: The results; failed ones are counted and left out.
        options: How to sum up; the defaults if None.
        settings: How the cases were scored; the defaults if None.

    Returns:
        The results at that point, and plain values; None for what is not defined. With labels,
        `labels` holds the same for each.

    Raises:
        ValueError: If the files of boxes store different score thresholds, or a score is asked for
            where there is none.

    Examples:
        >>> scores = {"a": 1.0, "b": 0.5}
        >>> results = [CaseResult(c, [{"case": c, "soft_dice": d}]) for c, d in scores.items()]
        >>> conclude(results).summary["metrics"]["soft_dice"]["mean"]
        0.75
    """
    options, settings = options or SummarySettings(), settings or ScoreSettings()
    good = sorted(
        (result for result in results if result.error is None), key=lambda result: result.case
    )
    labels: list[Any] = sorted({r["label"] for one in good for r in one.rows if "label" in r})
    points = {label: _point(good, label, options) for label in labels or [None]}
    placed = {result.case: at_point(result, points) for result in good}
    known = options.patients or {}
    patients = {r.case: known.get(r.case) or subject_of(r.case) for r in results}
    counts = _counts(results, good, patients)
    parts = {
        label: _pooled(
            _of_label(list(placed.values()), label), point, patients, counts, (settings, options)
        )
        for label, point in points.items()
    }
    summary: dict[str, Any] = {
        "n": len(good),
        "n_failed": len(results) - len(good),
        "bootstrap": {
            "resamples": options.resamples,
            "pooled_resamples": min(options.resamples, MOST_DRAWS),
            "confidence": CONFIDENCE,
            "seed": options.seed,
        },
    }
    by_label = {"labels": {str(label): part for label, part in parts.items()}}
    summary |= by_label if labels else parts[None]
    at_points = [placed.get(result.case, result) for result in results]
    return Concluded(at_points, plain_values(summary))


def summarize(
    results: Sequence[CaseResult],
    options: SummarySettings | None = None,
    *,
    settings: ScoreSettings | None = None,
) -> dict[str, Any]:
    """The summary of `conclude`.

    Examples:
        >>> summarize([CaseResult("a", [{"case": "a", "soft_dice": 0.5}])])["n"]
        1
    """
    return conclude(results, options, settings=settings).summary


def _point(results: Sequence[CaseResult], label: Any, options: SummarySettings) -> ChosenPoint:
    """From which score the boxes of a label count."""
    matches = {one.case: match for one in _of_label(results, label) for match in one.lesion_matches}
    return choose_point(matches, options.at_score)


def _counts(
    results: Sequence[CaseResult], good: Sequence[CaseResult], patients: Mapping[str, str]
) -> dict[str, Any]:
    """How many patients and scans were scored, and which scans are missing."""
    missing = [
        result.case for result in results
        if result.error is not None and not all(result.rows[0].get(n) for n in ("pred", "truth"))
    ]  # fmt: skip
    return {
        "patients": len({patients[result.case] for result in good}),
        "scans": len(good),
        "cases_failed": len(results) - len(good),
        "missing": sorted(missing),
    }


def _pooled(
    results: Sequence[CaseResult],
    point: ChosenPoint,
    patients: Mapping[str, str],
    counts: Mapping[str, Any],
    settings: tuple[ScoreSettings, SummarySettings],
) -> dict[str, Any]:
    """The summary of results of one label, or of those without labels."""
    rows = [row for result in results for row in result.rows]
    lesions = [row for result in results for row in result.lesions]
    counted = sum(not row.get("not_counted") for row in lesions)
    parts: dict[str, Any] = {
        "counts": {**counts, "lesions": counted},
        "metrics": column_means(rows, patients, settings[1]),
        "n_empty": sum(_is_empty(row) for row in rows),
    }
    volumes = [
        (row["pred_volume_ml"], row["truth_volume_ml"]) for row in rows if "pred_volume_ml" in row
    ]
    if volumes:
        parts["bland_altman"] = asdict(compute_bland_altman(*zip(*volumes, strict=True)))
    matches = [(result.case, match) for result in results for match in result.lesion_matches]
    parts |= detection_summary(
        Found(
            cases=[case for case, _ in matches],
            matches=[match for _, match in matches],
            lesions=lesions,
            point=point,
            patients=[patients[case] for case, _ in matches],
            settings=settings[0],
            options=settings[1],
            merged=any(part.get(MERGED) for result in results for part in result.statistics),
        )
    )
    parts |= _calibration(part for result in results for part in result.statistics)
    return parts


def _is_empty(row: Row) -> bool:
    """Nothing in prediction and truth: overlaps are 1 by definition."""
    return row.get("pred_volume_ml") == row.get("truth_volume_ml") == 0


def _calibration(statistics: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The reliability curve over the voxels of all cases."""
    bins = [part["calibration"] for part in statistics if part.get("calibration")]
    if not bins:
        return {}
    sums = torch.tensor(bins, dtype=torch.float64).sum(dim=0)
    error = float(CALIBRATION.score(sums))
    return {"calibration": {"error": error, **asdict(CALIBRATION.details(sums[None]))}}


def _of_label(results: Sequence[CaseResult], label: int | None) -> list[CaseResult]:
    """The results with the rows of one label alone."""
    if label is None:
        return list(results)
    names = ("rows", "lesions", "matches", "statistics")
    return [
        replace(result, **{n: _labelled(getattr(result, n), label) for n in names})
        for result in results
    ]


def _labelled(rows: Sequence[Row], label: int) -> list[Row]:
    return [row for row in rows if row.get("label") == label]
