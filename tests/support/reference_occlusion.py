"""Naive exact references for what is in view of a box: cell by cell, in fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction


def _exact(box):
    return [Fraction(float(value)) for value in box]


def _cells(box, field, occluders):
    """Low and high corner of every cell of the box, and whether it is in view."""
    ndim, sets = len(box) // 2, [box, *([] if field is None else [field]), *occluders]
    axes = []
    for axis in range(ndim):
        faces = sorted({each[axis + end] for each in sets for end in (0, ndim)})
        faces = [face for face in faces if box[axis] <= face <= box[axis + ndim]]
        axes.append(list(itertools.pairwise(faces)))
    for cell in itertools.product(*axes):
        middle = [(low + high) / 2 for low, high in cell]
        seen = field is None or _holds(field, middle)
        yield cell, seen and not any(_holds(other, middle) for other in occluders)


def _holds(box, point):
    ndim = len(point)
    return all(box[axis] < point[axis] < box[axis + ndim] for axis in range(ndim))


def _volume(cell):
    volume = Fraction(1)
    for low, high in cell:
        volume *= high - low
    return volume


def reference_visible_fraction(box, field=None, occluders=()):
    """Volume of the cells in view over the volume of all; 1 for a box of no volume."""
    box, field = _exact(box), None if field is None else _exact(field)
    cells = list(_cells(box, field, [_exact(each) for each in occluders]))
    total = sum(_volume(cell) for cell, _ in cells)
    return float(sum(_volume(cell) for cell, seen in cells if seen) / total) if total else 1.0


def reference_visible_box(box, field=None, occluders=()):
    """From the lowest to the highest cell in view on each axis; a point where there is none."""
    box, field = _exact(box), None if field is None else _exact(field)
    ndim = len(box) // 2
    cells = _cells(box, field, [_exact(each) for each in occluders])
    seen = [cell for cell, in_view in cells if in_view and _volume(cell)]
    if not seen:
        return [float((box[axis] + box[axis + ndim]) / 2) for axis in range(ndim)] * 2
    low = [float(min(cell[axis][0] for cell in seen)) for axis in range(ndim)]
    return low + [float(max(cell[axis][1] for cell in seen)) for axis in range(ndim)]
