"""Lesions of a predicted mask against those of the true one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from softoverlap._units import MM3_PER_ML
from softoverlap.app.cohort.islands import cut, islands
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.app.cohort.tables import (
    LesionTables,
    Row,
    lesion_columns,
    match_boxes,
    place_columns,
)
from softoverlap.measures import (
    LesionMatch,
    LesionRules,
    LesionScan,
    MatchedLesions,
    lesion_rows,
    lesion_scan,
    matched_lesions,
)

Voxel = tuple[int, ...]


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
        Rows of true lesions and of predicted ones, each in the order of their first voxel; the
        score of a predicted one is its highest probability.

    Examples:
        >>> mask = torch.zeros(4, 4, 4)
        >>> mask[1:3, 1:3, 1:3] = 0.8
        >>> tables = mask_lesions(mask, mask, None, spacing=[1, 1, 1], settings=ScoreSettings())
        >>> tables.columns["lesions_found"], tables.boxes[0]["outcome"]
        (1, 'hit')
    """
    rules = LesionRules(
        threshold=settings.threshold,
        halo=min(settings.halo, settings.threshold),
        min_mm3=settings.min_mm3,
    )
    lesions: list[Row] = []
    boxes: list[Row] = []
    starts: tuple[list[Voxel], list[Voxel]] = [], []
    false_ml = 0.0
    for scan, found in _scans(pred, truth, raters, spacing, rules):
        rows, false_mm3 = _found_rows(scan, found, first=len(boxes), lesions=len(lesions))
        matches = lesion_rows(0, 0, scan, found)
        lesions += [_lesion_row(match, len(lesions) + i) for i, match in enumerate(matches)]
        boxes += rows
        for side, found_there in zip(starts, (scan.truth, scan.pred), strict=True):
            side += _first_voxels(found_there.core, scan.origin)
        false_ml += false_mm3 / MM3_PER_ML
    lesions, boxes = _in_order(lesions, boxes, *starts)
    return LesionTables(lesion_columns(lesions, boxes, false_ml=false_ml), lesions, boxes)


def _first_voxels(core: np.ndarray, origin: tuple[int, ...]) -> list[Voxel]:
    """The first voxel of each lesion, in the image."""
    firsts = []
    for number, window in enumerate(ndimage.find_objects(core), start=1):
        inside = core[window] == number
        place = np.unravel_index(int(inside.argmax()), inside.shape)
        low = (axis.start + first for axis, first in zip(window, origin, strict=True))
        firsts.append(tuple(int(at) + start for at, start in zip(place, low, strict=True)))
    return firsts


def _in_order(
    lesions: list[Row], boxes: list[Row], lesion_starts: list[Voxel], box_starts: list[Voxel]
) -> tuple[list[Row], list[Row]]:
    """Rows by first voxel, numbered anew: those of a parted scan come part by part."""
    ranks = [
        {old: new for new, old in enumerate(sorted(range(len(starts)), key=starts.__getitem__))}
        for starts in (lesion_starts, box_starts)
    ]
    of_lesion: dict[int | None, int | None] = {None: None, **ranks[0]}
    rows = [{**row, "lesion": of_lesion[row["lesion"]]} for row in lesions]
    found = [
        {**row, "box": ranks[1][row["box"]], "lesion": of_lesion[row["lesion"]]} for row in boxes
    ]
    return sorted(rows, key=lambda row: row["lesion"]), sorted(found, key=lambda row: row["box"])


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


def _lesion_row(match: LesionMatch, number: int) -> Row:
    """A row of `lesions.csv`."""
    values = asdict(match)
    names = ("soft_dice", "soft_iou", "detected", "existence", "n_pred", "pred_volume_mm3")
    return {
        "lesion": number,
        "volume_mm3": match.volume_mm3,
        **{name: values[name] for name in names},
        **place_columns(match.box, match.centre),
    }


def _found_rows(
    scan: LesionScan, found: MatchedLesions, *, first: int, lesions: int
) -> tuple[list[Row], float]:
    """A row for each predicted lesion, and the volume of those that touch no true one, in mm³."""
    count = len(scan.pred)
    peaks = ndimage.maximum(scan.pred.values, scan.pred.core, np.arange(1, count + 1))
    boxes = _boxes(scan)
    touches = torch.from_numpy(scan.touches().toarray().astype(np.float64))
    shared = torch.from_numpy(scan.shared().toarray())
    quality = torch.where(touches > 0, 1 + shared, 0)
    scores = torch.from_numpy(np.asarray(peaks, dtype=np.float64).reshape(-1))
    rows, _ = match_boxes(boxes, scores, quality, threshold=1.0)
    for row in rows:
        row["box"] += first
        row["lesion"] = None if row["lesion"] is None else row["lesion"] + lesions
    false = scan.pred.sizes()[~(touches > 0).any(dim=0).numpy()] if count else np.zeros(0)
    return rows, float(false.sum()) * scan.voxel_mm3


def _boxes(scan: LesionScan) -> Tensor:
    """Tight boxes of the predicted lesions in the image."""
    windows = ndimage.find_objects(scan.pred.core, max_label=len(scan.pred))
    lows = [[axis.start for axis in window] for window in windows]
    highs = [[axis.stop for axis in window] for window in windows]
    corners = torch.tensor([low + high for low, high in zip(lows, highs, strict=True)])
    origin = torch.tensor([*scan.origin, *scan.origin], dtype=torch.float64)
    return corners.double().reshape(-1, 6) + origin
