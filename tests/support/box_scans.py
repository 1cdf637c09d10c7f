"""Files of boxes and masks on one grid, scored: small scans that are checked by hand."""

from __future__ import annotations

import torch

from softoverlap.app.cohort import ScorePair, ScoreSettings, score_case
from softoverlap.images import BoxFile, save_nifti, write_box_files


def affine_of(spacing):
    return torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))


def as_boxes(boxes):
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 6)


def box_file(path, boxes, *, scores=None, labels=None, spacing=(1.0, 1.0, 1.0), **fields):
    """Write a file of boxes; without a spacing it has no affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = BoxFile(
        as_boxes(boxes),
        None if scores is None else torch.tensor(scores, dtype=torch.float64),
        None if labels is None else torch.tensor(labels, dtype=torch.int64),
        None if spacing is None else affine_of(spacing),
        case=path.name.partition(".")[0],
        **fields,
    )
    write_box_files(path, {file.case: file}, format="json")
    return path


def mask_file(path, boxes, *, value=1.0, shape=(48, 24, 24), spacing=(1.0, 1.0, 1.0)):
    """Write a mask that fills these boxes: with one value, or with one each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = torch.zeros(shape)
    values = value if isinstance(value, list) else [value] * len(boxes)
    for (a, b, c, d, e, f), level in zip(boxes, values, strict=True):
        mask[a:d, b:e, c:f] = level
    save_nifti(path, mask, affine_of(spacing))
    return path


def scored(pred, truth, case="a", **settings):
    return score_case(ScorePair(case, pred, (truth,)), ScoreSettings(**settings))


def outcomes(result):
    return [row["outcome"] for row in result.boxes]
