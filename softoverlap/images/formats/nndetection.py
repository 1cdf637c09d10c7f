"""nnDetection's boxes: `(x1, y1, x2, y2, z1, z2)`, as npz or JSON.

Two things differ from our convention, as read in nnDetection's code (`nndet/core/boxes`,
`scripts/utils.py`):

- its axes are those of SimpleITK's arrays, the reverse of the file's, so its `x` is our last axis;
- a box goes from the voxel before the first to the voxel after the last: voxels `x1 + 1 ... x2 - 1`
  are inside, which is our half-open `[x1 + 1, x2)`.

nnDetection stores predictions as pickles, and a pickle can run code when it is opened, so they are
not read. In nnDetection's own environment, one line converts one to an npz file with the same keys
(`pred_boxes`, `pred_scores`, `pred_labels`, `itk_origin`, `itk_spacing`, `itk_direction`); the
error message contains it. `nndet_boxes2nii` writes JSON (`{"1": {"score": ..., "label": ..., "box":
[...]}}`) with coordinates truncated to integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap.images.files import whole_file
from softoverlap.images.formats import label_map, label_table
from softoverlap.images.formats.grids import affine_for
from softoverlap.images.formats.meaning import (
    MODES,
    UNITS,
    check_meaning,
    notes_on_others,
    others,
)
from softoverlap.images.formats.npz import load_npz
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    affine_of,
    case_of,
    check_ndim,
    checked_boxes,
    column,
    list_in,
    naming,
    number_rows,
    objects_in,
    only_file,
)
from softoverlap.images.noted import Noted
from softoverlap.images.texts import read_json, write_json

_ORDER = {2: [0, 1, 2, 3], 3: [0, 1, 3, 4, 2, 5]}
"""Columns of (minima, maxima) in nnDetection's order."""
_LPS = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
_OF_TABLE = (
    "pred_boxes", "pred_scores", "pred_labels", "restore", "original_size_of_raw_data",
    "itk_origin", "itk_spacing", "itk_direction",
)  # fmt: skip
_OF_INSTANCE = ("box", "score", "label")
PICKLES = (".pkl", ".pickle")


def refuse_pickle(path: Path) -> None:
    """Explain how to get a file that runs no code."""
    raise ValueError(
        f"{path} is a pickle, which can run code when it is opened, and is not read; in the "
        "environment that made it, save it as npz: import numpy, pickle; "
        f"numpy.savez('{path.stem}.npz', **{{k: v for k, v in "
        f"pickle.load(open('{path.name}', 'rb')).items() "
        "if k.startswith(('pred_', 'itk_', 'restore'))})"
    )


def write(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """Write one case as npz, or as JSON with the same keys."""
    file = only_file(path, files)
    content: dict[str, Any] = {"pred_boxes": _to_order(path, file).numpy()}
    if file.scores is not None:
        content["pred_scores"] = file.scores.numpy()
    if file.labels is not None:
        content["pred_labels"] = file.labels.numpy()
    affine = affine_for(path, file, hints)
    content |= {} if affine is None else _itk_grid(affine)
    if path.suffix.lower() == ".json":
        write_json(path, {key: value.tolist() for key, value in content.items()})
        return
    with whole_file(path) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, **content)


def _to_order(path: Path, file: BoxFile) -> Float64[Tensor, "boxes coords"]:
    ndim = check_ndim(path, file, *_ORDER)
    low, high = file.boxes.chunk(2, dim=1)
    return torch.cat([low.flip(1) - 1, high.flip(1)], dim=1)[:, _ORDER[ndim]]


def _from_order(rows: Tensor, ndim: int, path: Path) -> Noted[Float64[Tensor, "boxes coords"]]:
    back = [_ORDER[ndim].index(column) for column in range(2 * ndim)]
    low, high = rows[:, back].chunk(2, dim=1)
    if (high < low).any():
        wrong = rows[(high < low).any(dim=1)][0]
        raise ValueError(f"{path} must have x2 at or above x1, got {wrong.tolist()}")
    low, high = low.flip(1) + 1, high.flip(1)
    thin, notes = (high < low).any(dim=1), ()
    if thin.any():
        notes = (
            f"{path}: {int(thin.sum())} boxes hold no voxel (x2 - x1 below 1) and became flat",
        )
    middle = (low + high) / 2
    return torch.cat([low.minimum(middle), high.maximum(middle)], dim=1), notes


def _itk_grid(affine: Tensor) -> dict[str, np.ndarray]:
    """Origin, spacing and direction as in ITK, in LPS."""
    matrix = _LPS @ affine
    spacing = matrix[:3, :3].norm(dim=0)
    return {
        "itk_origin": matrix[:3, 3].numpy(),
        "itk_spacing": spacing.numpy(),
        "itk_direction": (matrix[:3, :3] / spacing).flatten().numpy(),
    }


def _affine(content: Mapping[str, Any], path: Path) -> Tensor | None:
    if "itk_origin" not in content:
        return None
    origin, spacing, direction = (
        np.asarray(content[f"itk_{key}"], dtype=np.float64).flatten().tolist()
        for key in ("origin", "spacing", "direction")
    )
    lengths = len(origin), len(spacing), len(direction)
    if lengths == (2, 2, 4):  # a 2D image
        return None
    if lengths != (3, 3, 9):
        raise ValueError(f"{path} must have an origin, spacing and direction in 3D, got {lengths}")
    rows = [
        [direction[3 * row + axis] * spacing[axis] for axis in range(3)] + [origin[row]]
        for row in range(3)
    ]
    affine = affine_of([*rows, [0.0, 0.0, 0.0, 1.0]], path)
    return None if affine is None else _LPS @ affine


def read(path: Path, hints: Hints) -> dict[str, BoxFile]:
    """Read the case of a file."""
    content = read_json(path) if label_table.is_json(path) else load_npz(path)
    if label_table.is_instances(content):  # classes, of a label map beside them
        return label_map.read(path, hints)
    with naming(path, "file of nnDetection's boxes"):
        notes = _checked(path, content)
        content = content if "pred_boxes" in content else _instances(content)
        file = _file(content, path)
    case = case_of(path, file)
    affine = affine_for(path, file, hints)
    return {case: replace(file, affine=affine, case=case, notes=(*notes, *file.notes))}


def _checked(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes on what is not read, where nothing says that the boxes are no voxels of nnDetection."""
    is_table = "pred_boxes" in content
    parts = [content] if is_table else objects_in(list(content.values()), "the list of boxes")
    check_meaning(path, parts, UNITS, "in voxels", ("voxel", "voxels"))
    check_meaning(path, parts, MODES, "as xyxyzz in voxels", ("xyxyzz", "xyxy"))
    known = _OF_TABLE if is_table else _OF_INSTANCE
    return notes_on_others(path, others(parts, (*known, *UNITS, *MODES)))


def _instances(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `nndet_boxes2nii` writes, as columns."""
    rows = objects_in(list(content.values()), "the list of boxes")
    return {
        "pred_boxes": [row["box"] for row in rows],
        "pred_scores": [row["score"] for row in rows],
        "pred_labels": [row["label"] for row in rows],
    }


def _file(content: Mapping[str, Any], path: Path) -> BoxFile:
    if content.get("restore", True) not in (True, 1):
        raise ValueError(
            f"{path} must hold boxes of the original image, got those of the preprocessed one "
            "(restore is False)"
        )
    rows = list_in(content["pred_boxes"], "pred_boxes")
    width = len(rows[0]) if rows and rows[0] else 6
    if width not in (4, 6):
        raise ValueError(f"{path} must hold 4 or 6 numbers a box, got {width}")
    boxes = number_rows([row for row in rows if row], width, path)
    boxes, notes = _from_order(boxes, width // 2, path)
    return BoxFile(
        checked_boxes(boxes, path),
        column(content.get("pred_scores"), "score", len(boxes), path),
        column(content.get("pred_labels"), "label", len(boxes), path, whole=True),
        _affine(content, path),
        notes=notes,
    )
