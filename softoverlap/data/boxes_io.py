"""Boxes as JSON: our own files, in voxels with the affine beside them.

A file is one JSON object:

| key | value |
| --- | --- |
| `format`, `version` | `"softoverlap-boxes"`, 1 |
| `case` | name of the scan, or null |
| `coordinates` | says in words: voxel corners, half-open, voxel `i` fills `[i, i + 1)` |
| `ndim` | number of axes |
| `axes` | names of a box's numbers: all minima, then all maxima, in tensor axis order |
| `affine` | rows of the (4, 4) affine from voxel indices (centres) to RAS mm, or null |
| `boxes` | a list of objects: `box` (2 · ndim numbers), and if known `score` and `label` |

Numbers are written so that they read back exactly.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors
from softoverlap._types import Boxes, plain
from softoverlap.data.files import whole_file
from softoverlap.data.geometry import check_affine

FORMAT = "softoverlap-boxes"
VERSION = 1


@dataclass(frozen=True)
class BoxFile:
    """What a file of boxes holds.

    Args:
        boxes: Boxes in voxels, float64, shape (N, 2 * ndim).
        scores: A score per box, float64, shape (N,), or None.
        labels: A class per box, shape (N,), or None.
        affine: Voxel indices to RAS mm, float64, shape (4, 4), or None.
        case: Name of the scan, or None.

    Examples:
        >>> BoxFile(torch.zeros(0, 6, dtype=torch.float64)).scores is None
        True
    """

    boxes: Float64[Tensor, "boxes coords"]
    scores: Float64[Tensor, "boxes"] | None = None
    labels: Int64[Tensor, "boxes"] | None = None
    affine: Float64[Tensor, "4 4"] | None = None
    case: str | None = None


def write_boxes(
    path: str | os.PathLike[str],
    boxes: Boxes,
    *,
    scores: Shaped[Tensor, "boxes"] | None = None,
    labels: Shaped[Tensor, "boxes"] | None = None,
    affine: Shaped[Tensor, "4 4"] | None = None,
    case: str | None = None,
) -> None:
    """Write boxes as JSON, whole or not at all, so that they read back exactly.

    Args:
        path: The file; an existing one is replaced.
        boxes: Boxes in voxels, shape (N, 2 * ndim); N may be 0.
        scores: A score per box, shape (N,).
        labels: A class per box, integers, shape (N,).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        case: Name of the scan.

    Raises:
        TypeError: If boxes, scores, labels or affine is not a tensor, or labels are no integers.
        ValueError: If a shape is wrong, a box is inverted or a value is not finite.
        FileNotFoundError: If the folder does not exist.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "boxes.json"
        >>> write_boxes(path, torch.tensor([[0.5, 4.0]]), scores=torch.tensor([0.9]))
        >>> read_boxes(path).boxes
        tensor([[0.5000, 4.0000]], dtype=torch.float64)
    """
    check_boxes(boxes=boxes, validate=True)
    ndim, count = boxes.shape[1] // 2, len(boxes)
    rows: list[dict[str, Any]] = [{"box": row} for row in plain(boxes).double().tolist()]
    for row, score in zip(rows, _numbers("scores", scores, count), strict=False):
        row["score"] = float(score)
    for row, label in zip(rows, _numbers("labels", labels, count, whole=True), strict=False):
        row["label"] = int(label)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "case": case,
        "coordinates": "voxel corners, half-open: voxel i fills [i, i + 1)",
        "ndim": ndim,
        "axes": [f"axis{axis}_{end}" for end in ("min", "max") for axis in range(ndim)],
        "affine": None if affine is None else check_affine(affine).tolist(),
        "boxes": rows,
    }
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def read_boxes(path: str | os.PathLike[str]) -> BoxFile:
    """Read boxes that `write_boxes` wrote.

    Args:
        path: The file.

    Returns:
        Boxes in voxels, with scores, labels, affine and case where the file has them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not of this format; the message names the file and what is wrong.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "boxes.json"
        >>> write_boxes(path, torch.zeros(0, 6), case="sub-01")
        >>> found = read_boxes(path)
        >>> found.boxes.shape, found.case
        (torch.Size([0, 6]), 'sub-01')
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a JSON file of boxes, found no such file")
    content = _content(path)
    try:
        return _box_file(content, path)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} must be a JSON file of boxes, got {reason}") from error


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON file, got: {error}") from error
    kind = content.get("format") if isinstance(content, dict) else type(content).__name__
    if kind != FORMAT:
        raise ValueError(f"{path} must have the format {FORMAT!r}, got {kind!r}")
    if content.get("version") != VERSION:
        raise ValueError(f"{path} must have version {VERSION}, got {content.get('version')!r}")
    return content


def _box_file(content: dict[str, Any], path: Path) -> BoxFile:
    rows, ndim = content["boxes"], content["ndim"]
    if type(ndim) is not int or ndim < 1:
        raise ValueError(f"{path} must have a whole number of axes as ndim, got {ndim!r}")
    boxes = [row["box"] for row in rows]
    widths = {len(box) for box in boxes} - {2 * ndim}
    if widths:
        raise ValueError(f"{path} must hold {2 * ndim} numbers a box, got {sorted(widths)}")
    if any(isinstance(number, list) for box in boxes for number in box):
        raise ValueError(f"{path} must have numbers as box, got lists in it")
    tensor = _tensor(boxes, "box", path).reshape(-1, 2 * ndim)
    check_boxes(validate=True, ndim=ndim, **{f"boxes of {path}": tensor})
    affine = content["affine"]
    if affine is not None:
        affine = _tensor(affine, "affine", path)
        affine = check_affine(affine, name=f"affine of {path}")
    return BoxFile(
        tensor,
        _column(rows, "score", torch.float64, path),
        _column(rows, "label", torch.int64, path),
        affine,
        content["case"],
    )


def _tensor(values: Any, key: str, path: Path, dtype: torch.dtype = torch.float64) -> Tensor:
    try:
        return torch.tensor(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path} must have numbers as {key}, got: {error}") from error


def _column(
    rows: Sequence[dict[str, Any]], key: str, dtype: torch.dtype, path: Path
) -> Tensor | None:
    """One number of each box; None if no box has it."""
    known = [row[key] for row in rows if key in row]
    if len(known) not in (0, len(rows)):
        raise ValueError(f"{path} must have a {key} in all boxes or none, got {len(known)}")
    if not known:
        return None
    kinds, words = ((int,), "whole") if dtype == torch.int64 else ((int, float), "finite")
    if not all(type(value) in kinds and math.isfinite(value) for value in known):
        raise ValueError(f"{path} must have {words} numbers as {key}, got {known}")
    return _tensor(known, key, path, dtype)


def _numbers(name: str, values: Tensor | None, count: int, *, whole: bool = False) -> list[Any]:
    """The values as a list, empty for None."""
    if values is None:
        return []
    check_tensors(**{name: values})
    if tuple(values.shape) != (count,):
        raise ValueError(f"{name} must have shape ({count},), got {tuple(values.shape)}")
    if whole and (values.is_floating_point() or values.is_complex()):
        raise TypeError(f"{name} must be integers, got dtype {values.dtype}")
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} must hold finite values, got NaN or infinity")
    return plain(values).detach().cpu().tolist()
