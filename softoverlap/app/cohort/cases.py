"""Score one case, from paths to rows of plain values."""

from __future__ import annotations

from pathlib import Path

import torch

from softoverlap.app.cohort.box_cases import (
    score_box_files,
    score_boxes_in_masks,
    score_masks_in_boxes,
    true_lesions,
)
from softoverlap.app.cohort.box_lesions import box_lesions
from softoverlap.app.cohort.classes import merges_classes
from softoverlap.app.cohort.hit_rule import is_any_voxel
from softoverlap.app.cohort.loading import load_masks
from softoverlap.app.cohort.marked import marked_by_mask
from softoverlap.app.cohort.mask_lesions import mask_lesions
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, ScoreSettings, failed, plain_result
from softoverlap.app.cohort.results import CaseRows
from softoverlap.app.cohort.sides import is_box_file
from softoverlap.app.cohort.voxels import mask_columns
from softoverlap.images import ReadLimits, current_limits, read_limits


def score_case(pair: ScorePair, settings: ScoreSettings | None = None) -> CaseResult:
    """Score one case: masks or boxes against masks or boxes.

    Two masks are compared voxel by voxel, and lesion by lesion. If a side is boxes, a lesion is hit
    by a box whose IoU with its tight box is high enough. Several masks of the truth, or a fourth
    axis, are raters: the truth is then their mean, lesions are those of their union, and existence
    is the share of raters that marked a lesion.

    Args:
        pair: The files.
        settings: How to score; the defaults if None.

    Returns:
        Rows of plain values; None means not defined. Notes on the files are in the column
        `warning`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the pair has an error, or a file cannot be read or does not fit the other.
            The message names the file.

    Examples:
        >>> import tempfile, torch
        >>> from softoverlap.images import save_nifti
        >>> path = Path(tempfile.mkdtemp()) / "mask.nii.gz"
        >>> mask = torch.zeros(8, 8, 8)
        >>> mask[2:5, 2:5, 2:5] = 0.8
        >>> save_nifti(path, mask, torch.eye(4))
        >>> result = score_case(ScorePair("sub-01", path, (path,)))
        >>> result.rows[0]["soft_dice"], result.rows[0]["lesions_found"]
        (1.0, 1)
    """
    settings = settings or ScoreSettings()
    if pair.error or pair.pred is None or not pair.truth:
        raise ValueError(f"case {pair.case} must have a prediction and a truth, got {pair.error}")
    true_boxes = [is_box_file(path) for path in pair.truth]
    if any(true_boxes) and len(true_boxes) > 1:
        raise ValueError(f"case {pair.case} must have one truth of boxes, got {len(true_boxes)}")
    score = _SCORERS[is_box_file(pair.pred), true_boxes[0]]
    return plain_result(score(pair, pair.pred, settings))


def score_safely(
    pair: ScorePair, settings: ScoreSettings, limits: ReadLimits | None = None
) -> CaseResult:
    """Score one case; any exception becomes the error of its row.

    Args:
        pair: The files.
        settings: How to score.
        limits: What reading a file may take, also in a process that was started for it; those
            that hold here if None.

    Returns:
        The result, or a row with the error.

    Examples:
        >>> pair = ScorePair("sub-01", Path("gone.nii"), (Path("gone.nii"),))
        >>> score_safely(pair, ScoreSettings()).error
        'gone.nii must be an image, found no such file'
    """
    if pair.error:
        return failed(pair.case, pair.error, pair)
    limits = limits or current_limits()
    try:
        with read_limits(read_timeout=limits.timeout, max_memory=limits.max_memory):
            return score_case(pair, settings)
    except (ValueError, OSError) as error:
        return failed(pair.case, _message(error), pair)
    except Exception as error:  # one case must not end the others
        return failed(pair.case, f"{type(error).__name__}: {error}", pair)


def _message(error: Exception) -> str:
    """The message; an argument that it begins with is marked as those in the middle are."""
    text, argument = str(error), getattr(error, "argument", "")
    begins = bool(argument) and text.startswith(argument)
    return f"`{argument}=`{text.removeprefix(argument)}" if begins else text


def _score_masks(pair: ScorePair, pred: Path, settings: ScoreSettings) -> CaseResult:
    """Mask against mask or raters; one row per label."""
    loaded = load_masks(pred, pair.truth, settings)
    spacing, voxel_mm3 = loaded.reference.lesion_spacing, loaded.reference.voxel_mm3
    merged = merges_classes(loaded.labels(settings), settings)
    rows = CaseRows(pair, "masks", loaded.displacement, loaded.notes, merged=merged)
    ignored, _ = loaded.ignored(settings)
    for label in settings.labels or (None,):
        prediction, on_prediction = loaded.prediction(label, settings)
        (truth, raters), on_truth = loaded.truth(label, settings)
        rows.note(*on_prediction, *on_truth)
        columns, statistics = mask_columns(
            prediction if ignored is None else torch.minimum(prediction, 1 - ignored), truth,
            voxel_mm3=voxel_mm3, threshold=settings.threshold,
        )  # fmt: skip
        if is_any_voxel(settings):
            tables = mask_lesions(
                prediction, truth, raters, spacing=spacing, settings=settings, ignored=ignored
            )
        else:
            found = marked_by_mask(prediction, None, spacing=spacing, settings=settings)
            lesions, _ = true_lesions(loaded, label, settings)
            tables = box_lesions(found, lesions, settings=settings, kind="masks")
        rows.add(label, columns, tables.moved(loaded.start), statistics)
    return rows.result()


_SCORERS = {
    (False, False): _score_masks,
    (True, False): score_boxes_in_masks,
    (False, True): score_masks_in_boxes,
    (True, True): score_box_files,
}
