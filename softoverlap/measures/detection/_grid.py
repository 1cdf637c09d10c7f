"""Boxes and lesions by class, threshold and size class: what AP and AR are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap.measures.detection._curves import class_name
from softoverlap.measures.detection._hits import IGNORED, TRUE_POSITIVE, HitRule, Pooled
from softoverlap.measures.detection._scans import several
from softoverlap.measures.detection._sizes import ALL, SizeClasses
from softoverlap.measures.detection.hits import Hit
from softoverlap.measures.inputs import Spacing

Thresholds = float | Sequence[float] | str

PRESETS = {
    "coco": tuple(round(0.05 * step, 2) for step in range(10, 20)),
    "nndetection": tuple(round(0.05 * step, 2) for step in range(2, 11)),
}
"""IoU thresholds by name: 0.5 to 0.95, and 0.1 to 0.5."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One class at one threshold in one size class, which some lesion has."""

    label: int | str
    threshold: float
    size: str
    scores: Float[Tensor, "boxes"]
    hits: Bool[Tensor, "boxes"]
    rank: Int[Tensor, "boxes"]
    lesions: int


def grid_rule(
    hit: Hit | None,
    threshold: float,
    thresholds: Thresholds | None,
    size_edges: Sequence[float],
    spacing: Spacing | str | None,
    size_of: str,
) -> HitRule:
    """The rule that matches once for each size class and threshold."""
    sizes = SizeClasses.checked(size_edges, spacing, size_of)
    return HitRule.of(hit, _several(threshold, thresholds), sizes=sizes, grid=True)


def _several(threshold: float, thresholds: Thresholds | None) -> tuple[float, ...]:
    if thresholds is None:
        return (threshold,)
    if isinstance(thresholds, str):
        check_choice("thresholds", thresholds, tuple(PRESETS))
        return PRESETS[thresholds]
    if isinstance(thresholds, float | int):
        return (float(thresholds),)
    thresholds = several("thresholds", thresholds)
    if not len(thresholds) or len(set(thresholds)) < len(thresholds):
        raise ValueError(f"thresholds must hold different numbers, got {tuple(thresholds)}")
    return tuple(float(one) for one in thresholds)


def cells_of(pooled: Pooled, rule: HitRule, class_names: Sequence[str] | None) -> list[Cell]:
    """Every cell with a lesion; boxes that it ignores are left out."""
    return list(_cells(pooled, rule, class_names))


def _cells(pooled: Pooled, rule: HitRule, class_names: Sequence[str] | None) -> Iterator[Cell]:
    rank, outside = _ranks(pooled), rule.sizes.outside(pooled.lesions[:, 2])
    names = [ALL, *rule.sizes.names(pooled.ndim)]
    for label in pooled.lesions[:, 0].unique().tolist():
        own = pooled.boxes[:, 0] == label
        counts = ((pooled.lesions[:, 0] == label) & ~outside).sum(dim=1).tolist()
        for row, (size, lesions) in enumerate(zip(names, counts, strict=True)):
            for column, threshold in enumerate(rule.thresholds if lesions else ()):
                outcome = pooled.boxes[:, 2 + row * len(rule.thresholds) + column]
                kept = own & (outcome != IGNORED)
                yield Cell(
                    label=class_name(label, class_names),
                    threshold=threshold,
                    size=size,
                    scores=pooled.boxes[kept, 1],
                    hits=outcome[kept] == TRUE_POSITIVE,
                    rank=rank[kept],
                    lesions=lesions,
                )


def _ranks(pooled: Pooled) -> Int[Tensor, "boxes"]:
    """Place of each box by descending score among those of its scan and class, from 0."""
    order = pooled.boxes[:, 1].argsort(descending=True, stable=True)
    for key in (pooled.boxes[:, 0], pooled.scan_of_box):
        order = order[key[order].argsort(stable=True)]
    groups = torch.stack([pooled.scan_of_box.double(), pooled.boxes[:, 0]], dim=1)[order]
    _, counts = groups.unique_consecutive(dim=0, return_counts=True)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.empty(len(order), dtype=torch.int64)
    rank[order] = torch.arange(len(order)) - first
    return rank
