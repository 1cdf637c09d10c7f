"""Score cases in which a side is a file of boxes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softoverlap.app.cohort.box_grid import check_3d, place_boxes
from softoverlap.app.cohort.box_lesions import Marked, box_lesions, marked_by_boxes, marked_by_mask
from softoverlap.app.cohort.loading import LoadedMasks, load_masks
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, ScoreSettings
from softoverlap.app.cohort.results import CaseRows
from softoverlap.images import FORMATS, BoxFile, read_box_files
from softoverlap.images.formats.choice import format_of
from softoverlap.images.formats.record import bare_name
from softoverlap.images.geometry import check_one_channel, voxel_volume


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
        read_case_boxes(pred, pair.case, loaded.reference.affine),
        loaded.reference.affine,
        loaded.reference.grid,
        geometry=settings.geometry,
        names=(str(pred), loaded.names[1]),
    )
    warning = "; ".join(filter(None, (placed.warning, loaded.warning))) or None
    rows = CaseRows(pair, "boxes in masks", placed.displacement, warning)
    for label in settings.labels or (None,):
        boxes, lesions = _of_boxes(placed.file, label), _of_mask(loaded, label, settings)
        rows.add(label, {}, box_lesions(boxes, lesions, settings=settings))
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
    check_one_channel(loaded.reference, name=str(pred))
    placed = place_boxes(
        read_case_boxes(pair.truth[0], pair.case, loaded.reference.affine),
        loaded.reference.affine,
        loaded.reference.grid,
        geometry=settings.geometry,
        names=(str(pair.truth[0]), str(pred)),
    )
    rows = CaseRows(pair, "masks in boxes", placed.displacement, placed.warning)
    for label in settings.labels or (None,):
        lesions, boxes = _of_mask(loaded, label, settings), _of_boxes(placed.file, label)
        rows.add(label, {}, box_lesions(lesions, boxes, settings=settings))
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
    affine = _affine_for_mm(pair.truth[0], pred, pair.case)
    truth = read_case_boxes(pair.truth[0], pair.case, affine)
    check_3d(truth, str(pair.truth[0]))
    boxes = read_case_boxes(pred, pair.case, truth.affine)
    edges = torch.cat([truth.boxes[:, 3:], torch.ones(1, 3, dtype=torch.float64)]).amax(dim=0)
    placed = place_boxes(
        boxes,
        truth.affine,
        [math.ceil(edge) for edge in edges.tolist()],
        geometry=settings.geometry,
        names=(str(pred), str(pair.truth[0])),
        flips=False,
    )
    if truth.affine is None:  # they are taken to share a grid, so voxels have one size
        truth = replace(truth, affine=placed.file.affine)
    rows = CaseRows(pair, "boxes", placed.displacement, placed.warning)
    for label in settings.labels or (None,):
        sides = _of_boxes(placed.file, label), _of_boxes(truth, label)
        rows.add(label, {}, box_lesions(*sides, settings=settings))
    return rows.result()


def read_case_boxes(path: Path, case: str, affine: Tensor | None) -> BoxFile:
    """The boxes of a case, of a file of one case or of many; never those of another case.

    Args:
        path: The file, of any format that tells itself.
        case: Name of the case.
        affine: Voxel indices of the other side to RAS mm, for a format in mm (3D Slicer), or None.

    Returns:
        Boxes in voxels. A table without a row of the case has none, with a warning. A file
        of one case is taken for the case; a warning tells if it says that it is another's, unless
        the file is called as that one.

    Raises:
        ValueError: If a list of many cases does not hold this one, or a table names no case and is
            not called as it.
    """
    kind = format_of(path)
    options: dict[str, Any] = {"affine": affine} if kind == "slicer" and affine is not None else {}
    files = read_box_files(path, format=kind, **options)
    if case in files:
        return files[case]
    if FORMATS[kind].many and not (len(files) == 1 and _is_unnamed(path, case, files)):
        return _no_boxes(path, case, kind, files)
    (file,) = files.values()
    if file.case not in (None, case, _file_case(path)):
        warnings.warn(f"{path} says that it is of case {file.case}, not {case}", stacklevel=2)
    return file


def _affine_for_mm(truth: Path, pred: Path, case: str) -> Tensor | None:
    """The affine with which a true file in mm is read: that of the found boxes, or millimetres."""
    if format_of(truth) != "slicer":
        return None
    if format_of(pred) == "slicer":
        return torch.eye(4, dtype=torch.float64)
    affine = read_case_boxes(pred, case, None).affine
    if affine is None:
        raise ValueError(f"{pred} must tell its affine where {truth} is in mm, found none")
    return affine


def _file_case(path: Path) -> str:
    """The case that a file is called as."""
    return bare_name(path).removesuffix("_boxes")


def _is_unnamed(path: Path, case: str, files: Mapping[str, BoxFile]) -> bool:
    """Whether a table without names of cases is that of this case by its own name."""
    (file,) = files.values()
    return file.case is None and case in _file_case(path)


def _no_boxes(path: Path, case: str, kind: str, files: Mapping[str, BoxFile]) -> BoxFile:
    """What a file of many cases says of one that is not in it."""
    names = ", ".join(list(files)[:5]) + (", ..." if len(files) > 5 else "")
    if kind != "csv":  # these list cases without boxes too
        raise ValueError(f"{path} must hold the case {case!r}, got {len(files)}: {names}")
    if any(file.case is None for file in files.values()):
        raise ValueError(
            f"{path} must name the case of each row in its column case, or be called as the one "
            f"that it is of, to be read for {case!r}"
        )
    content = f"it has rows of {names}" if files else "it has no rows"
    warnings.warn(f"{path} has no row of {case}, which counts as no boxes: {content}", stacklevel=3)
    width = next((file.boxes.shape[1] for file in files.values()), 6)
    return BoxFile(torch.zeros(0, width, dtype=torch.float64), case=case)


def _of_boxes(file: BoxFile, label: int | None) -> Marked:
    """The boxes of a label, or all."""
    if label is not None and len(file.boxes):
        if file.labels is None:
            raise ValueError(f"boxes of {file.case} must have labels where --labels are asked for")
        kept = file.labels == label
        scores = None if file.scores is None else file.scores[kept]
        file = BoxFile(file.boxes[kept], scores, file.labels[kept], file.affine, file.case)
    return marked_by_boxes(
        file, voxel_mm3=math.nan if file.affine is None else voxel_volume(file.affine)
    )


def _of_mask(loaded: LoadedMasks, label: int | None, settings: ScoreSettings) -> Marked:
    """The lesions of the mask that is there."""
    return marked_by_mask(
        *loaded.truth(label, settings), spacing=loaded.reference.lesion_spacing, settings=settings
    )
