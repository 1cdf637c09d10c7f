"""What `summary.json` says of a cohort, or of one label of it, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from softoverlap.measures import FROC

Interval = tuple[float, float]


@dataclass(frozen=True)
class Metric:
    """A column of numbers over the cases; NaN where a figure is not defined."""

    mean: float
    mean_interval: Interval
    median: float
    median_interval: Interval
    sd: float
    min: float
    max: float
    n: int


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman's figures of the soft volumes in ml, prediction minus truth."""

    n: int
    mean_difference: float
    mean_interval: Interval
    lower: float
    lower_interval: Interval
    upper: float
    upper_interval: Interval
    pearson: float
    concordance: float


@dataclass(frozen=True)
class Reliability:
    """The reliability curve; NaN in bins without voxels."""

    error: float
    edges: tuple[float, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Detection:
    """How well lesions are detected: the FROC with the intervals of its readings, and the AP."""

    froc: FROC
    sensitivity_interval: tuple[Interval, ...] | None
    cpm_interval: Interval | None
    average_precision: float

    def least_score(self, rate: float) -> float:
        """The score from which on boxes leave at most so many false positives a scan."""
        thresholds = self.froc.thresholds[self.froc.fps_per_scan <= rate]
        return float(thresholds.min()) if len(thresholds) else math.inf


@dataclass(frozen=True)
class Part:
    """The summary of a label, or of all where there are no labels; None for what is not there."""

    name: str
    empty: int
    metrics: Mapping[str, Metric]
    agreement: Agreement | None
    reliability: Reliability | None
    detection: Detection | None


def read_part(name: str, part: Mapping[str, Any]) -> Part:
    """Read a part; KeyError, TypeError or ValueError if it is damaged."""
    metrics = {str(key): _metric(value) for key, value in part.get("metrics", {}).items()}
    agreement, calibration = part.get("bland_altman"), part.get("calibration")
    return Part(
        name=name,
        empty=int(part.get("n_empty", 0)),
        metrics=metrics,
        agreement=None if agreement is None else _agreement(agreement),
        reliability=None if calibration is None else _reliability(calibration),
        detection=None if part.get("froc") is None else _detection(part),
    )


def _metric(value: Mapping[str, Any]) -> Metric:
    numbers = {name: _number(value[name]) for name in ("mean", "median", "sd", "min", "max")}
    intervals = {name: _interval(value[name]) for name in ("mean_interval", "median_interval")}
    return Metric(**numbers, **intervals, n=int(value["n"]))  # pyright: ignore[reportArgumentType]


def _agreement(value: Mapping[str, Any]) -> Agreement:
    names = ("mean_difference", "lower", "upper", "pearson", "concordance")
    ends = ("mean_interval", "lower_interval", "upper_interval")
    return Agreement(
        n=int(value["n"]),
        **{name: _number(value[name]) for name in names},  # pyright: ignore[reportArgumentType]
        **{name: _interval(value[name]) for name in ends},  # pyright: ignore[reportArgumentType]
    )


def _reliability(value: Mapping[str, Any]) -> Reliability:
    columns = [_numbers(value[name]) for name in ("edges", "predicted", "observed", "counts")]
    if len({len(columns[0]) - 1, *map(len, columns[1:])}) > 1:
        raise ValueError("calibration with columns of different lengths")
    return Reliability(_number(value["error"]), *columns)


def _detection(part: Mapping[str, Any]) -> Detection:
    value = part["froc"]
    rates, heights, scores = (
        torch.tensor(_numbers(value["curve"][name]), dtype=torch.float64)
        for name in ("fps_per_scan", "sensitivities", "thresholds")
    )
    if not len(rates) == len(heights) == len(scores) > 0:
        raise ValueError("a FROC with columns of different lengths")
    froc = FROC(
        fp_rates=_numbers(value["fp_rates"]),
        sensitivity=_numbers(value["sensitivity"]),
        cpm=_number(value["cpm"]),
        scans=int(value["scans"]),
        lesions=int(value["lesions"]),
        boxes=int(value["boxes"]),
        fps_per_scan=rates,
        sensitivities=heights,
        thresholds=scores.nan_to_num(nan=math.inf, posinf=math.inf),
    )
    ends = value.get("sensitivity_interval")
    cpm = value.get("cpm_interval")
    return Detection(
        froc,
        None if ends is None else tuple(_interval(pair) for pair in ends),
        None if cpm is None else _interval(cpm),
        _number(part.get("average_precision")),
    )


def _number(value: Any) -> float:
    """A number; null, which stands for what is not defined, is NaN."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{value!r} in place of a number")
    return math.nan if value is None else float(value)


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(_number(value) for value in values)


def _interval(ends: Sequence[Any] | None) -> Interval:
    low, high = (None, None) if ends is None else ends
    return _number(low), _number(high)
