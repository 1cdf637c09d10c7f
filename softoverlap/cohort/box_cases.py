"""Score cases in which a side is a file of boxes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from softoverlap.cohort.box_grid import place_boxes
from softoverlap.cohort.box_lesions import Marked, box_lesions, marked_by_boxes, marked_by_mask
from softoverlap.cohort.loading import LoadedMasks, load_masks, single_volume, voxel_volume
from softoverlap.cohort.pairing import ScorePair
from softoverlap.cohort.records import CaseResult, ScoreSettings
from softoverlap.cohort.results import CaseRows
from softoverlap.data import BoxFile, read_boxes


def score_boxes_in_masks(pair: ScorePair, pred: Path, settings: ScoreSettings) -> CaseResult:
    """Found boxes against the lesions of a mask or of raters.

    Args:
        pair: The files.
        pred: The file of the found boxes.
        settings: How to score.

    Returns:
        A row a label.
    """
    loaded = load_masks(None, pair.truth, settings)
    placed = place_boxes(
        read_boxes(pred),
        loaded.reference.affine,
        loaded.reference.grid,
        geometry=settings.geometry,
        names=(str(pred), loaded.names[1]),
    )
    warning = "; ".join(filter(None, (placed.warning, loaded.warning))) or None
    rows = CaseRows(pair, "boxes in masks", placed.displacement, warning)
    for label in settings.labels or (None,):
        found = _of_boxes(placed.file, label)
        truth = _of_mask(loaded, label, settings)
        rows.add(label, {}, box_lesions(found, truth, settings=settings))
    return rows.result()


def score_masks_in_boxes(pair: ScorePair, pred: Path, settings: ScoreSettings) -> CaseResult:
    """The lesions of a predicted mask against true boxes.

    Args:
        pair: The files.
        pred: The file of the mask.
        settings: How to score.

    Returns:
        A row a label.
    """
    settings = replace(settings, truth_values=settings.values)  # the one mask is the prediction
    loaded = load_masks(None, [pred], settings)
    single_volume(loaded.reference, pred)
    placed = place_boxes(
        read_boxes(pair.truth[0]),
        loaded.reference.affine,
        loaded.reference.grid,
        geometry=settings.geometry,
        names=(str(pair.truth[0]), str(pred)),
    )
    rows = CaseRows(pair, "masks in boxes", placed.displacement, placed.warning)
    for label in settings.labels or (None,):
        found = _of_mask(loaded, label, settings)
        rows.add(label, {}, box_lesions(found, _of_boxes(placed.file, label), settings=settings))
    return rows.result()


def score_box_files(pair: ScorePair, pred: Path, settings: ScoreSettings) -> CaseResult:
    """Found boxes against true boxes; the grid is that of the true ones.

    Args:
        pair: The files.
        pred: The file of the found boxes.
        settings: How to score.

    Returns:
        A row a label.
    """
    truth, found = read_boxes(pair.truth[0]), read_boxes(pred)
    edges = torch.cat([truth.boxes[:, 3:], torch.ones(1, 3, dtype=torch.float64)]).amax(dim=0)
    placed = place_boxes(
        found,
        truth.affine,
        [math.ceil(edge) for edge in edges.tolist()],
        geometry=settings.geometry,
        names=(str(pred), str(pair.truth[0])),
        flips=False,
    )
    rows = CaseRows(pair, "boxes", placed.displacement, placed.warning)
    for label in settings.labels or (None,):
        sides = _of_boxes(placed.file, label), _of_boxes(truth, label)
        rows.add(label, {}, box_lesions(*sides, settings=settings))
    return rows.result()


def _of_boxes(file: BoxFile, label: int | None) -> Marked:
    """The boxes of a label, or all."""
    if label is not None and len(file.boxes):
        if file.labels is None:
            raise ValueError(f"boxes of {file.case} must have labels where --labels are asked for")
        kept = file.labels == label
        scores = None if file.scores is None else file.scores[kept]
        file = BoxFile(file.boxes[kept], scores, file.labels[kept], file.affine, file.case)
    return marked_by_boxes(file, voxel_mm3=voxel_volume(file.affine))


def _of_mask(loaded: LoadedMasks, label: int | None, settings: ScoreSettings) -> Marked:
    """The lesions of the mask that is there."""
    return marked_by_mask(
        *loaded.truth(label, settings), spacing=loaded.reference.spacing, settings=settings
    )
