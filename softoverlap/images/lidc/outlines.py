"""What outlines enclose, how far two are apart, and which are of one nodule.

An outline is what one rater drew of one nodule: closed contours in slices, some of them holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

RATERS = 4
"""Raters of each scan."""

_LOWERED, _LEAST = 0.9, 0.1
"""By which factor the largest distance within a nodule is lowered, and down to how many mm."""


class Contour(NamedTuple):
    """A closed curve in a slice: its pixels (x, y), the slice, and whether it bounds a hole."""

    points: np.ndarray
    slice: int
    hole: bool


Outline = Sequence[Contour]


def window_of(outlines: Sequence[Outline]) -> tuple[np.ndarray, np.ndarray]:
    """First voxel of the box around the outlines, and the one after its last, both (3,)."""
    voxels = np.concatenate([_voxels(outline) for outline in outlines])
    return voxels.min(axis=0), voxels.max(axis=0) + 1


def enclosed(outline: Outline, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The voxels of the window that the outline encloses.

    Neither its own pixels nor those of a hole are part of the nodule.
    """
    inside = np.zeros(high - low, dtype=bool)
    for contour in sorted(outline, key=lambda contour: contour.hole):  # holes last
        curve = _drawn(contour.points - low[:2], inside.shape[:2])
        filled = np.asarray(ndimage.binary_fill_holes(curve))
        layer = inside[:, :, contour.slice - low[2]]
        if contour.hole:
            layer &= ~filled
        else:
            layer |= filled & ~curve
    return inside


def grouped(
    outlines: Sequence[Outline], pixel: float, z: np.ndarray, reach: float
) -> list[list[int]]:
    """The outlines of each nodule: those whose smallest distance is at most `reach` mm.

    Within a group of more outlines than a scan has raters, `reach` is lowered by a tenth, again and
    again, until all that are left of it are small enough, or touch.
    """
    if not outlines:
        return []
    apart = _distances([_in_mm(outline, pixel, z) for outline in outlines], reach)
    return list(_split(np.arange(len(outlines)), apart, reach))


def _split(members: np.ndarray, apart: np.ndarray, reach: float) -> Iterator[list[int]]:
    near = apart[np.ix_(members, members)] <= reach
    count, group_of = connected_components(near, directed=False)
    for group in range(count):
        found = members[group_of == group]
        if len(found) > RATERS and reach * _LOWERED >= _LEAST:
            yield from _split(found, apart, reach * _LOWERED)
        else:
            yield found.tolist()


def by_rater(masks: np.ndarray) -> list[range]:
    """Which of a nodule's outlines, given as masks (N, X, Y, Z), are of one rater.

    Each is of another one, up to four. Of more, some rater drew several, as parts that others drew
    as a whole. Parts of one rater share no voxels, and a data base lists a scan's outlines rater by
    rater: they are cut, in order, into the four runs whose outlines share the fewest voxels.
    """
    count = len(masks)
    flat = masks.reshape(count, -1).astype(np.float64)
    shared = np.triu(flat @ flat.T, 1)
    raters = min(count, RATERS)

    def within(cuts: Sequence[int]) -> float:
        return sum(shared[run.start : run.stop, run.start : run.stop].sum() for run in runs(cuts))

    def runs(cuts: Sequence[int]) -> list[range]:
        return [range(*pair) for pair in pairwise((0, *cuts, count))]

    return runs(min(combinations(range(1, count), raters - 1), key=within))


def _distances(points: Sequence[np.ndarray], reach: float) -> np.ndarray:
    """The smallest distance of each two, infinite where it is above `reach`."""
    trees = [KDTree(part) for part in points]
    apart = np.zeros((len(points), len(points)))
    beyond = np.nextafter(reach, np.inf)  # the bound itself is left out
    for a, tree in enumerate(trees):
        for b in range(a):
            apart[a, b] = tree.query(points[b], distance_upper_bound=beyond)[0].min()
    return np.maximum(apart, apart.T)


def _voxels(outline: Outline) -> np.ndarray:
    """Indices of the outline's own points along x, y and z, shape (N, 3)."""
    return np.concatenate(
        [np.insert(contour.points, 2, contour.slice, axis=1) for contour in outline]
    )


def _in_mm(outline: Outline, pixel: float, z: np.ndarray) -> np.ndarray:
    voxels = _voxels(outline)
    return np.column_stack([voxels[:, :2] * pixel, z[voxels[:, 2]]])


def _drawn(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of the closed curve; a straight line joins points that are no neighbours."""
    steps = np.roll(points, -1, axis=0) - points
    parts = max(1, int(np.abs(steps).max()))
    along = np.arange(parts)[:, None, None] / parts
    x, y = np.rint(points + along * steps).astype(int).reshape(-1, 2).T
    curve = np.zeros(shape, dtype=bool)
    curve[x, y] = True
    return curve
