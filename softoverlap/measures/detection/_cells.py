"""Boxes and lesions by class, threshold and size class: what AP and AR are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softoverlap.measures.detection._curves import class_name
from softoverlap.measures.detection.outcomes import IGNORED, TRUE_POSITIVE, Outcomes
from softoverlap.measures.detection.sizes import ALL


@dataclass(frozen=True, eq=False)
class Cell:
    """One class at one threshold in one size class, which some lesion has.

    `found` is how many lesions each box took, `above` how many boxes of its scan and class have a
    higher score than it, `equal` how many have its score.
    """

    label: int | str
    threshold: float
    size: str
    scores: Float[Tensor, "boxes"]
    hits: Bool[Tensor, "boxes"]
    found: Float[Tensor, "boxes"]
    above: Float[Tensor, "boxes"]
    equal: Float[Tensor, "boxes"]
    lesions: int


def cells_of(pooled: Outcomes, class_names: Sequence[str] | None) -> Iterator[Cell]:
    """Every cell with a lesion; boxes that it ignores are left out."""
    above, equal = _places(pooled)
    left_out = pooled.size_classes.outside(pooled.sizes) | pooled.ignored
    names = [ALL, *pooled.size_classes.names(pooled.ndim)]
    for label in pooled.lesion_labels.unique().tolist():
        own = pooled.labels == label
        counts = ((pooled.lesion_labels == label) & ~left_out).sum(dim=1).tolist()
        for row, (size, lesions) in enumerate(zip(names, counts, strict=True)):
            for column, threshold in enumerate(pooled.thresholds if lesions else ()):
                outcome = pooled.outcome[:, row, column]
                found = pooled.found((~left_out[row]).double(), row, column)
                kept = own & (outcome != IGNORED)
                yield Cell(
                    label=class_name(label, class_names),
                    threshold=threshold,
                    size=size,
                    scores=pooled.scores[kept],
                    hits=outcome[kept] == TRUE_POSITIVE,
                    found=found[kept],
                    above=above[kept],
                    equal=equal[kept],
                    lesions=lesions,
                )


def _places(pooled: Outcomes) -> tuple[Float[Tensor, "boxes"], Float[Tensor, "boxes"]]:
    """How many boxes of its scan and class have a higher score than each box, and its own."""
    keys = torch.stack([pooled.scan_of_box.double(), pooled.labels, -pooled.scores], dim=1)
    steps, step, equal = keys.unique(dim=0, return_inverse=True, return_counts=True)
    _, counts = steps[:, :2].unique_consecutive(dim=0, return_counts=True)
    before = equal.cumsum(0) - equal  # of all scans and classes, in their order
    first = before[(counts.cumsum(0) - counts).repeat_interleave(counts)]
    return (before - first)[step].double(), equal[step].double()
