"""A FROC curve, its bootstrap interval, and how both are read off pooled rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softoverlap.measures.detection import _curves
from softoverlap.measures.detection._bootstrap import Events, band_rates, draw_scans, percentiles
from softoverlap.measures.detection._hits import FALSE_POSITIVE, Pooled
from softoverlap.measures.detection._sizes import SizeClasses


@dataclass(frozen=True, eq=False)
class FROCInterval:
    """Percentile interval of a FROC's readings over scans drawn again.

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
    existence: float = 0.0
    boxes: int = 0
    interval: FROCInterval | None = None
    per_class: dict[int | str, FROC] = field(default_factory=dict)
    per_size: dict[str, FROC] = field(default_factory=dict)


@dataclass(frozen=True)
class FROCOptions:
    """How a curve is read."""

    fp_rates: tuple[float, ...]
    per_class: bool = False
    class_names: tuple[str, ...] | None = None
    resamples: int = 0
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        _curves.checked_rates(self.fp_rates)
        if self.resamples < 0:
            raise ValueError(f"resamples must be at least 0, got {self.resamples}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie in (0, 1), got {self.confidence}")


def froc_of(pooled: Pooled, sizes: SizeClasses, options: FROCOptions) -> FROC:
    """The curve of pooled rows, with those of its classes and size classes."""
    label, size = pooled.lesions[:, 0], pooled.lesions[:, 2]
    every = torch.ones_like(label, dtype=torch.bool)
    labels = label[pooled.lesions[:, 1] > 0].unique().tolist() if options.per_class else []
    outside = sizes.outside(size)[1:]
    by_size = zip(
        sizes.names(pooled.ndim), (_curve(pooled, ~out, options) for out in outside), strict=True
    )
    return replace(
        _curve(pooled, every, options),
        per_class={
            _curves.class_name(one, options.class_names): _curve(
                pooled, label == one, options, boxes=pooled.boxes[:, 0] == one
            )
            for one in labels
        },
        per_size={name: curve for name, curve in by_size if curve.lesions},
    )


def events_of(
    pooled: Pooled, counted: Bool[Tensor, "lesions"], kept: Bool[Tensor, "boxes"]
) -> Events:
    """What some of the boxes add, of the lesions that are counted."""
    worth = torch.where(counted, pooled.lesions[:, 1], 0)
    return Events(
        scores=pooled.boxes[kept, 1],
        found=torch.cat([worth, worth.new_zeros(1)])[pooled.lesion_of_box[kept]],  # -1: the last
        false=pooled.boxes[kept, 2] == FALSE_POSITIVE,
        scan=pooled.scan_of_box[kept],
        totals=worth.new_zeros(len(pooled.scans)).index_add(0, pooled.scan_of_lesion, worth),
    )


def _curve(
    pooled: Pooled,
    counted: Bool[Tensor, "lesions"],
    options: FROCOptions,
    boxes: Bool[Tensor, "boxes"] | None = None,
) -> FROC:
    """The curve over the lesions that are counted; of all boxes, or of some."""
    kept = torch.ones(len(pooled.boxes), dtype=torch.bool) if boxes is None else boxes
    events = events_of(pooled, counted, kept)
    rates, total = _curves.checked_rates(options.fp_rates), events.totals.sum().item()
    thresholds, fps_per_scan, sensitivities = _curves.froc_points(
        events.scores, events.found, events.false, scans=len(pooled.scans), total=total
    )
    readings = _curves.read_at(fps_per_scan, sensitivities, rates)
    return FROC(
        fp_rates=tuple(rates.tolist()),
        sensitivity=readings,
        cpm=_curves.mean(readings),
        fps_per_scan=fps_per_scan,
        sensitivities=sensitivities,
        thresholds=thresholds,
        scans=len(pooled.scans),
        lesions=int((counted & (pooled.lesions[:, 1] > 0)).sum()),
        existence=total,
        boxes=int(kept.sum()),
        interval=_interval(events, rates, options) if options.resamples else None,
    )


def _interval(events: Events, rates: Float[Tensor, "rates"], options: FROCOptions) -> FROCInterval:
    """Percentiles over draws of scans."""
    draws = draw_scans(events.order_by_content(), options.resamples, options.seed)
    grid = band_rates(rates)
    samples = events.sensitivities(draws, torch.cat([rates, grid]))
    samples = samples[~samples[:, 0].isnan()]
    read, band = samples.split([len(rates), len(grid)], dim=1)
    ends = percentiles(torch.cat([read, read.mean(dim=1, keepdim=True)], dim=1), options.confidence)
    pairs = [(low, high) for low, high in ends.mT.tolist()]
    low, high = percentiles(band, options.confidence)
    return FROCInterval(
        confidence=options.confidence,
        resamples=len(samples),
        sensitivity=tuple(pairs[:-1]),
        cpm=pairs[-1],
        fps_per_scan=grid,
        low=low,
        high=high,
    )
