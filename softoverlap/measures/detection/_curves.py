"""The FROC curve, and the steps in the score that it and average precision are read from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap.measures.detection.scans import several

Points = tuple[Float[Tensor, "points"], Float[Tensor, "points"], Float[Tensor, "points"]]


@dataclass(frozen=True, eq=False)
class FROCInterval:
    """Percentile interval of a FROC's readings over scans, or patients, drawn again.

    Args:
        confidence: Share of the resamples between the ends.
        resamples: Number of resamples with a lesion; others have no sensitivity.
        sensitivity: Lower and upper end at each rate, NaN without lesions.
        cpm: Lower and upper end of the CPM.
        fps_per_scan: Rates of the band, ascending, shape (grid,).
        low: Lower end of the sensitivity at each of them, shape (grid,).
        high: Upper end, shape (grid,).

    Examples:
        >>> import torch
        >>> ends = FROCInterval(0.95, 1000, ((0.4, 0.6),), (0.4, 0.6), *torch.rand(3, 8))
        >>> ends.cpm
        (0.4, 0.6)
    """

    confidence: float
    resamples: int
    sensitivity: tuple[tuple[float, float], ...]
    cpm: tuple[float, float]
    fps_per_scan: Float[Tensor, "grid"]
    low: Float[Tensor, "grid"]
    high: Float[Tensor, "grid"]


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
        lesions: Number of lesions counted; those with an existence of 0 are not.
        existence: Σ of what the lesions count, by which the sensitivity is divided: their number
            where each counts 1.
        boxes: Number of boxes counted.
        interval: Bootstrap interval, where resamples were asked for.
        per_class: The curve of each class that some lesion has, where asked for.
        per_size: The curve of each size class that some lesion has, by names such as
            "10–100 mm³": its sensitivity is over the lesions of that size, its false positives are
            all of them.

    Examples:
        >>> import torch
        >>> curve = FROC(
        ...     fp_rates=(1.0,), sensitivity=(0.5,), cpm=0.5, fps_per_scan=torch.tensor([0.0]),
        ...     sensitivities=torch.tensor([0.5]), thresholds=torch.tensor([0.9]),
        ...     scans=1, lesions=2,
        ... )
        >>> curve.cpm, curve.has_curve, curve.coarse_rates
        (0.5, False, ())
    """

    fp_rates: tuple[float, ...]
    sensitivity: tuple[float, ...]
    cpm: float
    fps_per_scan: Float[Tensor, "points"]
    sensitivities: Float[Tensor, "points"]
    thresholds: Float[Tensor, "points"]
    scans: int
    lesions: int
    existence: float = 0.0
    boxes: int = 0
    interval: FROCInterval | None = None
    per_class: dict[int | str, FROC] = field(default_factory=dict)
    per_size: dict[str, FROC] = field(default_factory=dict)

    @property
    def has_curve(self) -> bool:
        """Whether the boxes have more than one distinct score; else there is one point to read."""
        return int(self.thresholds.isfinite().sum()) > 1

    @property
    def coarse_rates(self) -> tuple[float, ...]:
        """The `fp_rates` below one false positive in all scans, which read no more than none."""
        return tuple(rate for rate in self.fp_rates if rate < 1 / self.scans)


def froc_points(
    scores: Float[Tensor, "boxes"],
    found: Float[Tensor, "boxes"],
    false: Bool[Tensor, "boxes"],
    *,
    scans: int,
    total: float,
) -> Points:
    """Thresholds, false positives a scan and sensitivities; `found` is what a box adds to them."""
    thresholds, (reached, wrong) = operating_points(scores, found, false)
    sensitivities = (reached / total).clamp(max=1) if total else torch.full_like(reached, math.nan)
    return thresholds, wrong / scans, sensitivities


def read_at(
    fps_per_scan: Float[Tensor, "points"],
    sensitivities: Float[Tensor, "points"],
    rates: Float[Tensor, "rates"],
) -> tuple[float, ...]:
    """The sensitivity of the last point at or below each rate."""
    last = torch.searchsorted(fps_per_scan, rates, right=True) - 1
    return tuple(sensitivities[last].tolist())


def precision_area(
    scores: Float[Tensor, "boxes"],
    hits: Bool[Tensor, "boxes"],
    found: Float[Tensor, "boxes"],
    lesions: int,
) -> float:
    """Area under the precision envelope, over every step of recall; others than hits are false.

    `found` is how many lesions each box adds to those found.
    """
    _, (true, others, reached) = operating_points(scores, hits, ~hits, found)
    precision = true / (true + others).clamp(min=1)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    # Of whole steps: 1 where it is perfect.
    area = math.fsum((reached.diff() * envelope[1:]).tolist())
    return min(1.0, area / lesions)


def operating_points(
    scores: Float[Tensor, "boxes"], *kinds: Shaped[Tensor, "boxes"]
) -> tuple[Float[Tensor, "points"], list[Float[Tensor, "points"]]]:
    """Distinct scores, descending from infinity, and how much of each kind reaches them."""
    order, last = score_order(scores)
    zero = scores.new_zeros(1)
    reached = [torch.cat([zero, kind[order].double().cumsum(0)[last]]) for kind in kinds]
    return torch.cat([zero + math.inf, scores[order[last]]]), reached


def score_order(
    scores: Float[Tensor, "boxes"],
) -> tuple[Int[Tensor, "boxes"], Int[Tensor, "points"]]:
    """Boxes by descending score, and the place of the last one of each distinct score."""
    ordered, order = scores.sort(descending=True, stable=True)
    _, counts = ordered.unique_consecutive(return_counts=True)
    return order, counts.cumsum(0) - 1


def checked_rates(fp_rates: Sequence[float]) -> Float[Tensor, "rates"]:
    """False positives a scan, float64."""
    rates = torch.tensor(several("fp_rates", fp_rates), dtype=torch.float64)
    if not len(rates) or not bool(((rates >= 0) & rates.isfinite()).all()):
        raise ValueError(f"fp_rates must hold finite numbers of at least 0, got {tuple(fp_rates)}")
    return rates


def mean(values: Iterable[float]) -> float:
    """The mean, NaN of nothing."""
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def means_by(cells: Mapping[tuple, float], place: int) -> dict:
    """The mean of the cells that share the key at this place, in the order of their coming."""
    groups: dict = {}
    for key, value in cells.items():
        groups.setdefault(key[place], []).append(value)
    return {key: mean(values) for key, values in groups.items()}


def checked_names(class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    """A name for each label, not one name for all."""
    return None if class_names is None else several("class_names", class_names, "names")


def class_name(label: float, class_names: Sequence[str] | None) -> int | str:
    """The label, or its name."""
    if class_names is None:
        return int(label)
    if not 0 <= label < len(class_names):
        raise ValueError(
            f"class_names must name every label, got {len(class_names)} names and label {label:g}"
        )
    return class_names[int(label)]
