"""FROC of found boxes, over all scans, those without lesions included.

In each scan the boxes are taken by descending score, and each takes the free lesion of its own
label that it hits best; boxes of equal score take as many as they can, whatever their order. A box
that hits only lesions that are already taken is a duplicate, neither true nor false; one that hits
no lesion is a false positive. Lesions may be ignored: neither they nor boxes on them count.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap.measures.detection import _curves
from softoverlap.measures.detection._bootstrap import (
    Events,
    band_rates,
    check_resampling,
    numbered,
    percentiles,
)
from softoverlap.measures.detection._curves import FROC, FROCInterval
from softoverlap.measures.detection.matching import Matching
from softoverlap.measures.detection.measure import BoxMeasure
from softoverlap.measures.detection.outcomes import TRUE_POSITIVE, Outcomes
from softoverlap.measures.detection.sizes import SizeClasses
from softoverlap.measures.hit import AnyHit, Scan
from softoverlap.measures.inputs import Spacing

FP_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class BoxFROC(BoxMeasure):
    """FROC of found boxes as a measure; its settings are the options of `compute_froc`.

    `score` gives the CPM, `details` the whole curve. Of outcomes with several thresholds the first
    is read, with their own size classes and existence.

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_froc`.

    Examples:
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.zeros(1)}
        >>> froc = BoxFROC(fp_rates=[1.0])
        >>> outcomes = froc.statistics([{**target, "label_scores": torch.ones(1)}], [target])
        >>> froc.details([outcomes, outcomes]).sensitivity
        (1.0,)
    """

    hit: AnyHit | None = None
    threshold: float | None = None
    fp_rates: Sequence[float] = FP_RATES
    weight: str | None = "existence"
    size_edges: Sequence[float] = ()
    spacing: Spacing | str | None = None
    size_of: str = "box"
    per_class: bool = False
    class_names: Sequence[str] | None = None
    resamples: int = 0
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        _curves.checked_rates(self.fp_rates)
        _curves.checked_names(self.class_names)
        check_resampling(self.resamples, self.confidence)
        super().__post_init__()

    def _matching(self) -> Matching:
        sizes = SizeClasses.checked(self.size_edges, self.spacing, self.size_of)
        return Matching.of(self.hit, self.threshold, sizes=sizes, weight=self.weight)

    def details(
        self, outcomes: Outcomes | Sequence[Outcomes], patients: Iterable[Hashable] | None = None
    ) -> FROC:
        """The whole curve, with those of its classes and size classes.

        Scans of one of the `patients`, one a scan, are drawn together.
        """
        pooled = self.pooled(outcomes)
        patient_of_scan = numbered(patients, len(pooled.scans))
        sizes = pooled.size_classes
        labels = pooled.lesion_labels[counted(pooled)].unique().tolist() if self.per_class else []
        by_size = zip(sizes.names(pooled.ndim), sizes.outside(pooled.sizes)[1:], strict=True)
        of_size = {
            name: self._curve(pooled, patient_of_scan, lesions=~outside)
            for name, outside in by_size
        }
        return replace(
            self._curve(pooled, patient_of_scan),
            per_class={
                _curves.class_name(label, self.class_names): self._curve(
                    pooled,
                    patient_of_scan,
                    lesions=pooled.lesion_labels == label,
                    boxes=pooled.labels == label,
                )
                for label in labels
            },
            per_size={name: curve for name, curve in of_size.items() if curve.lesions},
        )

    def value(self, outcomes: Outcomes | Sequence[Outcomes]) -> float:
        """The CPM, for which no scans are drawn."""
        pooled = self.pooled(outcomes)
        return replace(self, resamples=0)._curve(pooled, numbered(None, len(pooled.scans))).cpm

    def _curve(
        self,
        pooled: Outcomes,
        patient_of_scan: Int[Tensor, "scans"],
        lesions: Bool[Tensor, "lesions"] | None = None,
        boxes: Bool[Tensor, "boxes"] | None = None,
    ) -> FROC:
        """The curve over all lesions and boxes, or some."""
        events = events_of(pooled, lesions, boxes)
        rates, total = _curves.checked_rates(self.fp_rates), events.totals.sum().item()
        thresholds, fps_per_scan, sensitivities = _curves.froc_points(
            events.scores, events.found, events.false, scans=len(pooled.scans), total=total
        )
        readings = _curves.read_at(fps_per_scan, sensitivities, rates)
        counts = counted(pooled)
        return FROC(
            fp_rates=tuple(rates.tolist()),
            sensitivity=readings,
            cpm=_curves.mean(readings),
            fps_per_scan=fps_per_scan,
            sensitivities=sensitivities,
            thresholds=thresholds,
            scans=len(pooled.scans),
            lesions=int((counts if lesions is None else counts & lesions).sum()),
            existence=total,
            boxes=len(events.scores),
            interval=self._interval(events, rates, patient_of_scan) if self.resamples else None,
        )

    def _interval(
        self,
        events: Events,
        rates: Float[Tensor, "rates"],
        patient_of_scan: Int[Tensor, "scans"],
    ) -> FROCInterval:
        """Percentiles over draws of patients."""
        times = events.drawn(self.resamples, self.seed, patient_of_scan)
        grid = band_rates(rates)
        samples = events.sensitivities(times, torch.cat([rates, grid]))
        samples = samples[~samples[:, 0].isnan()]
        read, band = samples.split([len(rates), len(grid)], dim=1)
        read = torch.cat([read, read.mean(dim=1, keepdim=True)], dim=1)
        ends = percentiles(read, self.confidence)
        pairs = [(low, high) for low, high in ends.mT.tolist()]
        low, high = percentiles(band, self.confidence)
        return FROCInterval(
            confidence=self.confidence,
            resamples=len(samples),
            sensitivity=tuple(pairs[:-1]),
            cpm=pairs[-1],
            fps_per_scan=grid,
            low=low,
            high=high,
        )


def counted(pooled: Outcomes) -> Bool[Tensor, "lesions"]:
    """Whether each lesion counts: one that nobody saw, or that is ignored, does not."""
    return pooled.worth > 0


def events_of(
    pooled: Outcomes,
    lesions: Bool[Tensor, "lesions"] | None = None,
    boxes: Bool[Tensor, "boxes"] | None = None,
) -> Events:
    """What the boxes add at the first threshold, all or some, of all lesions or some."""
    worth = pooled.worth if lesions is None else torch.where(lesions, pooled.worth, 0)
    kept = slice(None) if boxes is None else boxes
    return Events(
        scores=pooled.scores[kept],
        found=pooled.found(worth)[kept],
        hit=pooled.outcome[kept, 0, 0] == TRUE_POSITIVE,
        false=pooled.false_positive[kept],
        scan=pooled.scan_of_box[kept],
        totals=worth.new_zeros(len(pooled.scans)).index_add(0, pooled.scan_of_lesion, worth),
    )


def compute_froc(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: AnyHit | None = None,
    threshold: float | None = None,
    fp_rates: Sequence[float] = FP_RATES,
    weight: str | None = "existence",
    size_edges: Sequence[float] = (),
    spacing: Spacing | str | None = None,
    size_of: str = "box",
    per_class: bool = False,
    class_names: Sequence[str] | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    patients: Iterable[Hashable] | None = None,
) -> FROC:
    """Sensitivity at given rates of false positives a scan, and their mean (CPM).

    The curve is a step function of the score: the sensitivity at a rate is the best one that an
    operating point reaches at or below that rate, and nothing is interpolated. Boxes of equal
    score make one operating point. A duplicate is neither true nor false. All classes are pooled;
    a box can hit lesions of its own label only.

    A lesion counts as much as its existence, if the target says it: the sensitivity is Σ existence
    of the lesions hit over Σ existence of all. A lesion with an existence of 0 is no lesion, and a
    box that hits nothing else is a false positive. Where all existences are 1, as by default, this
    is the usual FROC.

    The interval is a percentile bootstrap over patients, whose scans are drawn together; without
    `patients`, over scans. The draws are those of `seed`, from patients sorted by what they hold,
    so that neither the order in which scans came nor the number of ranks matters.

    Args:
        predictions: A dict a scan with MONAI's keys: "box", shape (N, 2 * ndim), in voxels;
            "label", shape (N,); "label_scores", shape (N,), higher is better. The keys of its
            detector, "boxes", "labels" and "labels_scores", are taken too, in targets as well.
        targets: A dict a scan, in the same order: "box", shape (M, 2 * ndim), in voxels; "label",
            shape (M,); where known "existence", in [0, 1], shape (M,), or "lesions", a list of the
            M `Lesion` of the boxes, in their order, that hold it; where some do not count
            "ignored", booleans (M,): such a lesion is neither hit nor missed, and a box that hits
            it, or has its centre in it, and takes no other is neither true nor false, however many
            there are; and whatever else `hit` needs.
            `lesion_target(lesions_from_mask(mask, spacing=...))` makes one from a soft mask. Scans
            without lesions have M = 0 and count.
        hit: What hits: a `Hit`; one of our overlaps, `box_iou` by default; a name, such as
            `"mask_box_dice"`, `"relative_mask_box_dice"` (relative to the best that any box
            reaches), `"centre_in_mask"` (the mask's probability where the box has its centre) or
            `"centre_within_radius"` (with "spacing", the edges of a voxel in mm), all of
            them in `softoverlap.measures.HIT_CRITERIA`; or a callable that takes the boxes
            (N, 2 * ndim) and the target of one scan and returns, of shape (M, N), either booleans
            or scores. Criteria with masks need "lesions", or "masks" of shape (M, *spatial). With
            an overlap of oriented boxes, such as `rotated_box_iou`, every "box" is oriented, shape
            (N, 5) or (N, 7), and targets have no "lesions"; with `soft_box_iou` or
            `soft_box_dice` boxes may be soft, (N, 4 * ndim), whose size is that of their mean.
        threshold: The lowest score that hits, by default the criterion's own, 0.1 for most; None
            where `hit` is a `Hit`, which says it.
        fp_rates: False positives a scan at which to read the sensitivity.
        weight: `"existence"`, or None for lesions that count 1 each, whatever their existence.
        size_edges: Edges between size classes, rising, in mm³ with `spacing`, else in voxels, also
            where "lesions" know their volume. The names of the classes say which: "<10 mm³",
            "10–100 mm³", "≥100 mm³", or "<10 voxels".
        spacing: Edges of a voxel in mm, one number for cubes, or the key under which each target
            has them.
        size_of: The size of a lesion: `"box"`, the volume of its box, or `"mask"`, Σ probability.
        per_class: Also the curve of each class.
        class_names: Names of the labels 0, 1, ...; without, results stand under the label.
        resamples: Number of bootstrap resamples, 1000 is usual; 0 for no interval.
        confidence: Share of the resamples within the interval.
        seed: Of the generator that draws.
        patients: Whose each scan is, a name or number a scan; each scan its own by default.

    Returns:
        Sensitivities in [0, 1] at each rate, their mean, and the whole curve; NaN where there is
        no lesion in any scan, since a share of nothing is not defined.

    Raises:
        TypeError: If an item is not a dict of tensors, `hit` is none of what it may be or
            returns neither booleans nor scores, or a list is a single value.
        ValueError: If there is no scan, keys or shapes are wrong, a value is not finite, an
            existence lies outside [0, 1], a label is not whole, "lesions" are not those of the
            boxes in their order, `patients` are not one a scan, a rate is negative, or an option
            is out of range.

    References:
        Setio et al., LUNA16, https://arxiv.org/abs/1612.08012 (rates, CPM and bootstrap)

    Examples:
        >>> import torch
        >>> lesion = torch.tensor([[0.0, 0.0, 4.0, 4.0], [20.0, 0.0, 24.0, 4.0]])
        >>> found = torch.tensor([[0.0, 0.0, 4.0, 3.0], [9.0, 9.0, 12.0, 12.0]])
        >>> labels, scores = torch.tensor([0, 0]), torch.tensor([0.9, 0.4])
        >>> prediction = {"box": found, "label": labels, "label_scores": scores}
        >>> target = {"box": lesion, "label": labels, "existence": torch.tensor([0.75, 0.25])}
        >>> compute_froc([prediction], [target]).cpm
        0.75
        >>> compute_froc([prediction], [target], weight=None).cpm
        0.5

        From a soft mask, with records of its lesions, so that masks can be hit too:

        >>> from softoverlap import lesion_target, lesions_from_mask
        >>> mask = torch.zeros(32, 32, 32)
        >>> mask[8:14, 8:14, 8:14], mask[20:24, 20:24, 20:24] = 0.8, 0.9
        >>> target = lesion_target(lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0)))
        >>> found = torch.tensor([[8.0, 8.0, 8.0, 14.0, 14.0, 15.0]])
        >>> prediction = {"box": found, "label": labels[:1], "label_scores": scores[:1]}
        >>> froc = compute_froc(
        ...     [prediction], [target], hit="mask_box_dice", threshold=0.5,
        ...     size_edges=[100.0], spacing=1.0,
        ... )
        >>> {size: curve.cpm for size, curve in froc.per_size.items()}
        {'<100 mm³': 0.0, '≥100 mm³': 1.0}
    """
    measure = BoxFROC(
        hit=hit,
        threshold=threshold,
        fp_rates=fp_rates,
        weight=weight,
        size_edges=size_edges,
        spacing=spacing,
        size_of=size_of,
        per_class=per_class,
        class_names=class_names,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    return measure.details(measure.statistics(predictions, targets), patients)
