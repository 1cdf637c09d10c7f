"""The curves that FROC and average precision are read from, and their results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap.metrics._hits import FALSE_POSITIVE, TRUE_POSITIVE


@dataclass(frozen=True, eq=False)
class FROC:
    """Free-response ROC: the share of lesions found against false positives a scan.

    Args:
        fp_rates: False positives a scan at which the sensitivity is read.
        sensitivity: Sensitivity in [0, 1] at each of them, NaN without lesions.
        cpm: Mean of `sensitivity` (competition performance metric), NaN without lesions.
        fps_per_scan: The curve's false positives a scan, ascending from 0, shape (points,).
        sensitivities: The curve's sensitivities, shape (points,).
        thresholds: The least score that each point keeps, descending from infinity, shape
            (points,).
        scans: Number of scans counted.
        lesions: Number of lesions counted.

    Examples:
        >>> import torch
        >>> curve = FROC(
        ...     fp_rates=(1.0,), sensitivity=(0.5,), cpm=0.5, fps_per_scan=torch.tensor([0.0]),
        ...     sensitivities=torch.tensor([0.5]), thresholds=torch.tensor([0.9]),
        ...     scans=1, lesions=2,
        ... )
        >>> curve.cpm
        0.5
    """

    fp_rates: tuple[float, ...]
    sensitivity: tuple[float, ...]
    cpm: float
    fps_per_scan: Float[Tensor, "points"]
    sensitivities: Float[Tensor, "points"]
    thresholds: Float[Tensor, "points"]
    scans: int
    lesions: int


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of each class that occurs.

    Args:
        mean: Mean over the classes in [0, 1], NaN without lesions.
        per_class: Average precision in [0, 1] of each label that some lesion has; others are
            absent, since their recall is not defined.
        lesions: Number of lesions counted.

    Examples:
        >>> AveragePrecision(mean=0.5, per_class={0: 0.25, 1: 0.75}, lesions=9).per_class[1]
        0.75
    """

    mean: float
    per_class: dict[int, float] = field(default_factory=dict)
    lesions: int = 0


def froc(
    rows: Float[Tensor, "boxes 3"], *, scans: int, lesions: int, fp_rates: Sequence[float]
) -> FROC:
    """The curve of pooled rows, and its readings."""
    _check_some_scan(scans)
    rates = _checked_rates(fp_rates)
    thresholds, (found, false) = _operating_points(
        rows[:, 1], rows[:, 2] == TRUE_POSITIVE, rows[:, 2] == FALSE_POSITIVE
    )
    fps_per_scan = false / scans
    sensitivities = found / lesions if lesions else torch.full_like(found, math.nan)
    last = torch.searchsorted(fps_per_scan, rates, right=True) - 1
    readings = sensitivities[last].tolist()
    return FROC(
        fp_rates=tuple(rates.tolist()),
        sensitivity=tuple(readings),
        cpm=math.fsum(readings) / len(readings),
        fps_per_scan=fps_per_scan,
        sensitivities=sensitivities,
        thresholds=thresholds,
        scans=scans,
        lesions=lesions,
    )


def average_precision(
    rows: Float[Tensor, "boxes 3"], lesions: Float[Tensor, "lesions 1"], *, scans: int
) -> AveragePrecision:
    """Each class that occurs, and their mean."""
    _check_some_scan(scans)
    per_class = {}
    for label, count in zip(*lesions[:, 0].unique(return_counts=True), strict=True):
        own = rows[rows[:, 0] == label]
        hits = own[:, 2] == TRUE_POSITIVE
        _, (found, others) = _operating_points(own[:, 1], hits, ~hits)
        precision = found / (found + others).clamp(min=1)
        envelope = precision.flip(0).cummax(0).values.flip(0)
        steps = (found / count).diff()
        per_class[int(label)] = (steps * envelope[1:]).sum().item()
    mean = math.fsum(per_class.values()) / len(per_class) if per_class else math.nan
    return AveragePrecision(mean=mean, per_class=per_class, lesions=len(lesions))


def _operating_points(
    scores: Float[Tensor, "boxes"], *kinds: Shaped[Tensor, "boxes"]
) -> tuple[Float[Tensor, "points"], list[Float[Tensor, "points"]]]:
    """Distinct scores, descending from infinity, and how many boxes of each kind reach them."""
    ordered, order = scores.sort(descending=True)
    distinct, counts = ordered.unique_consecutive(return_counts=True)
    last = counts.cumsum(0) - 1
    zero = ordered.new_zeros(1)
    reached = [torch.cat([zero, kind[order].double().cumsum(0)[last]]) for kind in kinds]
    return torch.cat([zero + math.inf, distinct]), reached


def _checked_rates(fp_rates: Sequence[float]) -> Float[Tensor, "rates"]:
    rates = torch.tensor(list(fp_rates), dtype=torch.float64)
    if not len(rates) or not bool((rates >= 0).all()):
        raise ValueError(f"fp_rates must hold numbers at or above 0, got {tuple(fp_rates)}")
    return rates


def _check_some_scan(scans: int) -> None:
    if not scans:
        raise ValueError("predictions must hold at least one scan, got none")
