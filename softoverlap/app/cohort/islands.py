"""Divide a large scan into parts that share no lesion, so that it need not be copied whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

VOXELS_IN_ONE = 1 << 22
"""Scans up to this size are not divided."""

Window = tuple[slice, ...]


def islands(
    occupied: list[tuple[np.ndarray, float]], cores: list[tuple[np.ndarray, float]]
) -> Iterator[tuple[Window, np.ndarray | None]]:
    """The 26-connected parts of the occupied voxels that contain a core.

    A lesion, its halo and all lesions that it may meet lie in the same part. A small scan is one
    part.

    Args:
        occupied: Masks of one shape, each with the lowest value of an occupied voxel.
        cores: The same masks, each with the lowest value of a core voxel.

    Yields:
        The window of a part, and which of its voxels belong to the part; None means all.

    Examples:
        >>> mask = np.zeros((4, 4, 4))
        >>> len(list(islands([(mask, 0.1)], [(mask, 0.5)])))
        1
    """
    first = occupied[0][0]
    if first.size <= VOXELS_IN_ONE:
        yield (slice(None),) * first.ndim, None
        return
    labels = np.zeros(first.shape, dtype=np.int32)
    ndimage.label(_any_above(occupied), np.ones((3,) * first.ndim), output=labels)
    kept = np.unique(labels[_any_above(cores)])
    windows = ndimage.find_objects(labels)
    for number in kept[kept > 0].tolist():
        window = windows[number - 1]
        yield window, labels[window] == number


def cut(values: Any, window: Window, inside: np.ndarray | None) -> np.ndarray:
    """The values of a part, 0 at voxels of other parts.

    The type stays the same: a 0.7 in float32 becomes less than 0.7 in float64.
    """
    part = np.asarray(values[window])
    return part if inside is None else np.where(inside, part, part.dtype.type(0))


def _any_above(masks: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Voxels where any mask reaches its lowest value."""
    reached = masks[0][0] >= masks[0][1]
    for values, lowest in masks[1:]:
        reached |= values >= lowest
    return reached
