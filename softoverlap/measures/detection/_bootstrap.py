"""How readings of found boxes spread when patients are drawn again, all draws in one go."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap.measures.detection._curves import score_order
from softoverlap.measures.detection.scans import several

_ELEMENTS_AT_ONCE = 1 << 18  # what fits a cache is read fastest
_GRID = 64


def check_resampling(resamples: int, confidence: float) -> None:
    """So many draws, and a share of them."""
    if resamples < 0:
        raise ValueError(f"resamples must be at least 0, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")


def draw_patients(
    order: Sequence[int], resamples: int, seed: int
) -> Int[Tensor, "resamples drawn"]:
    """As many as there are, with replacement, for each resample; numbers of `order`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(order), (resamples, len(order)), generator=generator)
    return torch.tensor(order)[drawn]


def times_drawn(
    draws: Int[Tensor, "resamples drawn"], patient_of_scan: Int[Tensor, "scans"]
) -> Float[Tensor, "resamples scans"]:
    """How often each scan counts, if its patient is drawn so often."""
    times = torch.zeros(draws.shape, dtype=torch.float64)
    return times.scatter_add_(1, draws, torch.ones_like(times))[:, patient_of_scan]


def numbered(patients: Iterable[Hashable] | None, scans: int) -> Int[Tensor, "scans"]:
    """The number of each scan's patient; without patients, each scan is one of its own."""
    if patients is None:
        return torch.arange(scans)
    listed = several("patients", getattr(patients, "tolist", lambda: patients)(), "patients")
    if len(listed) != scans:
        raise ValueError(f"patients must hold one for each of {scans} scans, got {len(listed)}")
    for patient in listed:
        if not isinstance(patient, Hashable):
            kind = type(patient).__name__
            raise TypeError(f"patients must be hashable, such as names, got a {kind}")
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(patient, len(numbers)) for patient in listed])


@dataclass(frozen=True, eq=False)
class Events:
    """What a FROC is made of: what each box adds, and in which scan.

    Args:
        scores: Score of each box.
        found: What a box adds to the lesions found.
        hit: Whether it hits a lesion, be it one that another box found.
        false: Whether it is a false positive.
        scan: Number of its scan.
        totals: What there is to find in each scan.
    """

    scores: Float[Tensor, "boxes"]
    found: Float[Tensor, "boxes"]
    hit: Bool[Tensor, "boxes"]
    false: Bool[Tensor, "boxes"]
    scan: Int[Tensor, "boxes"]
    totals: Float[Tensor, "scans"]

    def drawn(
        self, resamples: int, seed: int, patient_of_scan: Int[Tensor, "scans"]
    ) -> Float[Tensor, "resamples scans"]:
        """How often each scan counts in each resample of as many patients as there are."""
        draws = draw_patients(self.order_by_content(patient_of_scan), resamples, seed)
        return times_drawn(draws, patient_of_scan)

    def order_by_content(self, patient_of_scan: Int[Tensor, "scans"]) -> list[int]:
        """Patients sorted by what they hold, so that draws know no order of scans or boxes."""
        columns = (self.scores, self.found, self.false.double(), self.hit.double())
        by_score = np.lexsort([self.hit, self.false, -self.found, self.scores, self.scan])
        rows = torch.stack(columns, dim=1)[by_score]
        parts = rows.split(self.scan.bincount(minlength=len(self.totals)).tolist())
        contents: dict[int, list[tuple[float, bytes]]] = {}
        scans = zip(patient_of_scan.tolist(), self.totals.tolist(), parts, strict=True)
        for patient, total, part in scans:
            contents.setdefault(patient, []).append((total, part.numpy().tobytes()))
        return sorted(contents, key=lambda patient: sorted(contents[patient]))

    def reached(
        self, times: Float[Tensor, "resamples scans"], *kinds: Float[Tensor, "boxes"]
    ) -> Iterator[tuple[Tensor, list[Float[Tensor, "part points"]]]]:
        """Parts of `times`, and how much of each kind reaches each distinct score in them."""
        order, last = score_order(self.scores)
        scan, kinds = self.scan[order], tuple(kind[order] for kind in kinds)
        for part in times.split(max(1, _ELEMENTS_AT_ONCE // max(1, len(scan)))):
            weights = part[:, scan]
            yield part, [_reached(weights * kind, last) for kind in kinds]

    def sensitivities(
        self, times: Float[Tensor, "resamples scans"], rates: Float[Tensor, "rates"]
    ) -> Float[Tensor, "resamples rates"]:
        """The sensitivity at each rate, scans counted so often, NaN where they hold no lesion."""
        results = []
        for part, (false, found) in self.reached(times, self.false.double(), self.found):
            wrong = false / part.sum(dim=1, keepdim=True)
            points = torch.searchsorted(wrong, rates.repeat(len(part), 1), right=True) - 1
            results.append(share(found.gather(1, points), self.total(part)[:, None]))
        return torch.cat(results)

    def total(self, times: Float[Tensor, "resamples scans"]) -> Float[Tensor, "resamples"]:
        """What there is to find, scans counted so often."""
        # Added up one scan after the other: a matrix product's order depends on its size.
        return (times * self.totals).cumsum(1)[:, -1]


def share(
    part: Float[Tensor, "*#shape"], whole: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """Part of a whole, at most 1 whatever the rounding, NaN of nothing."""
    return torch.where(whole > 0, (part / torch.where(whole > 0, whole, 1)).clamp(max=1), math.nan)


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
