"""Means of the columns of numbers, with bootstrap intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from softoverlap.app.cohort.operating import SummarySettings
from softoverlap.app.cohort.tables import Row
from softoverlap.app.columns import CASES, is_number
from softoverlap.app.figures import FEWEST_PATIENTS

CONFIDENCE = 0.95

_IN_CACHE = 1 << 15  # numbers drawn at a time: three times as fast as all at once


def column_means(
    rows: Sequence[Row], patients: Mapping[str, str], options: SummarySettings
) -> dict[str, Any]:
    """Mean, median, standard deviation and range of each column over the rows that have a value.

    Args:
        rows: Rows of cases.
        patients: The patient of each case.
        options: Draws and seed of the bootstrap.

    Returns:
        A part a column, in plain numbers.

    Examples:
        >>> rows = [{"case": "a", "soft_dice": 1.0}, {"case": "b", "soft_dice": 0.5}]
        >>> column_means(rows, {"a": "a", "b": "b"}, SummarySettings())["soft_dice"]["mean"]
        0.75
    """
    names = dict.fromkeys(
        name for row in rows for name, value in row.items()
        if is_number(CASES, name) and isinstance(value, int | float)
    )  # fmt: skip
    metrics = {}
    for name in names:
        known = [row for row in rows if row.get(name) is not None]
        values = [float(row[name]) for row in known]
        ends = [
            interval(
                values, statistic, seed=options.seed, resamples=options.resamples,
                patients=[patients[row["case"]] for row in known],
            )
            for statistic in (np.mean, np.median)
        ]  # fmt: skip
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


def interval(
    values: Sequence[float],
    statistic: Any,
    *,
    seed: int,
    resamples: int,
    patients: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic over patients; NaN of fewer than five.

    FROC and the operating point have draws of their own: they read sums of all boxes, each scan
    times how often it was drawn, while a median needs the drawn values themselves, and each column
    those cases that have a value.

    Args:
        values: A number a case.
        statistic: Takes an array and `axis`.
        seed: Seed of the draws.
        resamples: Number of draws.
        patients: Whose each case is; each case its own by default.

    Returns:
        Lower and upper end.

    Examples:
        >>> interval([1.0] * 5, np.mean, seed=0, resamples=100)
        (1.0, 1.0)
        >>> interval([1.0] * 4, np.mean, seed=0, resamples=100)
        (nan, nan)
    """
    names = list(dict.fromkeys(range(len(values)) if patients is None else patients))
    if len(names) < FEWEST_PATIENTS:
        return math.nan, math.nan
    numbers = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    if len(names) == len(values):
        parts = np.array_split(drawn, max(1, drawn.size // _IN_CACHE))
        samples = np.concatenate([statistic(numbers[draws], axis=1) for draws in parts])
    else:
        place = {name: number for number, name in enumerate(names)}
        owner = np.array([place[patient] for patient in patients or ()])
        own = [numbers[owner == number] for number in range(len(names))]
        samples = [
            statistic(np.concatenate([own[number] for number in draw]), axis=0) for draw in drawn
        ]
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
