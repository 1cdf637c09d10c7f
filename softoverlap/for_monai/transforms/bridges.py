"""Lesions that one rater joined and another one took for several."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from softoverlap.lesions import neighbourhood, numbered


def bridged(core: np.ndarray, marked: np.ndarray, connectivity: int) -> int:
    """In how many lesions a rater has several parts, of which another rater marked only some.

    Args:
        core: For each voxel the number of its lesion, or 0.
        marked: Which voxels each rater marked, shape (R, *spatial).
        connectivity: Neighbours of a voxel, as in `lesions_from_mask`.

    Examples:
        >>> marked = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 1], [1, 0, 0, 0, 0]], dtype=bool)
        >>> one = np.ones(5, dtype=int)
        >>> bridged(one, marked, 26), bridged(one, marked[:2], 26)
        (1, 0)
    """
    steps = neighbourhood(core.ndim, connectivity)
    count = 0
    for number, window in enumerate(ndimage.find_objects(core), start=1):
        if window is not None:
            inside = core[window] == number
            count += _is_bridged(marked[(slice(None), *window)] & inside, steps)
    return count


def _is_bridged(marked: np.ndarray, steps: int) -> bool:
    touching = [rater for rater in marked if rater.any()]
    for rater in touching:
        parts = numbered(rater, steps)
        every = int(parts.max())
        if every > 1 and any(_parts_met(parts, other) < every for other in touching):
            return True
    return False


def _parts_met(parts: np.ndarray, other: np.ndarray) -> int:
    met = np.unique(parts[other])
    return len(met[met > 0])
