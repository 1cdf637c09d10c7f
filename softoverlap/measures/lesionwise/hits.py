"""Which true lesions are found: the matching, the hit rule, and the overlap of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from softoverlap._checks import check_choice
from softoverlap.measures.lesionwise.maps import (
    MATCHINGS,
    LesionScan,
    matched,
    merged_overlap,
    ratio,
)

HITS = ("touch", "dice", "iou")
_LOWEST = 0.1
"""The lowest score that hits, where none is told."""


@dataclass(frozen=True)
class HitRule:
    """How predicted lesions are matched to true ones, and what a match has to reach."""

    matching: str = "many_to_one"
    hit: str = "touch"
    hit_threshold: float | None = None

    def __post_init__(self) -> None:
        check_choice("matching", self.matching, MATCHINGS)
        check_choice("hit", self.hit, HITS)
        if self.hit_threshold is None:
            return
        if self.hit == "touch":
            raise ValueError(
                "hit_threshold must be None with hit='touch', which any common voxel meets, "
                f"got {self.hit_threshold!r}"
            )
        if not 0 < self.hit_threshold <= 1:
            raise ValueError(f"hit_threshold must lie in (0, 1], got {self.hit_threshold!r}")

    @property
    def lowest(self) -> float:
        """The lowest score that hits."""
        return _LOWEST if self.hit_threshold is None else self.hit_threshold


@dataclass(frozen=True)
class FoundLesions:
    """Of each true lesion: its soft overlap with what it is paired with, and if it is found."""

    pairs: sparse.csr_array
    volumes: np.ndarray
    pred_volumes: np.ndarray
    dice: np.ndarray
    iou: np.ndarray
    detected: np.ndarray


def found_lesions(scan: LesionScan, rule: HitRule) -> FoundLesions:
    """All true lesions of one scan, in their order."""
    pairs = matched(scan, rule.matching)
    shared, found = merged_overlap(scan, pairs)
    sizes = scan.truth.sizes()
    scores = {kind: ratio(kind, shared, sizes, found) for kind in ("dice", "iou")}
    detected = pairs.sum(axis=1) > 0
    if rule.hit != "touch":
        detected = detected & (scores[rule.hit] >= rule.lowest)
    volumes = (sizes * scan.voxel_mm3, found * scan.voxel_mm3)
    return FoundLesions(pairs, *volumes, **scores, detected=detected)
