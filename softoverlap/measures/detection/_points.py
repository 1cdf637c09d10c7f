"""What reaches a score threshold, given or chosen, for many draws of scans in one go."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.measures.detection._bootstrap import Events, share

_EQUAL = 1e-12  # F1 of which one is larger by rounding alone


class Sums(NamedTuple):
    """The threshold of each draw, and what reaches it."""

    threshold: Float[Tensor, "resamples"]
    hits: Float[Tensor, "resamples"]
    found: Float[Tensor, "resamples"]
    false: Float[Tensor, "resamples"]


def sums_at(
    events: Events, times: Float[Tensor, "resamples scans"], rule: float | str | None
) -> Sums:
    """At a threshold, or at the one that the rule chooses in each draw."""
    if not isinstance(rule, str):
        return _sums_above(events, times, -math.inf if rule is None else rule)
    kinds = [events.hit.double(), events.found, events.false.double()]
    if rule != "f1":
        kinds.append(torch.ones_like(events.found))
    thresholds = torch.cat([torch.tensor([math.inf]).double(), events.scores.unique().flip(0)])
    parts: list[Sums] = []
    for part, (hits, found, false, *kept) in events.reached(times, *kinds):
        if rule == "f1":
            at = _best_f1(hits, found, false, events.total(part)[:, None])
        else:
            at = _last_within(false / part.sum(dim=1, keepdim=True), float(rule[3:]))
            # Lower scores of scans that were not drawn reach the same point.
            at = torch.searchsorted(kept[0], kept[0].gather(1, at))
        sums = (kind.gather(1, at)[:, 0] for kind in (hits, found, false))
        parts.append(Sums(thresholds[at[:, 0]], *sums))
    return Sums(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _sums_above(events: Events, times: Float[Tensor, "resamples scans"], threshold: float) -> Sums:
    """At a given threshold, or of all boxes, which then need no score."""
    kept = (events.scores >= threshold).double() if threshold > -math.inf else 1.0
    kinds = torch.stack([events.hit.double(), events.found, events.false.double()])
    by_scan = times.new_zeros(3, times.shape[1]).index_add(1, events.scan, kinds * kept)
    sums = (times * by_scan[:, None]).cumsum(2)[..., -1]
    return Sums(times.new_full((len(times),), threshold), *sums)


def _best_f1(
    hits: Float[Tensor, "part points"],
    found: Float[Tensor, "part points"],
    false: Float[Tensor, "part points"],
    total: Float[Tensor, "part 1"],
) -> Tensor:
    """The first point of the highest F1, whatever the order in which scans were added up."""
    f1 = _f1(hits, found, false, total).nan_to_num(0.0)
    best = f1.amax(dim=1, keepdim=True)
    return (f1 >= best * (1 - _EQUAL)).double().argmax(dim=1, keepdim=True)


def _last_within(fps_per_scan: Float[Tensor, "part points"], rate: float) -> Tensor:
    """The last point at or below the rate, as FROC is read."""
    rates = fps_per_scan.new_full((len(fps_per_scan), 1), rate)
    return torch.searchsorted(fps_per_scan, rates, right=True) - 1


def _f1(hits: Tensor, found: Tensor, false: Tensor, total: Tensor) -> Tensor:
    """Harmonic mean of hits / (hits + false) and found / total."""
    denominator = hits * total + found * (hits + false)
    ratio = 2 * hits * found / torch.where(denominator > 0, denominator, 1)
    return torch.where((hits + false > 0) | (total > 0), ratio, math.nan)


class Figures(NamedTuple):
    """The figures of each draw."""

    sensitivity: Float[Tensor, "resamples"]
    precision: Float[Tensor, "resamples"]
    f1: Float[Tensor, "resamples"]
    fps_per_scan: Float[Tensor, "resamples"]


def figures_of(events: Events, times: Float[Tensor, "resamples scans"], sums: Sums) -> Figures:
    """The figures of each draw, from what reaches its threshold."""
    _, hits, found, false = sums
    total = events.total(times)
    return Figures(
        sensitivity=share(found, total),
        precision=share(hits, hits + false),
        f1=_f1(hits, found, false, total),
        fps_per_scan=false / times.sum(dim=1),
    )
