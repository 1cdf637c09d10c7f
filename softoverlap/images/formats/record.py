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
from jaxtyping import Bool, Float64, Int64
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
        score_threshold: Score from which on a box is a finding, or None; boxes below it are
            candidates, kept for curves over all thresholds.
        threshold_rule: How the threshold was chosen, such as `"f1 on 3 validation scans"`.
        ignored: True for lesions that are neither hit, false nor missed, shape (N,), or None.
        smallest_anchor: Edges of the detector's smallest anchor in voxels, one an axis, or None.

    Raises:
        TypeError: If a field after `notes` has another type.
        ValueError: If a field after `notes` has another shape or is out of range, or there is a
            threshold without scores, or a rule without a threshold.

    Examples:
        >>> boxes, scores = torch.tensor([[0.0, 4], [5, 9]]), torch.tensor([0.9, 0.1])
        >>> BoxFile(boxes.double(), scores.double(), score_threshold=0.5).above
        tensor([ True, False])
    """

    boxes: Float64[Tensor, "boxes coords"]
    scores: Float64[Tensor, "boxes"] | None = None
    labels: Int64[Tensor, "boxes"] | None = None
    affine: Float64[Tensor, "4 4"] | None = None
    case: str | None = None
    notes: tuple[str, ...] = ()
    score_threshold: float | int | None = None
    threshold_rule: str | None = None
    ignored: Bool[Tensor, "boxes"] | None = None
    smallest_anchor: tuple[float | int, ...] | None = None

    def __post_init__(self) -> None:
        _check_threshold(self)
        if self.ignored is not None:
            _check_ignored(self.ignored, len(self.boxes))
        if self.smallest_anchor is not None:
            _check_anchor(self.smallest_anchor, self.boxes.shape[1] // 2)

    @property
    def above(self) -> Bool[Tensor, "boxes"]:
        """Which boxes are findings: all, if there is no threshold."""
        if self.score_threshold is None or self.scores is None:
            return torch.ones(len(self.boxes), dtype=torch.bool, device=self.boxes.device)
        return self.scores >= self.score_threshold


def _check_threshold(file: BoxFile) -> None:
    threshold, rule = file.score_threshold, file.threshold_rule
    if rule is not None and not isinstance(rule, str):
        raise TypeError(f"threshold_rule must be words, got {rule!r}")
    if threshold is None:
        if rule is not None:
            raise ValueError(f"threshold_rule must go with a score_threshold, got {rule!r} alone")
        return
    if not _is_finite(threshold):
        raise ValueError(f"score_threshold must be a finite number, got {threshold!r}")
    if file.scores is None and len(file.boxes):
        raise ValueError(f"score_threshold must go with scores, got {threshold:g} and none")


def _check_ignored(ignored: Any, count: int) -> None:
    check_tensors(ignored=ignored)
    if ignored.dtype != torch.bool:
        raise TypeError(f"ignored must be booleans, got dtype {ignored.dtype}")
    if tuple(ignored.shape) != (count,):
        raise ValueError(f"ignored must have shape ({count},), got {tuple(ignored.shape)}")


def _check_anchor(edges: Any, ndim: int) -> None:
    if not isinstance(edges, tuple) or not all(_is_finite(edge) and edge > 0 for edge in edges):
        raise ValueError(f"smallest_anchor must hold edges above 0 in voxels, got {edges!r}")
    if len(edges) != ndim:
        raise ValueError(f"smallest_anchor must hold one edge for each of {ndim} axes, got {edges}")


def _is_finite(number: Any) -> bool:
    return type(number) in (int, float) and math.isfinite(number)


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


def flags(known: Sequence[Any], key: str, path: Path) -> Bool[Tensor, "boxes"] | None:
    """True or False for each box, where None is False; None if all are None."""
    if all(value is None for value in known):
        return None
    wrong = next((value for value in known if not isinstance(value, bool | None)), None)
    if wrong is not None:
        raise ValueError(f"{path} must have true or false as {key}, got {wrong!r}")
    return torch.tensor([bool(value) for value in known])


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
    if whole and values.is_floating_point():
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
