"""Score cases in which a side is a file of boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from softoverlap.app.cohort.box_grid import check_3d, place_boxes
from softoverlap.app.cohort.box_lesions import box_lesions
from softoverlap.app.cohort.classes import merges_classes
from softoverlap.app.cohort.loading import LoadedMasks, load_masks
from softoverlap.app.cohort.marked import Marked, marked_by_boxes, marked_by_mask
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.patterns import one_form
from softoverlap.app.cohort.points import check_sizes
from softoverlap.app.cohort.records import CaseResult, ScoreSettings
from softoverlap.app.cohort.results import CaseRows
from softoverlap.images import (
    FORMATS,
    BoxFile,
    Hints,
    Noted,
    bare_name,
    check_one_channel,
    format_of,
    is_in_mm,
    lesion_spacing,
    listed_cases,
    noted_box_files,
)

BOXES, BOXES_IN_MASKS, MASKS_IN_BOXES = "boxes", "boxes in masks", "masks in boxes"
"""What is compared, as the column `kind` has it."""


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
        _asked_boxes(pred, pair.case, loaded.reference.affine, settings),
        loaded.reference.affine,
        loaded.reference.grid,
        geometry=settings.geometry,
        names=(str(pred), loaded.names[1]),
    )
    notes = (*placed.notes, *loaded.notes, *placed.file.notes)
    merged = merges_classes(chain(loaded.labels(settings), [placed.file.labels]), settings)
    rows = CaseRows(pair, BOXES_IN_MASKS, placed.displacement, notes, merged=merged)
    for label in settings.labels or (None,):
        boxes = _of_boxes(placed.file, label)
        truth, on_truth = true_lesions(loaded, label, settings)
        rows.note(*on_truth)
        tables = box_lesions(boxes, truth, settings=settings, kind=BOXES_IN_MASKS)
        rows.add(label, {}, tables.moved(loaded.start))
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
    # the one mask is the prediction
    of_pred = replace(settings, truth_values=settings.values, ignore=())
    loaded = replace(load_masks(None, [pred], of_pred), truth_argument="values")
    check_one_channel(loaded.reference, name=str(pred))
    placed = place_boxes(
        _asked_boxes(pair.truth[0], pair.case, loaded.reference.affine, settings, is_truth=True),
        loaded.reference.affine,
        loaded.reference.grid,
        geometry=settings.geometry,
        names=(str(pair.truth[0]), str(pred)),
    )
    notes = (*placed.notes, *loaded.notes, *placed.file.notes)
    merged = merges_classes(chain(loaded.labels(of_pred), [placed.file.labels]), settings)
    rows = CaseRows(pair, MASKS_IN_BOXES, placed.displacement, notes, merged=merged)
    for label in settings.labels or (None,):
        lesions, on_prediction = _of_mask(loaded, label, of_pred)
        rows.note(*on_prediction)
        truth = _of_boxes(placed.file, label, ignore=settings.ignore)
        rows.add(label, {}, box_lesions(lesions, truth, settings=settings, kind=MASKS_IN_BOXES))
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
    truth = _asked_boxes(pair.truth[0], pair.case, affine, settings, is_truth=True)
    check_3d(truth, str(pair.truth[0]))
    predicted = _asked_boxes(pred, pair.case, truth.affine, settings)
    edges = torch.cat([truth.boxes[:, 3:], torch.ones(1, 3, dtype=torch.float64)]).amax(dim=0)
    placed = place_boxes(
        predicted,
        truth.affine,
        [math.ceil(edge) for edge in edges.tolist()],
        geometry=settings.geometry,
        names=(str(pred), str(pair.truth[0])),
        flips=False,
    )
    if truth.affine is None:  # they are taken to share a grid, so voxels have one size
        truth = replace(truth, affine=placed.file.affine)
    notes = (*placed.notes, *truth.notes, *predicted.notes)
    merged = merges_classes([placed.file.labels, truth.labels], settings)
    rows = CaseRows(pair, BOXES, placed.displacement, notes, merged=merged)
    if truth.affine is None:
        rows.note(_NO_SPACING)
    for label in settings.labels or (None,):
        sides = _of_boxes(placed.file, label), _of_boxes(truth, label, ignore=settings.ignore)
        rows.add(label, {}, box_lesions(*sides, settings=settings, kind=BOXES))
    return rows.result()


_NO_SPACING = (
    "the boxes have no affine: volumes are unknown, and a voxel counts as 1 mm where lesions are "
    "too large for a box or found by their centre"
)


def read_case_boxes(path: Path, case: str, affine: Tensor | None) -> BoxFile:
    """The boxes of a case, from a file of one case or of many.

    Args:
        path: The file, in any format that can be recognised.
        case: Name of the case.
        affine: Voxel indices of the other side to RAS mm, for boxes in mm (3D Slicer's,
            LUNA16's), or None.

    Returns:
        Boxes in voxels, with notes; points of a list are boxes without size. A table without a row
        of the case means no boxes, with a note.
        A file of one case is used for this case; a note says if its content names another, unless
        the file is named after that one.

    Raises:
        ValueError: If a list of many cases lacks this one, a table names no case and is not named
            after it, or boxes are in mm and there is no affine.
    """
    kind = format_of(path)
    in_mm = is_in_mm(path, kind)
    if in_mm and affine is None:
        raise ValueError(
            f"{path} needs the affine of {case}, since it is in mm, and the other side has none: "
            "bring it into voxels first, and name the scan with `image=`"
        )
    hints = Hints(affine=affine, case=case, points=True) if in_mm else Hints()
    stored = noted_box_files(path, kind, hints)
    files = {one_form(name): file for name, file in stored.items()}
    if case in files:
        return files[case]
    if FORMATS[kind].many and not (len(files) == 1 and _is_unnamed(path, case, files)):
        return replace(_no_boxes(path, case, kind, files), affine=affine if in_mm else None)
    (file,) = files.values()
    if file.case is not None and one_form(file.case) not in (case, one_form(_file_case(path))):
        return _with_note(file, f"{path} says that it is of case {file.case}, not {case}")
    return file


def _asked_boxes(
    path: Path,
    case: str,
    affine: Tensor | None,
    settings: ScoreSettings,
    *,
    is_truth: bool = False,
) -> BoxFile:
    """The boxes of a case; none may be of a label that is not scored, where it would vanish."""
    file = read_case_boxes(path, case, affine)
    check_sizes(path, case, file, settings, is_truth=is_truth)
    if settings.labels and file.labels is not None:
        others = set(file.labels.tolist()) - {*settings.labels, *settings.ignore}
        if others:
            asked, got = (", ".join(map(str, sorted(one))) for one in (settings.labels, others))
            raise ValueError(
                f"{path} must hold boxes of `labels=` {asked} alone, got boxes labelled {got}: "
                "label each with the value of its class in label maps, which count from 1, or "
                "name all labels in `labels=` or `ignore=`"
            )
    return file


def _with_note(file: BoxFile, note: str) -> BoxFile:
    return replace(file, notes=(*file.notes, note))


def _affine_for_mm(truth: Path, pred: Path, case: str) -> Tensor | None:
    """The affine to read a true file in mm: that of the predicted boxes, or millimetres."""
    if not is_in_mm(truth, format_of(truth)):
        return None
    if is_in_mm(pred, format_of(pred)):
        return torch.eye(4, dtype=torch.float64)
    affine = read_case_boxes(pred, case, None).affine
    if affine is None:
        raise ValueError(f"{pred} must have an affine, since {truth} is in mm, found none")
    return affine


def _file_case(path: Path) -> str:
    """The case that a file is named after."""
    return bare_name(path).removesuffix("_boxes")


def _is_unnamed(path: Path, case: str, files: Mapping[str, BoxFile]) -> bool:
    """Whether a table without case names is named after this case."""
    (file,) = files.values()
    return file.case is None and case in _file_case(path)


def _no_boxes(path: Path, case: str, kind: str, files: Mapping[str, BoxFile]) -> BoxFile:
    """The boxes of a case that a file of many does not list."""
    listed = listed_cases(path) if kind == "csv" else tuple(files)
    names = ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
    if kind != "csv":  # other formats list cases without boxes too
        raise ValueError(f"{path} must hold the case {case!r}, got {len(files)}: {names}")
    if any(file.case is None for file in files.values()):
        raise ValueError(
            f"{path} must name the case of each row in its column case, or be named after its "
            f"case, to be read for {case!r}"
        )
    rows = f"it has rows of {names}" if names else "it has no rows"
    width = next((file.boxes.shape[1] for file in files.values()), 6)
    empty = BoxFile(torch.zeros(0, width, dtype=torch.float64), case=case)
    return _with_note(empty, f"{path} has no row of {case}, which counts as no boxes: {rows}")


def _of_boxes(file: BoxFile, label: int | None, *, ignore: Sequence[int] = ()) -> Marked:
    """The boxes of a label, or all, and those of labels that are ignored."""
    if label is not None or ignore:
        file = _labelled(file, label, ignore)
    edges = None if file.affine is None else lesion_spacing(file.affine)
    return marked_by_boxes(file, spacing=edges)


def _labelled(file: BoxFile, label: int | None, ignore: Sequence[int]) -> BoxFile:
    if not len(file.boxes):
        return file
    if file.labels is None:
        argument = "ignore" if label is None else "labels"
        raise ValueError(
            f"boxes of {file.case} must have labels to select them with `{argument}=`, found none"
        )
    ignored = torch.isin(file.labels, torch.tensor(ignore, dtype=file.labels.dtype))
    kept = torch.ones_like(ignored) if label is None else ignored | (file.labels == label)
    if file.ignored is not None:
        ignored |= file.ignored
    return replace(
        file,
        boxes=file.boxes[kept],
        scores=None if file.scores is None else file.scores[kept],
        labels=file.labels[kept],
        ignored=ignored[kept],
    )


def true_lesions(loaded: LoadedMasks, label: int | None, settings: ScoreSettings) -> Noted[Marked]:
    """The lesions of the truth, and those of labels that are ignored.

    Args:
        loaded: The masks of the case.
        label: The label that is scored, or None.
        settings: How to read values, and which labels are ignored.

    Returns:
        The lesions, with notes.
    """
    lesions, notes = _of_mask(loaded, label, settings)
    ignored, _ = loaded.ignored(settings)
    if ignored is None:
        return lesions, notes
    spacing = loaded.reference.lesion_spacing
    of_any_size = replace(settings, min_mm3=0.0)
    others = marked_by_mask(ignored, None, spacing=spacing, settings=of_any_size)
    return lesions.with_ignored(others), notes


def _of_mask(loaded: LoadedMasks, label: int | None, settings: ScoreSettings) -> Noted[Marked]:
    """The lesions of the mask that is there."""
    (mask, raters), notes = loaded.truth(label, settings)
    spacing = loaded.reference.lesion_spacing
    return marked_by_mask(mask, raters, spacing=spacing, settings=settings), notes
