"""Lesions of a predicted mask against those of the true one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from softoverlap._units import MM3_PER_ML
from softoverlap.app.cohort.islands import cut, islands
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.app.cohort.tables import LesionTables, Row, lesion_columns, place_columns
from softoverlap.measures import (
    LesionMap,
    LesionMatch,
    LesionRules,
    LesionScan,
    MatchedLesions,
    Outcomes,
    lesion_rows,
    lesion_scan,
    match_quality,
    matched_lesions,
)

Voxel = tuple[int, ...]

_NO_BOXES = torch.zeros(0, 6, dtype=torch.float64)
_NOTHING = match_quality(
    torch.zeros(0, 0), torch.zeros(0, 0).bool(),
    boxes=_NO_BOXES, scores=None, lesion_boxes=_NO_BOXES, existence=[], sizes=[],
)  # fmt: skip
"""Of a large scan in which no part holds a lesion."""


def mask_lesions(
    pred: Tensor,
    truth: Tensor,
    raters: Tensor | None,
    *,
    spacing: Sequence[float],
    settings: ScoreSettings,
) -> LesionTables:
    """Match the lesions of two masks: a lesion is found if a predicted one shares a voxel with it.

    Args:
        pred: Probabilities, shape (D, H, W).
        truth: Probabilities, same shape.
        raters: Masks of the raters, shape (R, D, H, W); lesions are then those of their union.
        spacing: Edges of a voxel in mm.
        settings: The threshold, the halo and the smallest lesion.

    Returns:
        Rows of true lesions, and the outcomes of predicted ones, each in the order of their first
        voxel; the score of a predicted one is its highest probability.

    Examples:
        >>> mask = torch.zeros(4, 4, 4)
        >>> mask[1:3, 1:3, 1:3] = 0.8
        >>> tables = mask_lesions(mask, mask, None, spacing=[1, 1, 1], settings=ScoreSettings())
        >>> tables.columns["lesions_found"], tables.outcomes.box_of_lesion
        (1, [0])
    """
    rules = LesionRules(
        threshold=settings.threshold,
        halo=min(settings.halo, settings.threshold),
        min_mm3=settings.min_mm3,
    )
    lesions: list[Row] = []
    starts: tuple[list[Voxel], list[Voxel]] = [], []
    parts, false_mm3 = [], 0.0
    for scan, matched in _scans(pred, truth, raters, spacing, rules):
        lesions += map(_lesion_row, lesion_rows(0, 0, scan, matched))
        parts.append(_outcomes(scan, matched))
        false_mm3 += _false_mm3(scan)
        for side, lesion_map in zip(starts, (scan.truth, scan.pred), strict=True):
            side += _first_voxels(lesion_map.core, scan.origin)
    of_truth, of_pred = (sorted(range(len(side)), key=side.__getitem__) for side in starts)
    lesions = [{"lesion": number, **lesions[row]} for number, row in enumerate(of_truth)]
    outcomes = Outcomes.joined(parts or _NOTHING).as_one_scan(of_pred, of_truth)
    columns = lesion_columns(lesions, outcomes, false_ml=false_mm3 / MM3_PER_ML)
    return LesionTables(columns, lesions, outcomes)


def _first_voxels(core: np.ndarray, origin: tuple[int, ...]) -> list[Voxel]:
    """The first voxel of each lesion, in the image."""
    firsts = []
    for number, window in enumerate(ndimage.find_objects(core), start=1):
        inside = core[window] == number
        place = np.unravel_index(int(inside.argmax()), inside.shape)
        low = (axis.start + first for axis, first in zip(window, origin, strict=True))
        firsts.append(tuple(int(at) + start for at, start in zip(place, low, strict=True)))
    return firsts


def _scans(
    pred: Tensor,
    truth: Tensor,
    raters: Tensor | None,
    spacing: Sequence[float],
    rules: LesionRules,
) -> Iterator[tuple[LesionScan, MatchedLesions]]:
    """The parts of the scan, with places in the whole image."""
    stack = [] if raters is None else [rater.numpy() for rater in raters]
    masks = [pred.numpy(), truth.numpy(), *stack]
    lowest = rules.halo or float(np.nextafter(0, 1))
    parts = islands([(mask, lowest) for mask in masks], [(mask, rules.threshold) for mask in masks])
    for window, inside in parts:
        cuts = [torch.from_numpy(cut(mask, window, inside)) for mask in masks]
        marks = torch.stack(cuts[2:]) if stack else None
        scan = lesion_scan(cuts[0], cuts[1], rules=rules, spacing=spacing, raters=marks)
        origin = tuple(
            first + (axis.start or 0) for first, axis in zip(scan.origin, window, strict=True)
        )
        scan = LesionScan(scan.pred, scan.truth, origin, scan.voxel_mm3)
        yield scan, matched_lesions(scan)


def _lesion_row(match: LesionMatch) -> Row:
    """A row of `lesions.csv`, less its number."""
    names = ("soft_dice", "soft_iou", "detected", "existence", "n_pred", "pred_volume_mm3")
    return {
        "volume_mm3": match.volume_mm3,
        **{name: getattr(match, name) for name in names},
        **place_columns(match.box, match.centre),
    }


def _outcomes(scan: LesionScan, matched: MatchedLesions) -> Outcomes:
    """What hits what: a lesion all that it touches, and of these best what it shares most with."""
    count = len(scan.pred)
    peaks = ndimage.maximum(scan.pred.values, scan.pred.core, np.arange(1, count + 1))
    return match_quality(
        torch.from_numpy(scan.shared().toarray()),
        torch.from_numpy(scan.touches().toarray() > 0),
        boxes=_boxes(scan.pred, scan.origin),
        scores=torch.from_numpy(np.asarray(peaks, dtype=np.float64).reshape(-1)),
        lesion_boxes=_boxes(scan.truth, scan.origin),
        existence=scan.truth.existence.tolist(),
        sizes=matched.volumes.tolist(),
    )


def _false_mm3(scan: LesionScan) -> float:
    """The volume of predicted lesions that touch no true one."""
    return float(scan.pred.sizes()[scan.touches().sum(axis=0) == 0].sum()) * scan.voxel_mm3


def _boxes(lesions: LesionMap, origin: tuple[int, ...]) -> Tensor:
    """Tight boxes of lesions in the image."""
    windows = ndimage.find_objects(lesions.core, max_label=len(lesions))
    corners = [[*(a.start for a in window), *(a.stop for a in window)] for window in windows]
    return torch.tensor(corners).double().reshape(-1, 6) + torch.tensor([*origin, *origin])
