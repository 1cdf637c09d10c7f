"""Lesions of a predicted mask against those of the true one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from softoverlap.app.cohort.hit_rule import IGNORED, why_not_counted
from softoverlap.app.cohort.islands import islands, near_by
from softoverlap.app.cohort.matches import LesionMatches, left_out
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.app.cohort.tables import LesionTables, Row, place_columns
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
    without_small,
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
    ignored: Tensor | None = None,
) -> LesionTables:
    """Match the lesions of two masks: a lesion is found if a predicted one shares a voxel with it.

    It is found by the one of the highest score; a predicted lesion may find several, and is a hit
    wherever it touches one that counts.

    Args:
        pred: Probabilities, shape (D, H, W).
        truth: Probabilities, same shape.
        raters: Masks of the raters, shape (R, D, H, W); lesions are then those of their union.
        ignored: Mask of lesions that do not count, which `truth` does not hold.
        spacing: Edges of a voxel in mm.
        settings: The threshold, the halo and the smallest lesion.

    Returns:
        Rows of true lesions, and the outcomes of predicted ones, each in the order of their first
        voxel; the score of a predicted one is its highest probability.

    Examples:
        >>> mask = torch.zeros(4, 4, 4)
        >>> mask[1:3, 1:3, 1:3] = 0.8
        >>> tables = mask_lesions(mask, mask, None, spacing=[1, 1, 1], settings=ScoreSettings())
        >>> tables.columns["lesions_found"], tables.matches.outcomes.box_of_lesion
        (1, [0])
    """
    rules = LesionRules(
        threshold=settings.threshold,
        halo=min(settings.halo, settings.threshold),
        min_mm3=settings.min_mm3,
    )
    lesions: list[Row] = []
    starts: tuple[list[Voxel], list[Voxel]] = [], []
    parts: list[Outcomes] = []
    away: list[str | None] = []
    volumes: list[float] = []
    for sides in _scans(pred, truth, raters, ignored, spacing, rules):
        scans = [(scan, matched_lesions(scan)) for scan in sides]
        part = [_lesion_row(row) for scan in scans for row in lesion_rows(0, 0, *scan)]
        reasons = _reasons(part, len(scans[0][0].truth), spacing, settings)
        outcomes, hits = _outcomes(scans, [bool(reason) for reason in reasons])
        peaks = torch.where(hits, outcomes.scores, -torch.inf)
        for row, reason, own in zip(part, reasons, peaks, strict=True):
            row |= {"not_counted": reason or None, "score": _highest(own)}
        lesions += part
        parts.append(outcomes)
        away += left_out(outcomes, hits, reasons)
        first = scans[0][0]
        volumes += (first.pred.sizes() * first.voxel_mm3).tolist()
        for scan, _ in scans:
            starts[0].extend(_first_voxels(scan.truth.core, scan.origin))
        starts[1].extend(_first_voxels(first.pred.core, first.origin))
    of_truth, of_pred = (sorted(range(len(side)), key=side.__getitem__) for side in starts)
    lesions = [{"lesion": number, **lesions[row]} for number, row in enumerate(of_truth)]
    outcomes = Outcomes.joined(parts or _NOTHING).as_one_scan(of_pred, of_truth)
    matches = LesionMatches(
        "masks", outcomes, [volumes[row] for row in of_pred], [away[row] for row in of_pred]
    )
    return LesionTables(lesions, matches)


def _reasons(
    lesions: Sequence[Row], counted: int, spacing: Sequence[float], settings: ScoreSettings
) -> list[str]:
    """Why each lesion does not count, empty if it does; those after the counted are ignored."""
    reasons = []
    for number, row in enumerate(lesions):
        edges = (
            (row[f"axis{axis}_max"] - row[f"axis{axis}_min"]) * edge
            for axis, edge in enumerate(spacing)
        )
        own = why_not_counted(max(edges), row["existence"], settings, boxes=False)
        reasons.append(own if number < counted else IGNORED)
    return reasons


def _highest(scores: Tensor) -> float | None:
    """The highest of the scores, None where no predicted lesion touches."""
    highest = float(scores.max()) if len(scores) else -math.inf
    return highest if highest > -math.inf else None


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
    ignored: Tensor | None,
    spacing: Sequence[float],
    rules: LesionRules,
) -> Iterator[list[LesionScan]]:
    """The parts of the scan with places in the whole image: against the truth, and the ignored."""
    stack = [] if raters is None else [rater.numpy() for rater in raters]
    sides = [truth.numpy()] if ignored is None else [truth.numpy(), ignored.numpy()]
    masks = [pred.numpy(), *sides, *stack]
    parts = islands(
        [(mask, rules.halo) for mask in masks], [(mask, rules.threshold) for mask in masks]
    )
    for window in parts:
        cuts = [torch.from_numpy(near_by(mask, window)) for mask in masks]
        marks = torch.stack(cuts[1 + len(sides) :]) if stack else None
        scans = [
            lesion_scan(
                cuts[0], cuts[1 + side], rules=replace(rules, min_mm3=0.0), spacing=spacing,
                raters=None if side else marks,
            )
            for side in range(len(sides))
        ]  # fmt: skip
        if rules.min_mm3:  # what is left of the prediction depends on both sides
            scans = without_small(scans, rules.min_mm3)
        yield [_placed(scan, window) for scan in scans]


def _placed(scan: LesionScan, window: tuple[slice, ...]) -> LesionScan:
    origin = tuple(
        first + (axis.start or 0) for first, axis in zip(scan.origin, window, strict=True)
    )
    return LesionScan(scan.pred, scan.truth, origin, scan.voxel_mm3)


def _lesion_row(match: LesionMatch) -> Row:
    """A row of `lesions.csv`, less its number."""
    names = ("soft_dice", "soft_iou", "detected", "existence", "n_pred", "pred_volume_mm3")
    return {
        "volume_mm3": match.volume_mm3,
        **{name: getattr(match, name) for name in names},
        **place_columns(match.box, match.centre),
    }


def _outcomes(
    scans: Sequence[tuple[LesionScan, MatchedLesions]], ignored: Sequence[bool]
) -> tuple[Outcomes, Tensor]:
    """What hits what: a lesion all that it touches, of these best what it shares most with."""
    pred = scans[0][0].pred
    touches = torch.cat([torch.from_numpy(scan.touches().toarray() > 0) for scan, _ in scans])
    outcomes = match_quality(
        torch.cat([torch.from_numpy(scan.shared().toarray()) for scan, _ in scans]),
        touches,
        boxes=_boxes(pred, scans[0][0].origin),
        scores=torch.tensor(_peaks(pred), dtype=torch.float64),
        lesion_boxes=torch.cat([_boxes(scan.truth, scan.origin) for scan, _ in scans]),
        existence=[share for scan, _ in scans for share in scan.truth.existence.tolist()],
        sizes=[mm3 for _, matched in scans for mm3 in matched.volumes.tolist()],
        ignored=torch.tensor(ignored, dtype=torch.bool),
        shared=True,
    )
    return outcomes, touches


def _peaks(lesions: LesionMap) -> list[float]:
    """The highest probability of each lesion."""
    windows = enumerate(ndimage.find_objects(lesions.core, max_label=len(lesions)), start=1)
    return [float(lesions.values[at][lesions.core[at] == number].max()) for number, at in windows]


def _boxes(lesions: LesionMap, origin: tuple[int, ...]) -> Tensor:
    """Tight boxes of lesions in the image."""
    windows = ndimage.find_objects(lesions.core, max_label=len(lesions))
    corners = [[*(a.start for a in window), *(a.stop for a in window)] for window in windows]
    return torch.tensor(corners).double().reshape(-1, 6) + torch.tensor([*origin, *origin])
