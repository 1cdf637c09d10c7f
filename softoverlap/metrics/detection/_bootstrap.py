"""How FROC readings spread when scans are drawn again, all draws in one go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap.metrics.detection._curves import score_order

_ELEMENTS_AT_ONCE = 1 << 21
_GRID = 64


def draw_scans(order: Sequence[int], resamples: int, seed: int) -> Int[Tensor, "resamples scans"]:
    """As many scans as there are, with replacement, for each resample; numbers of `order`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(order), (resamples, len(order)), generator=generator)
    return torch.tensor(order)[drawn]


@dataclass(frozen=True, eq=False)
class Events:
    """What a FROC is made of: what each box adds, and in which scan.

    Args:
        scores: Score of each box.
        found: What a box adds to the lesions found.
        false: Whether it is a false positive.
        scan: Number of its scan.
        totals: What there is to find in each scan.
    """

    scores: Float[Tensor, "boxes"]
    found: Float[Tensor, "boxes"]
    false: Bool[Tensor, "boxes"]
    scan: Int[Tensor, "boxes"]
    totals: Float[Tensor, "scans"]

    def order_by_content(self) -> list[int]:
        """Scans sorted by what they hold, so that draws don't depend on how they came in."""
        rows = torch.stack([self.scores, self.found, self.false.double()], dim=1)
        parts = rows.split(self.scan.bincount(minlength=len(self.totals)).tolist())
        keys = [
            (total, part.numpy().tobytes())
            for total, part in zip(self.totals.tolist(), parts, strict=True)
        ]
        return sorted(range(len(keys)), key=keys.__getitem__)

    def sensitivities(
        self, draws: Int[Tensor, "resamples scans"], rates: Float[Tensor, "rates"]
    ) -> Float[Tensor, "resamples rates"]:
        """The sensitivity at each rate for each draw of scans, NaN where it holds no lesion."""
        times = torch.zeros(draws.shape, dtype=torch.float64)
        times.scatter_add_(1, draws, torch.ones_like(times))
        order, last = score_order(self.scores)
        scan, found, false = self.scan[order], self.found[order], self.false[order].double()
        results = []
        for part in times.split(max(1, _ELEMENTS_AT_ONCE // max(1, len(scan)))):
            weights = part[:, scan]
            wrong = _reached(weights * false, last) / draws.shape[1]
            points = torch.searchsorted(wrong, rates.repeat(len(part), 1), right=True) - 1
            # Added up one scan after the other: a matrix product's order depends on its size.
            totals = (part * self.totals).cumsum(1)[:, -1]
            results.append(_share(_reached(weights * found, last).gather(1, points), totals))
        return torch.cat(results)


def _share(found: Float[Tensor, "part rates"], total: Float[Tensor, "part"]) -> Tensor:
    total = total[:, None]
    return torch.where(total > 0, (found / torch.where(total > 0, total, 1)).clamp(max=1), math.nan)


def _reached(values: Float[Tensor, "part boxes"], last: Int[Tensor, "points"]) -> Tensor:
    """Cumulative sums at the operating points, the first of which keeps no box."""
    values = values.cumsum(1)[:, last]
    return torch.cat([values.new_zeros(len(values), 1), values], dim=1).contiguous()


def band_rates(rates: Float[Tensor, "rates"]) -> Float[Tensor, "grid"]:
    """Rates between half the lowest and the highest, for the interval as a band."""
    positive = rates[rates > 0]
    if not len(positive):
        return rates.unique()
    ends = (positive.min() / 2).log2(), positive.max().log2()
    grid = torch.logspace(ends[0].item(), ends[1].item(), _GRID, base=2, dtype=torch.float64)
    return torch.cat([rates, grid]).unique()


def percentiles(
    samples: Float[Tensor, "resamples columns"], confidence: float
) -> Float[Tensor, "2 columns"]:
    """The interval of each column, NaN without a sample."""
    if not len(samples):
        return samples.new_full((2, samples.shape[1]), math.nan)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    return torch.from_numpy(np.quantile(samples.numpy(), ends, axis=0))
