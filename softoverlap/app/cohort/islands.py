"""A large scan in parts that share no lesion, so that finding lesions needs no copies of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

VOXELS_IN_ONE = 1 << 22
"""Scans up to this size are not parted."""

Window = tuple[slice, ...]


def islands(
    occupied: list[tuple[np.ndarray, float]], cores: list[tuple[np.ndarray, float]]
) -> Iterator[tuple[Window, np.ndarray | None]]:
    """The connected parts of what is occupied, 26-connected, of those that hold a core.

    A lesion with its halo lies in one of them, with all lesions that it may meet. A small scan is
    one part.

    Args:
        occupied: Masks of one shape, each with the lowest value that counts as occupied.
        cores: The same with the lowest value of a core.

    Yields:
        The window of a part, and which of its voxels belong to it: None for all.

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
    """The values of a part, 0 where a voxel belongs to another.

    The precision stays: 0.7 in float32 is below 0.7 once it is widened.
    """
    part = np.asarray(values[window])
    return part if inside is None else np.where(inside, part, part.dtype.type(0))


def _any_above(masks: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Where any of the masks reaches its value."""
    reached = masks[0][0] >= masks[0][1]
    for values, lowest in masks[1:]:
        reached |= values >= lowest
    return reached
