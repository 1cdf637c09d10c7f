"""The cases of a folder of results, as the viewer lists and shows them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softoverlap.app.columns import CASES, is_number
from softoverlap.app.report._case_files import ScanFinder
from softoverlap.app.report._places import affine_of_boxes
from softoverlap.app.report._results import (
    Results,
    Row,
    Table,
    label_name,
    read_results,
    text,
    truths_of,
)
from softoverlap.app.report.viewer.layers import Layer
from softoverlap.images import SAME_GRID, axis_names, is_image_name

_LEAST_DISPLACEMENT = 0.001
"""Less than so many voxels is rounding, and no score to show."""


@dataclass(frozen=True)
class ViewerCase:
    """A row of `cases.csv`: what there is to see.

    Args:
        name: Name of the case.
        label: The label of the row, empty where there is one mask alone.
        error: Why the case could not be scored, or an empty string.
        warning: What a user should know, or an empty string.
        scores: All numbers of the row by column, None where one is not defined.
        layers: Image, prediction and truth, as far as they are volumes.
        boxes: Found and true boxes, in voxels of the truth's grid, as plain values.
        affine: Voxel indices of that grid to RAS mm, where no volume tells it.

    Examples:
        >>> ViewerCase("sub-01", "", "", "", {}).layers
        ()
    """

    name: str
    label: str
    error: str
    warning: str
    scores: Mapping[str, float | None]
    layers: tuple[Layer, ...] = ()
    boxes: Sequence[Mapping[str, Any]] = ()
    affine: Sequence[Sequence[float]] | None = None


def read_cases(
    results: str | os.PathLike[str], *, images: str | os.PathLike[str] | None = None
) -> list[ViewerCase]:
    """Read what `softoverlap score` wrote, without opening a scan.

    Args:
        results: The folder of the results.
        images: Folder with the scans, named as the cases, or a pattern with `{case}`.

    Returns:
        A case for each row of `cases.csv`, in its order.

    Raises:
        FileNotFoundError: If there are no results.
        NotADirectoryError: If `images` is neither a folder nor a pattern.
        ValueError: If a file of the results is damaged.

    Examples:
        >>> read_cases("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: nowhere must be a folder of results, found none: write the folder with \
softoverlap score
    """
    scored, scan_of = read_results(results), ScanFinder(images)
    scan_of.check_any([str(row["case"]) for row in scored.cases.rows])
    boxes, lesions = _by_case(scored.boxes), _by_case(scored.lesions)
    return [
        _case(row, scored, scan_of, (*lesions.get(_key(row), []), *boxes.get(_key(row), [])))
        for row in scored.cases.rows
    ]


def _case(row: Row, results: Results, scan_of: ScanFinder, places: Sequence[Row]) -> ViewerCase:
    name, label = _key(row)
    files = _Files(row, results)
    scan, doubt = scan_of(name)
    boxes = (_box(place) for place in places)
    return ViewerCase(
        name=name,
        label=label,
        error=text(row, "error"),
        warning=" ".join(filter(None, (text(row, "warning"), doubt))),
        scores=_scores(row),
        layers=tuple(files.layers(scan)),
        boxes=[box for box in boxes if box is not None],
        affine=files.affine_of_boxes(),
    )


def _scores(row: Row) -> Mapping[str, float | None]:
    """The numbers of a row, less a displacement of rounding size."""
    apart = row.get("geometry_displacement_voxels")
    rounding = isinstance(apart, float) and apart < _LEAST_DISPLACEMENT
    left_out = "geometry_displacement_voxels" if rounding else ""
    return {
        name: value
        for name, value in row.items()
        if is_number(CASES, name) and name != left_out and not isinstance(value, str | tuple)
    }


class _Files:
    """The files of a row, and how they were read when it was scored."""

    def __init__(self, row: Row, results: Results) -> None:
        pred, self.case = text(row, "pred"), text(row, "case")
        self.settings, label = results.settings, row.get("label")
        folder = results.folder.absolute()  # rows tell whole paths; others go from the results
        self.truth = tuple(folder / name for name in truths_of(row))
        self.pred = (folder / pred,) if pred else ()
        self.label = int(label) if isinstance(label, float) else None
        self.geometry = str(self.settings.get("geometry", "strict"))
        displacement = row.get("geometry_displacement_voxels")
        self.displaced = isinstance(displacement, float) and displacement > SAME_GRID

    def layers(self, scan: Path | None) -> list[Layer]:
        """Image if known, and prediction and truth where they are masks."""
        layers = [] if scan is None else [Layer("image", (scan.absolute(),))]
        truth, pred = map(_masks, (self.truth, self.pred))
        if truth:
            layers.append(self._mask("truth", truth, "truth_values", None))
        if pred:
            index = self.geometry == "index" and self.displaced and truth
            layers.append(self._mask("pred", pred, "values", truth[0] if index else None))
        return layers

    def _mask(self, role: str, paths: tuple[Path, ...], which: str, onto: Path | None) -> Layer:
        values = str(self.settings.get(which, "auto"))
        label = self.label if values in ("auto", "labels") else None
        return Layer(role, paths, values, label, onto, self.geometry)

    def affine_of_boxes(self) -> list[list[float]] | None:
        """Where voxels lie if the truth is boxes, and the prediction too."""
        if _masks(self.truth) or _masks(self.pred) or not self.truth:
            return None
        try:
            affine = affine_of_boxes([*self.truth, *self.pred], self.case)
        except (OSError, ValueError):
            return None  # the row has its error
        return None if affine is None else affine.tolist()


def _masks(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The files, unless they are boxes."""
    images = (path.is_dir() or is_image_name(path) for path in paths)
    return paths if all(images) else ()


def _box(row: Row) -> dict[str, Any] | None:
    """A row of `boxes.csv` or `lesions.csv` as plain values, or None if it has no box."""
    edges = [row.get(name) for name in axis_names(3)]
    if not all(isinstance(edge, float) for edge in edges):
        return None
    is_predicted = "box" in row
    detected = text(row, "detected").lower() in ("true", "1")
    return {
        "kind": "found" if is_predicted else "truth",
        "number": row.get("box" if is_predicted else "lesion"),
        "box": edges,
        "score": row.get("score") if is_predicted else None,
        "outcome": text(row, "outcome") if is_predicted else "found" if detected else "missed",
    }


def _key(row: Row) -> tuple[str, str]:
    return text(row, "case"), label_name(row)


def _by_case(table: Table) -> dict[tuple[str, str], list[Row]]:
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in table.rows:
        rows.setdefault(_key(row), []).append(row)
    return rows
