"""Where a scan holds anything: windows that share no lesion, and nothing between them.

A lesion takes a thousandth of a scan. One pass finds the largest value in each cell of a coarse
grid; what follows looks at the windows around the cells that matter, and reads the rest no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from softoverlap.lesions import numbered

VOXELS_IN_ONE = 1 << 22
"""Lesions of scans up to this size are found in one part."""

CELL = 8
"""Edge of a cell in voxels."""

Window = tuple[slice, ...]


def islands(
    occupied: Sequence[tuple[np.ndarray, float]], cores: Sequence[tuple[np.ndarray, float]]
) -> Iterator[Window]:
    """Windows that hold all occupied voxels which may be connected to a core.

    A lesion, its halo and all lesions that it may meet lie in the same window. A small scan is one.

    Args:
        occupied: Masks of one shape, each with the lowest value of an occupied voxel.
        cores: The same masks, each with the lowest value of a core voxel.

    Yields:
        The windows.

    Examples:
        >>> mask = np.zeros((4, 4, 4))
        >>> len(list(islands([(mask, 0.1)], [(mask, 0.5)])))
        1
    """
    shape = occupied[0][0].shape
    if occupied[0][0].size <= VOXELS_IN_ONE:
        yield (slice(None),) * len(shape)
        return
    maxima = [cell_maxima(values) for values, _ in occupied]
    inside, kept = (
        _any_above([(cells, low) for cells, (_, low) in zip(maxima, masks, strict=True)])
        for masks in (occupied, cores)
    )
    for cells in _apart(inside):
        if kept[cells].any():
            yield _voxels(cells, shape)


def single_islands(
    occupied: Sequence[tuple[np.ndarray, float]], cores: Sequence[tuple[np.ndarray, float]]
) -> list[tuple[Window, np.ndarray | None]]:
    """The 26-connected parts of the occupied voxels that hold a core, by their first voxel.

    Args:
        occupied: As in `islands`.
        cores: As in `islands`.

    Returns:
        The window of each, and which of its voxels are the island's; None for all of a small scan.

    Examples:
        >>> mask = np.zeros((4, 4, 4))
        >>> len(single_islands([(mask, 0.1)], [(mask, 0.5)]))
        1
    """
    found = []
    for window in islands(occupied, cores):
        if window[0] == slice(None):
            return [(window, None)]
        inside, core = (
            _any_above([(values[window], low) for values, low in masks])
            for masks in (occupied, cores)
        )
        labels = numbered(inside, inside.ndim)
        places = ndimage.find_objects(labels)
        for number in np.unique(labels[core]).tolist():
            own = labels[places[number - 1]] == number
            place = _within(window, places[number - 1])
            first = np.unravel_index(int(own.argmax()), own.shape)
            start = [axis.start + int(at) for axis, at in zip(place, first, strict=True)]
            found.append((start, place, own))
    return [(place, own) for _, place, own in sorted(found, key=lambda part: part[0])]


def cut(values: np.ndarray, window: Window, inside: np.ndarray | None) -> np.ndarray:
    """The values of a part, 0 at voxels of other parts.

    The type stays the same: a 0.7 in float32 becomes less than 0.7 in float64.
    """
    part = np.ascontiguousarray(values[window])
    return part if inside is None else np.where(inside, part, part.dtype.type(0))


def near_by(values: np.ndarray, window: Window) -> np.ndarray:
    """The values in a window; a copy if it is a small part, which is read many times."""
    part = values[window]
    return np.ascontiguousarray(part) if 4 * part.size <= values.size else part


def windows(occupied: np.ndarray, shape: Sequence[int], *, margin: int = 0) -> list[Window]:
    """Windows without a voxel in common that hold each occupied cell with a margin around it.

    Args:
        occupied: Which cells are occupied.
        shape: That of the scan, in voxels.
        margin: Voxels around each occupied one that lie in its window, as far as there are any.

    Returns:
        The windows, in voxels; none if nothing is occupied.

    Examples:
        >>> windows(np.array([True, False, False, True]), [30])
        [(slice(0, 8, None),), (slice(24, 30, None),)]
    """
    around = np.ones((3,) * occupied.ndim)
    for _ in range(0, margin, CELL):
        occupied = ndimage.binary_dilation(occupied, around)
    return [_voxels(cells, shape) for cells in _apart(occupied)]


def cell_maxima(values: np.ndarray) -> np.ndarray:
    """The largest value of each cell, in one pass in the order in which the values are stored.

    Examples:
        >>> cell_maxima(np.arange(20)).tolist()
        [7, 15, 19]
    """
    order = np.argsort([-abs(stride) for stride in values.strides], kind="stable")
    stored = values.transpose(order)
    *others, last = [range(0, length, CELL) for length in stored.shape]
    maxima = stored
    for axis, starts in enumerate(others):  # whole rows at a time, which is quick
        ahead = (slice(None),) * axis
        rows = [maxima[(*ahead, slice(at, at + CELL))].max(axis=axis) for at in starts]
        maxima = np.stack(rows, axis=axis)
    maxima = np.maximum.reduceat(maxima, last, axis=-1)
    return maxima.transpose(np.argsort(order))


def _apart(occupied: np.ndarray) -> list[Window]:
    """Boxes around the occupied cells; those that would touch become one."""
    around = np.ones((3,) * occupied.ndim)
    while True:
        labels = np.zeros(occupied.shape, dtype=np.int32)
        ndimage.label(occupied, around, output=labels)
        boxes = ndimage.find_objects(labels)
        filled = np.zeros_like(occupied)
        for box in boxes:
            filled[box] = True
        if np.array_equal(filled, occupied):
            return boxes
        occupied = filled


def _any_above(masks: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    """Where any mask reaches its lowest value."""
    return np.any([values >= lowest for values, lowest in masks], axis=0)


def _within(window: Window, inner: Window) -> Window:
    """A window in a window, in voxels of the scan."""
    return tuple(
        slice(outer.start + axis.start, outer.start + axis.stop)
        for outer, axis in zip(window, inner, strict=True)
    )


def _voxels(cells: Window, shape: Sequence[int]) -> Window:
    """A box of cells in voxels."""
    return tuple(
        slice(CELL * axis.start, min(CELL * axis.stop, length))
        for axis, length in zip(cells, shape, strict=True)
    )
