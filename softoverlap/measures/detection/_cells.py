"""Boxes and lesions by class, threshold and size class: what AP and AR are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap.measures.detection._curves import class_name
from softoverlap.measures.detection.outcomes import IGNORED, TRUE_POSITIVE, Outcomes
from softoverlap.measures.detection.sizes import ALL


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


def cells_of(pooled: Outcomes, class_names: Sequence[str] | None) -> Iterator[Cell]:
    """Every cell with a lesion; boxes that it ignores are left out."""
    rank, outside = _ranks(pooled), pooled.size_classes.outside(pooled.sizes)
    names = [ALL, *pooled.size_classes.names(pooled.ndim)]
    for label in pooled.lesion_labels.unique().tolist():
        own = pooled.labels == label
        counts = ((pooled.lesion_labels == label) & ~outside).sum(dim=1).tolist()
        for row, (size, lesions) in enumerate(zip(names, counts, strict=True)):
            for column, threshold in enumerate(pooled.thresholds if lesions else ()):
                outcome = pooled.outcome[:, row, column]
                kept = own & (outcome != IGNORED)
                yield Cell(
                    label=class_name(label, class_names),
                    threshold=threshold,
                    size=size,
                    scores=pooled.scores[kept],
                    hits=outcome[kept] == TRUE_POSITIVE,
                    rank=rank[kept],
                    lesions=lesions,
                )


def _ranks(pooled: Outcomes) -> Int[Tensor, "boxes"]:
    """Place of each box by descending score among those of its scan and class, from 0."""
    order = pooled.scores.argsort(descending=True, stable=True)
    for key in (pooled.labels, pooled.scan_of_box):
        order = order[key[order].argsort(stable=True)]
    groups = torch.stack([pooled.scan_of_box.double(), pooled.labels], dim=1)[order]
    _, counts = groups.unique_consecutive(dim=0, return_counts=True)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.empty(len(order), dtype=torch.int64)
    rank[order] = torch.arange(len(order)) - first
    return rank
