"""What a cohort's scores say together: means with bootstrap intervals, and pooled curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from softoverlap.app.cohort.records import CaseResult, plain_values
from softoverlap.app.cohort.tables import Row
from softoverlap.app.cohort.voxels import CALIBRATION
from softoverlap.app.columns import CASES, is_number
from softoverlap.measures import BoxAP, BoxFROC, compute_bland_altman

RESAMPLES = 2000
CONFIDENCE = 0.95


def summarize(
    results: Sequence[CaseResult], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Sum up the results of all cases, as `summary.json` has it.

    Every column of numbers has its mean, median and standard deviation over the cases that have a
    value, and the percentile bootstrap interval of mean and median. Where there are scores of
    found lesions or boxes, FROC and average precision are pooled over all cases; `without_scores`
    names the cases for which there are none. `n_empty` counts rows whose masks are both empty.

    Args:
        results: The results; failed ones are counted and left out.
        seed: Seed of the bootstrap.
        resamples: Draws of the bootstrap.

    Returns:
        Plain values; None for what is not defined. With labels, `labels` holds the same for each.

    Examples:
        >>> scores = {"a": 1.0, "b": 0.5}
        >>> results = [CaseResult(c, [{"case": c, "soft_dice": d}]) for c, d in scores.items()]
        >>> summarize(results)["metrics"]["soft_dice"]["mean"]
        0.75
    """
    good = sorted(
        (result for result in results if result.error is None), key=lambda result: result.case
    )
    summary: dict[str, Any] = {
        "n": len(good),
        "n_failed": len(results) - len(good),
        "bootstrap": {"resamples": resamples, "confidence": CONFIDENCE, "seed": seed},
    }
    labels = sorted({row["label"] for result in good for row in result.rows if "label" in row})
    if labels:
        parts = {str(label): _of_label(good, label) for label in labels}
        summary["labels"] = {name: _pooled(part, seed, resamples) for name, part in parts.items()}
    else:
        summary.update(_pooled(good, seed, resamples))
    return plain_values(summary)


def interval(
    values: Sequence[float], statistic: Any, *, seed: int, resamples: int
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic over cases; NaN of fewer than two.

    Args:
        values: A number a case.
        statistic: Takes an array and `axis`.
        seed: Seed of the draws.
        resamples: Number of draws.

    Returns:
        Lower and upper end.

    Examples:
        >>> interval([1.0, 1.0, 1.0], np.mean, seed=0, resamples=100)
        (1.0, 1.0)
    """
    if len(values) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    samples = statistic(np.asarray(values, dtype=np.float64)[drawn], axis=1)
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _pooled(results: Sequence[CaseResult], seed: int, resamples: int) -> dict[str, Any]:
    """The summary of results of one label, or of those without labels."""
    rows = [row for result in results for row in result.rows]
    parts: dict[str, Any] = {"metrics": _metrics(rows, seed, resamples)}
    parts["n_empty"] = sum(_is_empty(row) for row in rows)
    volumes = [
        (row["pred_volume_ml"], row["truth_volume_ml"]) for row in rows if "pred_volume_ml" in row
    ]
    if volumes:
        parts["bland_altman"] = asdict(compute_bland_altman(*zip(*volumes, strict=True)))
    parts |= _detection(results, seed, min(resamples, 1000))
    parts |= _calibration(part for result in results for part in result.statistics)
    return parts


def _is_empty(row: Row) -> bool:
    """Nothing in prediction and truth: overlaps are 1 by definition."""
    return row.get("pred_volume_ml") == row.get("truth_volume_ml") == 0


def _metrics(rows: Sequence[Row], seed: int, resamples: int) -> dict[str, Any]:
    names = dict.fromkeys(
        name for row in rows for name, value in row.items()
        if is_number(CASES, name) and isinstance(value, int | float)
    )  # fmt: skip
    metrics = {}
    for name in names:
        values = [float(row[name]) for row in rows if row.get(name) is not None]
        ends = [
            interval(values, statistic, seed=seed, resamples=resamples)
            for statistic in (np.mean, np.median)
        ]
        metrics[name] = {
            "mean": math.fsum(values) / len(values),
            "mean_interval": ends[0],
            "median": float(np.median(values)),
            "median_interval": ends[1],
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
            "min": min(values),
            "max": max(values),
            "n": len(values),
        }
    return metrics


def _detection(results: Sequence[CaseResult], seed: int, resamples: int) -> dict[str, Any]:
    """FROC and average precision over all cases, where what was found has scores."""
    matches = {result.case: result.outcomes for result in results if result.matches}
    outcomes = [record for records in matches.values() for record in records]
    if not outcomes:
        return {}
    without_scores = [
        case for case, records in matches.items()
        if any(record.scores.isnan().any() for record in records)
    ]  # fmt: skip
    if without_scores:
        return {"without_scores": without_scores}
    measure = BoxFROC(seed=seed, resamples=resamples if len(outcomes) > 1 else 0)
    froc = measure.details(outcomes)
    curve = {
        name: getattr(froc, name).tolist()
        for name in ("fps_per_scan", "sensitivities", "thresholds")
    }
    curve["thresholds"][0] = None  # above all scores
    names = ("fp_rates", "sensitivity", "cpm", "scans", "lesions", "boxes")
    detection: dict[str, Any] = {name: getattr(froc, name) for name in names} | {"curve": curve}
    if froc.interval is not None:
        detection["sensitivity_interval"] = froc.interval.sensitivity
        detection["cpm_interval"] = froc.interval.cpm
    return {"froc": detection, "average_precision": BoxAP().value(outcomes)}


def _calibration(statistics: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The reliability curve over the voxels of all cases."""
    bins = [part["calibration"] for part in statistics if part.get("calibration")]
    if not bins:
        return {}
    sums = torch.tensor(bins, dtype=torch.float64).sum(dim=0)
    error = float(CALIBRATION.score(sums))
    return {"calibration": {"error": error, **asdict(CALIBRATION.details(sums[None]))}}


def _of_label(results: Sequence[CaseResult], label: int) -> list[CaseResult]:
    """The results with the rows of one label alone."""
    names = ("rows", "lesions", "matches", "statistics")
    return [
        replace(result, **{n: _labelled(getattr(result, n), label) for n in names})
        for result in results
    ]


def _labelled(rows: Sequence[Row], label: int) -> list[Row]:
    return [row for row in rows if row.get("label") == label]
