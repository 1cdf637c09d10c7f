"""The record that every format reads and writes, and the checks that all readers share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors
from softoverlap._types import plain
from softoverlap.images.files import whole_file
from softoverlap.images.geometry import check_affine
from softoverlap.images.images import image_name

_SUFFIXES = (".mrk.json", ".json", ".csv", ".npz", ".pkl", ".pickle")


@dataclass(frozen=True)
class BoxFile:
    """The boxes of one scan, as a file holds them.

    Args:
        boxes: Boxes in voxels, float64, shape (N, 2 * ndim).
        scores: A score per box, float64, shape (N,), or None.
        labels: A class per box, shape (N,), or None.
        affine: Voxel indices to RAS mm, float64, shape (4, 4), or None.
        case: Name of the scan, or None.
        notes: What a user should know about how the file was read.

    Examples:
        >>> BoxFile(torch.zeros(0, 6, dtype=torch.float64)).scores is None
        True
    """

    boxes: Float64[Tensor, "boxes coords"]
    scores: Float64[Tensor, "boxes"] | None = None
    labels: Int64[Tensor, "boxes"] | None = None
    affine: Float64[Tensor, "4 4"] | None = None
    case: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hints:
    """What a caller knows about a file and the file itself may not say."""

    affine: Tensor | None = None
    image: Path | None = None
    frame: str | None = None
    axis_order: str | None = None
    scores: Path | None = None


def bare_name(path: str | os.PathLike[str]) -> str:
    """Name of a file without the suffix of an image or a file of boxes."""
    name = Path(path).name
    suffix = next((end for end in _SUFFIXES if name.lower().endswith(end)), "")
    return name[: -len(suffix)] if suffix else image_name(name)


def case_of(path: Path, file: BoxFile) -> str:
    """The name of the case, or of the file."""
    return file.case or bare_name(path).removesuffix("_boxes") or path.name


@contextmanager
def naming(path: Path, kind: str) -> Iterator[None]:
    """Turn any error of an unexpected structure into one line that names the file."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} must be a {kind}, got: {_one_line(error)}") from error
    except (KeyError, TypeError, AttributeError, OverflowError, IndexError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else _one_line(error)
        raise ValueError(f"{path} must be a {kind}, got {reason}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def load_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a JSON file, got: {_one_line(error)}") from error


def save_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON, completely or not at all; numbers are read back exactly."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def number_rows(
    rows: Sequence[Sequence[Any]], width: int, path: Path, key: str = "box"
) -> Float64[Tensor, "rows numbers"]:
    """Rows of `width` finite numbers each."""
    widths = {len(row) for row in rows} - {width}
    if widths:
        raise ValueError(f"{path} must hold {width} numbers a {key}, got {sorted(widths)}")
    for number in (number for row in rows for number in row):
        if type(number) not in (int, float):
            got = "lists in it" if isinstance(number, list) else repr(number)
            raise ValueError(f"{path} must have numbers as {key}, got {got}")
    return _tensor([list(row) for row in rows], key, path, torch.float64).reshape(-1, width)


def checked_boxes(boxes: Tensor, path: Path) -> Float64[Tensor, "boxes coords"]:
    """The boxes, if they are finite and not inverted; the message names the file."""
    check_boxes(validate=True, ndim=boxes.shape[1] // 2, **{f"boxes of {path}": boxes})
    return boxes


def column(
    known: Sequence[Any] | None, key: str, count: int, path: Path, *, whole: bool = False
) -> Tensor | None:
    """One number per box; None if no box has it."""
    if not known:
        return None
    if len(known) != count:
        raise ValueError(f"{path} must have a {key} in all boxes or none, got {len(known)}")
    kinds, words = ((int,), "whole") if whole else ((int, float), "finite")
    if not all(type(value) in kinds and math.isfinite(value) for value in known):
        raise ValueError(f"{path} must have {words} numbers as {key}, got {list(known)}")
    return _tensor(list(known), key, path, torch.int64 if whole else torch.float64)


def affine_of(rows: Any, path: Path) -> Float64[Tensor, "4 4"] | None:
    """The affine in a file, or None."""
    if rows is None:
        return None
    return check_affine(_tensor(rows, "affine", path, torch.float64), name=f"affine of {path}")


def numbers(name: str, values: Tensor | None, count: int, *, whole: bool = False) -> list[Any]:
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


def _tensor(values: Any, key: str, path: Path, dtype: torch.dtype) -> Tensor:
    try:
        return torch.tensor(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path} must have numbers as {key}, got: {_one_line(error)}") from error


def only_file(path: Path, files: Mapping[str, BoxFile]) -> BoxFile:
    """The case, if there is exactly one."""
    if len(files) != 1:
        raise ValueError(
            f"{path} must get one case, since its format cannot hold more, got {len(files)}"
        )
    return next(iter(files.values()))


def check_ndim(path: Path, file: BoxFile, *allowed: int) -> int:
    """Number of axes, if the format allows it."""
    ndim = file.boxes.shape[1] // 2
    if ndim not in allowed:
        words = " or ".join(f"{number}D" for number in allowed)
        raise ValueError(f"{path} must get {words} boxes in this format, got {ndim}D")
    return ndim
