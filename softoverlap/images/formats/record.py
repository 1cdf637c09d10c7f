"""The record that every format reads and writes, and the checks that all readers share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors, refusal
from softoverlap._types import plain
from softoverlap.images.geometry import check_affine
from softoverlap.images.images import image_name
from softoverlap.images.texts import one_line, whole_number

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

    def with_class_values(self, values: Any) -> BoxFile:
        """The same boxes, labelled with the value that their class has in label maps.

        Args:
            values: The value of each class, from class 0 on; None leaves the labels as they are.

        Returns:
            The boxes with other labels.

        Raises:
            ValueError: If the values are no different whole numbers from 1 on, or a class has none.

        Examples:
            >>> file = BoxFile(torch.zeros(2, 6).double(), labels=torch.tensor([1, 0]))
            >>> file.with_class_values([1, 4]).labels
            tensor([4, 1])
        """
        if values is None:
            return self
        whole = isinstance(values, (list, tuple)) and all(type(v) is int and v > 0 for v in values)
        if not whole or len(set(values)) < len(values):
            raise refusal(
                "class_values", f"must be different whole numbers from 1 on, got {values!r:.80}"
            )
        if self.labels is None or not len(self.labels):
            return self
        if int(self.labels.max()) >= len(values):
            raise refusal(
                "class_values",
                f"must hold a value for each class, got {len(values)} and class "
                f"{int(self.labels.max())}",
            )
        return replace(self, labels=torch.tensor(values)[self.labels])


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
    try:
        return type(number) in (int, float) and math.isfinite(number)
    except OverflowError:  # an integer beyond every float
        return False


@dataclass(frozen=True)
class Hints:
    """What a caller knows about a file and the file itself may not say."""

    affine: Tensor | None = None
    image: Path | None = None
    frame: str | None = None
    axis_order: str | None = None
    scores: Path | None = None
    case: str | None = None
    """The only case that is wanted; LUNA16's lists, which may be long, read no other."""
    points: bool = False
    """Whether balls without a diameter are points, in LUNA16's lists."""


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
        raise ValueError(f"{path} must be a {kind}, got: {one_line(error)}") from error
    except (KeyError, TypeError, AttributeError, OverflowError, IndexError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise ValueError(f"{path} must be a {kind}, got {reason}") from error


def axis_names(ndim: int) -> list[str]:
    """Names of a box's numbers: all minima, then all maxima, in tensor axis order.

    Args:
        ndim: Number of axes.

    Returns:
        2 * ndim names.

    Examples:
        >>> axis_names(1)
        ['axis0_min', 'axis0_max']
    """
    return [f"axis{axis}_{end}" for end in ("min", "max") for axis in range(ndim)]


def list_in(content: Any, key: str) -> list[Any]:
    """The content, if it is a list; an empty object, a text or null is none."""
    if not isinstance(content, list):
        raise TypeError(f"{content!r:.60} as {key}, which is no list")
    return content


def objects_in(content: Any, key: str) -> list[dict[str, Any]]:
    """The content, if it is a list of objects."""
    for row in list_in(content, key):
        if not isinstance(row, dict):
            raise TypeError(f"{row!r:.60} in {key}, which is no object")
    return content


def known_in(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any] | None:
    """The values of the rows that have this key; None if no row has it."""
    return [row[key] for row in rows if key in row] or None


def number_rows(
    rows: Any, width: int, path: Path, key: str = "box"
) -> Float64[Tensor, "rows numbers"]:
    """Rows of `width` finite numbers each."""
    rows = [list_in(row, key) for row in list_in(rows, key)]
    widths = {len(row) for row in rows} - {width}
    if widths:
        raise ValueError(f"{path} must hold {width} numbers a {key}, got {sorted(widths)}")
    for number in (number for row in rows for number in row):
        if type(number) not in (int, float):
            got = "lists in it" if isinstance(number, list) else repr(number)
            raise ValueError(f"{path} must have numbers as {key}, got {got}")
    return _tensor(rows, key, path, torch.float64).reshape(-1, width)


def checked_boxes(boxes: Tensor, path: Path) -> Float64[Tensor, "boxes coords"]:
    """The boxes, if they are finite and not inverted; the message names the file."""
    check_boxes(validate=True, ndim=boxes.shape[1] // 2, **{f"boxes of {path}": boxes})
    return boxes


def column(known: Any, key: str, count: int, path: Path, *, whole: bool = False) -> Tensor | None:
    """One number per box, a whole one also where it is written as 1.0; None if no box has it."""
    if known is None or (known == [] and not count):
        return None
    values = list_in(known, key)
    if len(values) != count:
        raise ValueError(f"{path} must have a {key} in all boxes or none, got {len(values)}")
    try:
        values = [whole_number(value) for value in values] if whole else values
    except ValueError as error:
        raise ValueError(f"{path} must have whole numbers as {key}, got {values!r:.80}") from error
    if not all(map(_is_finite, values)):
        raise ValueError(f"{path} must have finite numbers as {key}, got {values!r:.80}")
    return _tensor(values, key, path, torch.int64 if whole else torch.float64)


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
        raise ValueError(f"{path} must have numbers as {key}, got: {one_line(error)}") from error


def with_notes(files: Mapping[str, BoxFile], notes: tuple[str, ...]) -> dict[str, BoxFile]:
    """The cases of a file with notes on all of it, which its first case tells."""
    first = next(iter(files), None)
    return {
        case: replace(file, notes=(*notes, *file.notes)) if case == first else file
        for case, file in files.items()
    }


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
