"""Which true lesions are found: the matching, the hit, and the overlap of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from softoverlap._checks import check_choice
from softoverlap.measures.criteria import any_voxel
from softoverlap.measures.hit import Hit
from softoverlap.measures.lesionwise.maps import LesionScan, matched, merged_overlap, ratio
from softoverlap.overlaps import (
    MaskOverlap,
    mask_dice,
    mask_iou,
    overlap_named,
    overlap_names,
)

TOUCH = Hit(any_voxel, 1.0)


def lesion_hit(hit: Hit | MaskOverlap | str, hit_threshold: float | None = None) -> Hit:
    """The hit that is meant by an argument `hit` with `hit_threshold` beside it, by default 0.1."""
    if isinstance(hit, Hit):
        if hit_threshold is not None:
            raise ValueError(f"hit_threshold must be None where hit is a Hit, got {hit_threshold}")
        if hit.overlap is not any_voxel and not isinstance(hit.overlap, MaskOverlap):
            raise ValueError(f"hit must be of any_voxel or masks, such as mask_dice, got {hit}")
        return hit
    names = overlap_names(MaskOverlap)
    if isinstance(hit, str):
        short = (name.removeprefix("mask_") for name in names)
        check_choice("hit", hit, ("touch", "any_voxel", *names, *short))
    if hit in ("touch", "any_voxel"):
        if hit_threshold is not None:
            raise ValueError(
                f"hit_threshold must be None with hit={hit!r}, which any common voxel meets, "
                f"got {hit_threshold!r}"
            )
        return TOUCH
    level = 0.1 if hit_threshold is None else hit_threshold
    if not 0 < level <= 1:
        raise ValueError(f"hit_threshold must lie in (0, 1], got {level!r}")
    return Hit(overlap_named(hit, MaskOverlap), level)


@dataclass(frozen=True)
class MatchedLesions:
    """Of each true lesion: its soft overlap with what it is matched to, and whether it is found."""

    pairs: sparse.csr_array
    volumes: np.ndarray
    pred_volumes: np.ndarray
    dice: np.ndarray
    iou: np.ndarray
    detected: np.ndarray


def matched_lesions(
    scan: LesionScan, matching: str = "many_to_one", hit: Hit = TOUCH
) -> MatchedLesions:
    """All true lesions of one scan, in their order."""
    pairs = matched(scan, matching)
    shared, pred_sizes = merged_overlap(scan, pairs)
    sizes = scan.truth.sizes()
    dice, iou = (ratio(overlap, shared, sizes, pred_sizes) for overlap in (mask_dice, mask_iou))
    touched = any_voxel(pairs).numpy()
    quality = touched
    if isinstance(hit.overlap, MaskOverlap):
        quality = ratio(hit.overlap, shared, sizes, pred_sizes)
    return MatchedLesions(
        pairs,
        volumes=sizes * scan.voxel_mm3,
        pred_volumes=pred_sizes * scan.voxel_mm3,
        dice=dice,
        iou=iou,
        detected=touched & (quality >= hit.threshold),
    )
