"""Which component is nearest: the choice of SciPy's distance transform, in less of its memory.

That transform holds three indices a voxel, and NumPy widens them to look labels up. Where an island
fills a scan, the same is found plane by plane: in each plane its nearest voxels, two short indices;
then along the last axis, from near to far, the plane that has the nearest of all. Of equal
distances both take the lower plane, and the plane's own transform has settled the rest. Where equal
distances differ by rounding, as with edges of 0.977 mm, either may be taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

LARGE = 1 << 21
"""From so many voxels on memory matters more than time."""

_AT_ONCE = 1 << 18
_ROWS_AT_ONCE = 1 << 15  # what is worked on stays in the cache


def share_out(
    owners: np.ndarray, inside: np.ndarray, labels: np.ndarray, spacing: tuple[float, ...]
) -> None:
    """Give each voxel inside to the nearest component there; `owners` is written to."""
    cores = inside & (labels > 0)
    if labels.ndim == 3 and labels.size >= LARGE and max(labels.shape) < 1 << 15:
        _share_out_by_planes(owners, inside, (cores, labels), spacing)
        return
    nearest: Any = np.zeros((labels.ndim, *labels.shape), dtype=np.int32)
    ndimage.distance_transform_edt(
        ~cores, sampling=spacing, return_distances=False, return_indices=True, indices=nearest
    )
    for part in slabs(inside):
        there = inside[part]
        owners[part][there] = labels[tuple(axis[part][there] for axis in nearest)]


def slabs(values: np.ndarray, at_once: int = _AT_ONCE) -> Iterator[slice]:
    """Parts of the first axis, for work that takes many bytes a voxel; one of a small array."""
    step = max(1, at_once * len(values) // max(values.size, 1))
    return (slice(start, start + step) for start in range(0, len(values), step))


def _share_out_by_planes(
    owners: np.ndarray,
    inside: np.ndarray,
    components: tuple[np.ndarray, np.ndarray],
    spacing: tuple[float, ...],
) -> None:
    """The same for three axes; the components are those of the labels that are cores inside."""
    cores, labels = components
    rows, columns, planes = cores.shape
    nearest = np.full((planes, 2, rows, columns), -1, dtype=np.int16)
    for plane in np.flatnonzero(cores.any(axis=(0, 1))):
        places: Any = ndimage.distance_transform_edt(
            ~cores[:, :, plane], sampling=spacing[:2], return_distances=False, return_indices=True
        )
        nearest[plane] = places
    for part in slabs(inside, _ROWS_AT_ONCE):
        at = np.moveaxis(nearest[:, :, part], 0, -1)  # two indices, (rows, columns, planes)
        own_places = np.arange(rows)[part, None, None], np.arange(columns)[:, None]
        first, second = (
            (own.astype(np.float64) - place) * edge
            for own, place, edge in zip(at, own_places, spacing, strict=False)
        )
        within = np.where(at[0] < 0, np.inf, first * first + second * second)
        chosen = _nearest_plane(np.ascontiguousarray(within), spacing[2])
        row, column = (np.take_along_axis(own, chosen, axis=-1) for own in at)
        there = inside[part]
        owners[part][there] = labels[row[there], column[there], chosen[there]]


def _nearest_plane(within: np.ndarray, edge: float) -> np.ndarray:
    """For each voxel the plane whose own nearest voxel is nearest, from squares in the planes."""
    planes = within.shape[-1]
    number = np.arange(planes)
    best, chosen = within.copy(), np.broadcast_to(number, within.shape).copy()
    room, better = np.empty_like(within), np.empty(within.shape, dtype=bool)
    for step in range(1, planes):
        away = (step * edge) * (step * edge)
        if away > best.max():
            break
        low, high = slice(0, planes - step), slice(step, planes)
        found, nearer = room[..., low], better[..., low]
        for here, there, reaches in ((high, low, np.less_equal), (low, high, np.less)):
            np.add(within[..., there], away, out=found)
            reaches(found, best[..., here], out=nearer)
            np.copyto(best[..., here], found, where=nearer)
            np.copyto(chosen[..., here], number[there], where=nearer)
    return chosen
