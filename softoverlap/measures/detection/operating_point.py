"""A detector at one score threshold: given, or chosen on the scans themselves."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.measures.detection._bootstrap import (
    Events,
    check_resampling,
    numbered,
    percentiles,
)
from softoverlap.measures.detection._points import figures_of, sums_at
from softoverlap.measures.detection.froc import counted, events_of
from softoverlap.measures.detection.outcomes import Outcomes


@dataclass(frozen=True)
class OperatingPointInterval:
    """Percentile intervals of an operating point's figures over patients drawn again.

    A draw in which a figure is not defined is left out of that figure's interval, which is NaN
    where no draw is left.

    Args:
        confidence: Share of the resamples between the ends.
        resamples: Number of resamples with a lesion; others have no sensitivity.
        threshold: Lower and upper end of the threshold, which a rule chooses anew in each draw.
        sensitivity: Lower and upper end.
        precision: Lower and upper end.
        f1: Lower and upper end.
        fps_per_scan: Lower and upper end.

    Examples:
        >>> ends = OperatingPointInterval(
        ...     0.95, 1000, threshold=(0.4, 0.6), sensitivity=(0.7, 0.9), precision=(0.5, 0.8),
        ...     f1=(0.6, 0.8), fps_per_scan=(0.2, 0.5),
        ... )
        >>> ends.sensitivity
        (0.7, 0.9)
    """

    confidence: float
    resamples: int
    threshold: tuple[float, float]
    sensitivity: tuple[float, float]
    precision: tuple[float, float]
    f1: tuple[float, float]
    fps_per_scan: tuple[float, float]


@dataclass(frozen=True)
class OperatingPoint:
    """What the boxes at or above one score threshold find, over all scans.

    Args:
        threshold: The lowest score that counts; infinite where no box counts, minus infinity where
            all do, whatever their scores.
        sensitivity: Share of the lesions found, each counted by its existence where the outcomes
            say so, as in FROC; NaN without lesions.
        precision: Hits over hits and false positives; NaN without either.
        f1: Harmonic mean of precision and sensitivity, 0 without hits; NaN where there are neither
            lesions nor boxes that count.
        fps_per_scan: False positives a scan.
        hits: Number of boxes that hit a lesion.
        false_positives: Number of false positives; duplicates are neither these nor hits.
        lesions: Number of lesions counted.
        scans: Number of scans counted.
        rule: The rule that chose the threshold on these scans, which flatters the figures; None
            for a threshold that was given.
        interval: Bootstrap intervals, where resamples were asked for.

    Examples:
        >>> point = OperatingPoint(0.5, 0.8, 0.5, 0.6, 1.0, 4, 4, lesions=5, scans=4)
        >>> point.rule is None
        True
    """

    threshold: float
    sensitivity: float
    precision: float
    f1: float
    fps_per_scan: float
    hits: int
    false_positives: int
    lesions: int
    scans: int
    rule: str | None = None
    interval: OperatingPointInterval | None = None


def operating_rule(at: float | int | str | None) -> float | str | None:
    """Where to read an operating point, checked: a threshold as a number, or a rule as text.

    Args:
        at: A score threshold, also as text; "f1"; "fp:" and a number; or None, for all boxes.

    Returns:
        The threshold as a float, the rule without spaces around it, or None.

    Raises:
        TypeError: If it is neither a number nor text.
        ValueError: If the text is no such rule, or the number is NaN or, of false positives,
            negative or infinite.

    Examples:
        >>> operating_rule("0.35"), operating_rule("fp:1"), operating_rule(None)
        (0.35, 'fp:1', None)
    """
    if at is None:
        return None
    if isinstance(at, bool) or not isinstance(at, float | int | str):
        raise TypeError(f"at must be a number, text or None, got {type(at).__name__}")
    rule = at.strip() if isinstance(at, str) else ""
    if rule == "f1" or (rule.startswith("fp:") and 0 <= _number(rule[3:]) < math.inf):
        return rule
    threshold = _number(at)
    if math.isnan(threshold):
        raise ValueError(
            'at must be a score threshold, "f1" or "fp:" and a number of false positives a scan '
            f'of at least 0, such as "fp:1", got {at!r}'
        )
    return threshold


def _number(value: float | int | str) -> float:
    """The number, NaN for text that is none."""
    try:
        return float(value)
    except ValueError:
        return math.nan


def operating_point(
    outcomes: Outcomes | Sequence[Outcomes],
    at: float | int | str | None,
    *,
    patients: Sequence[Hashable] | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> OperatingPoint:
    """Sensitivity, precision, F1 and false positives a scan at one score threshold.

    The point lies on the FROC curve of the same outcomes: they are read at the first threshold of
    overlap, duplicates are neither hits nor false positives, and lesions count as much as their
    existence, if the outcomes have it. A threshold that a rule chooses on the scans that it is then
    judged on makes the figures too good; choose it on others, such as validation scans.

    The interval is a percentile bootstrap over patients, whose scans are drawn together; without
    `patients`, over scans. A rule chooses its threshold anew in each draw. The order of the scans
    does not matter.

    Args:
        outcomes: What hit what in some scans, as `match_scan` and measures of boxes give it.
        at: The score threshold (boxes at or above it count), or a rule: "f1", the threshold of the
            highest F1, of equals the highest; "fp:1", the lowest threshold with at most so many
            false positives a scan. None counts all boxes, for those without scores. Numbers may
            be text.
        patients: Whose each scan is, a name or number a scan; each scan its own by default.
        resamples: Number of bootstrap resamples, 1000 is usual; 0 for no interval.
        confidence: Share of the resamples within the interval.
        seed: Of the generator that draws.

    Returns:
        The point. Where no threshold gains anything, a rule's threshold is infinite, and no box
        counts.

    Raises:
        TypeError: If `at` is neither a number nor text, or `patients` is no list of them.
        ValueError: If there is no scan, `at` is no rule, boxes have no scores but `at` is not None,
            `patients` are not one a scan, or an option is out of range.

    Examples:
        >>> import torch
        >>> from softoverlap import match_scan
        >>> box = torch.tensor([[0.0, 4.0], [10.0, 14.0], [20.0, 24.0]])
        >>> scores = torch.tensor([0.9, 0.6, 0.3])
        >>> found = {"box": box, "label": torch.zeros(3), "label_scores": scores}
        >>> target = {"box": box[:2], "label": torch.zeros(2)}
        >>> point = operating_point(match_scan(found, target), "f1")
        >>> round(point.threshold, 3), point.f1, point.false_positives
        (0.6, 1.0, 0)
        >>> operating_point(match_scan(found, target), 0.2).precision
        0.6666666666666666
    """
    check_resampling(resamples, confidence)
    rule, pooled = operating_rule(at), Outcomes.joined(outcomes)
    if rule is not None and pooled.scores.isnan().any():
        raise ValueError(
            "outcomes must have a score for each box to be read at a threshold, got boxes without; "
            f"count all boxes with at=None, got {at!r}"
        )
    events, patient_of_scan = events_of(pooled), numbered(patients, len(pooled.scans))
    once = torch.ones(1, len(pooled.scans), dtype=torch.float64)
    sums = sums_at(events, once, rule)
    figures = figures_of(events, once, sums)
    point = OperatingPoint(
        threshold=sums.threshold.item(),
        sensitivity=figures.sensitivity.item(),
        precision=figures.precision.item(),
        f1=figures.f1.item(),
        fps_per_scan=figures.fps_per_scan.item(),
        hits=int(sums.hits),
        false_positives=int(sums.false),
        lesions=int(counted(pooled).sum()),
        scans=len(pooled.scans),
        rule=rule if isinstance(rule, str) else None,
    )
    if not resamples:
        return point
    times = events.drawn(resamples, seed, patient_of_scan)
    return replace(point, interval=_interval(events, times, rule, confidence))


def _interval(
    events: Events,
    times: Float[Tensor, "resamples scans"],
    rule: float | str | None,
    confidence: float,
) -> OperatingPointInterval:
    """Percentiles of each figure over the draws that define it."""
    sums = sums_at(events, times, rule)
    figures = figures_of(events, times, sums)
    ends = [_ends(figure[~figure.isnan()], confidence) for figure in figures]
    return OperatingPointInterval(
        confidence=confidence,
        resamples=int((~figures.sensitivity.isnan()).sum()),
        threshold=_drawn_ends(sums.threshold, confidence),
        sensitivity=ends[0],
        precision=ends[1],
        f1=ends[2],
        fps_per_scan=ends[3],
    )


def _ends(samples: Float[Tensor, "samples"], confidence: float) -> tuple[float, float]:
    low, high = percentiles(samples[:, None], confidence)[:, 0].tolist()
    return low, high


def _drawn_ends(samples: Float[Tensor, "samples"], confidence: float) -> tuple[float, float]:
    """Ends that are drawn values: between a threshold and infinity there is no other."""
    ordered = samples.sort().values
    low, high = ((len(ordered) - 1) * (1 + sign * confidence) / 2 for sign in (-1, 1))
    return ordered[math.floor(low)].item(), ordered[math.ceil(high)].item()
