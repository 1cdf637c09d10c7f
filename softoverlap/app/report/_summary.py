"""What `summary.json` says of a cohort, or of one label of it, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from softoverlap.app.report._operating import Detected, read_detected
from softoverlap.app.report._values import Interval, as_interval, as_number, as_numbers
from softoverlap.measures import FROC


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
    ap_iou: float
    """The box IoU from which on AP counts a hit; NaN where it is not told."""
    coarse_rates: tuple[float, ...]
    """Rates that stand for less than one false positive in the data set."""


@dataclass(frozen=True)
class Part:
    """The summary of a label, or of all where there are no labels; None for what is not there."""

    name: str
    empty: int
    metrics: Mapping[str, Metric]
    agreement: Agreement | None
    reliability: Reliability | None
    detection: Detection | None
    detected: Detected


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
        detected=read_detected(part),
    )


def _metric(value: Mapping[str, Any]) -> Metric:
    numbers = {name: as_number(value[name]) for name in ("mean", "median", "sd", "min", "max")}
    intervals = {name: as_interval(value[name]) for name in ("mean_interval", "median_interval")}
    return Metric(**numbers, **intervals, n=int(value["n"]))  # pyright: ignore[reportArgumentType]


def _agreement(value: Mapping[str, Any]) -> Agreement:
    names = ("mean_difference", "lower", "upper", "pearson", "concordance")
    ends = ("mean_interval", "lower_interval", "upper_interval")
    return Agreement(
        n=int(value["n"]),
        **{name: as_number(value[name]) for name in names},  # pyright: ignore[reportArgumentType]
        **{name: as_interval(value[name]) for name in ends},  # pyright: ignore[reportArgumentType]
    )


def _reliability(value: Mapping[str, Any]) -> Reliability:
    columns = [as_numbers(value[name]) for name in ("edges", "predicted", "observed", "counts")]
    if len({len(columns[0]) - 1, *map(len, columns[1:])}) > 1:
        raise ValueError("calibration with columns of different lengths")
    return Reliability(as_number(value["error"]), *columns)


def _detection(part: Mapping[str, Any]) -> Detection:
    value = part["froc"]
    rates, heights, scores = (
        torch.tensor(as_numbers(value["curve"][name]), dtype=torch.float64)
        for name in ("fps_per_scan", "sensitivities", "thresholds")
    )
    if not len(rates) == len(heights) == len(scores) > 0:
        raise ValueError("a FROC with columns of different lengths")
    froc = FROC(
        fp_rates=as_numbers(value["fp_rates"]),
        sensitivity=as_numbers(value["sensitivity"]),
        cpm=as_number(value["cpm"]),
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
        None if ends is None else tuple(as_interval(pair) for pair in ends),
        None if cpm is None else as_interval(cpm),
        as_number(part.get("average_precision")),
        as_number(part.get("average_precision_iou")),
        as_numbers(value.get("coarse_rates") or ()),
    )
