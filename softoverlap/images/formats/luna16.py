"""LUNA16's list of nodules: `seriesuid,coordX,coordY,coordZ,diameter_mm` in LPS mm; only read.

A nodule is a ball around a point. Its box is the smallest one along the voxel axes of its scan, so
the scans are needed: a folder with SERIESUID.mhd for each, of which the challenge has ten. Series
without a scan there are left out, and a note names them. A column `probability`, as in the files of
results, is the score. A ball of diameter 0 is a point, as a found one may be. Lists without
diameters, such as `candidates.csv`, are read where the caller says that points are meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.images.formats.cells import check_cells, number_cell
from softoverlap.images.formats.grids import needed_affine
from softoverlap.images.formats.meaning import SPACES, UNITS, notes_on_others, others
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    bare_name,
    checked_boxes,
    column,
    with_notes,
)
from softoverlap.images.texts import TextTable

_CENTRE = ("coordx", "coordy", "coordz")
SERIES = "seriesuid"
_DIAMETER, _SCORE = "diameter_mm", "probability"
_Lines = list[tuple[int, Mapping[str, str]]]
"""Rows of the list, each with its number."""
_NAMED = 3
"""Series without a scan that a note names."""


def is_list(columns: Sequence[str]) -> bool:
    """Whether the plain names of a table's columns are those of LUNA16's lists."""
    return set(_CENTRE) <= set(columns)


def read(path: Path, table: TextTable, hints: Hints) -> dict[str, BoxFile]:
    """Read the nodules of every series whose scan is there."""
    needed = {SERIES} if hints.points else {SERIES, _DIAMETER}
    if missing := needed - set(table.columns):
        raise ValueError(
            f"{path} must have the columns {SERIES} and {_DIAMETER}, since a point has no size, "
            f"got none called {' or '.join(sorted(missing))}"
        )
    if hints.frame not in (None, "LPS"):
        raise refusal("frame", f"must be that of {path} itself, LPS, got {hints.frame}")
    check_cells(path, table, "in LPS mm", ("lps", "mm"))
    known = (*_CENTRE, SERIES, _DIAMETER, _SCORE, *UNITS, *SPACES)
    left = others([dict.fromkeys(table.columns)], known)
    return with_notes(
        _files(path, _series(path, table, hints.case), hints), notes_on_others(path, left)
    )


def series_of_points(path: Path, table: TextTable) -> tuple[str, ...]:
    """The series in which a ball has no size: a diameter of 0, or none as no column says it."""
    return tuple(
        name
        for name, lines in _series(path, table).items()
        if any(_diameter(path, line, row) == 0 for line, row in lines)
    )


def _series(path: Path, table: TextTable, only: str | None = None) -> dict[str, _Lines]:
    """The lines of each series, or of one; without a column of diameters, these are 0."""
    series: dict[str, _Lines] = {}
    given = {} if _DIAMETER in table.columns else {_DIAMETER: "0"}
    for line, row in zip(table.lines, table.rows, strict=True):
        name = row.get(SERIES, "").strip()
        if not name:
            raise ValueError(f"{path} must have a {SERIES} in each line, got none in line {line}")
        if only is None or only in (name, normalize("NFC", name)):
            series.setdefault(name, []).append((line, {**row, **given}))
    return series


def _files(path: Path, series: Mapping[str, _Lines], hints: Hints) -> dict[str, BoxFile]:
    """The series of the scan that the caller named, or of those in the folder."""
    scan = "" if hints.image is None else bare_name(hints.image)
    chosen = {scan: series[scan]} if scan in series else series
    files: dict[str, BoxFile] = {}
    lost = FileNotFoundError()
    for name, lines in chosen.items():
        bare = BoxFile(torch.zeros(0, 6, dtype=torch.float64), case=name)
        try:
            affine = needed_affine(path, bare, hints)
        except FileNotFoundError as error:
            lost = error
        else:
            files[name] = _file(path, name, lines, affine)
    if series and not files:
        raise lost
    if left := [name for name in series if name not in files]:
        names = ", ".join(left[:_NAMED]) + (", …" if len(left) > _NAMED else "")
        note = f"{path}: {len(left)} series left out, of which {hints.image} has no scan: {names}"
        return with_notes(files, (note,))
    return files


def _file(path: Path, name: str, lines: _Lines, affine: Tensor) -> BoxFile:
    centres = torch.tensor(
        [[number_cell(path, line, row, axis) for axis in _CENTRE] for line, row in lines],
        dtype=torch.float64,
    )
    diameters = torch.tensor(
        [_diameter(path, line, row) for line, row in lines], dtype=torch.float64
    )
    scores = [number_cell(path, line, row, _SCORE) for line, row in lines if row.get(_SCORE)]
    return BoxFile(
        checked_boxes(_around(centres, diameters, affine), path),
        column(scores or None, "probability", len(lines), path),
        affine=affine,
        case=name,
    )


def _diameter(path: Path, line: int, row: Mapping[str, str]) -> float | int:
    """The diameter of a ball, 0 of a point."""
    diameter = number_cell(path, line, row, _DIAMETER)
    if diameter < 0:
        raise ValueError(
            f"{path} must have diameters of at least 0, got {diameter:g} of {row[SERIES].strip()} "
            f"in line {line}"
        )
    return diameter


def _around(
    centres: Float64[Tensor, "boxes 3"],
    diameters: Float64[Tensor, "boxes"],
    affine: Float64[Tensor, "4 4"],
) -> Float64[Tensor, "boxes 6"]:
    """The smallest boxes along the voxel axes around balls; no angle makes them larger."""
    to_voxels = torch.linalg.inv(affine[:3, :3])
    ras = centres * torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    middle = (ras - affine[:3, 3]) @ to_voxels.T + 0.5
    reach = diameters[:, None] / 2 * to_voxels.norm(dim=1)
    return torch.cat([middle - reach, middle + reach], dim=1)
