"""Lesions with a margin of voxels around, each voxel of it with the nearest lesion.

Resampled to the nearest voxel, a lesion of a voxel may vanish; one with a margin hardly does. And
the margin holds what linear interpolation spreads beyond a lesion's voxels: less than one voxel.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

REACH = 3
"""Voxels of the margin along each axis: one for interpolation, the rest for smoothing and zooms."""


def grown(owned: np.ndarray, stray: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The numbers of lesions, spread by `REACH` voxels to where no other lesion is nearer.

    Args:
        owned: For each voxel the number of its lesion, or 0.
        stray: Voxels of positive probability that belong to no lesion, and what is nearest to them.
        edges: Edges of a voxel in mm, which say what is near.

    Examples:
        >>> owned = np.array([0, 0, 1, 0, 0, 0, 0, 0, 0])
        >>> grown(owned, np.arange(9) == 6, np.array([1.0])).tolist()
        [1, 1, 1, 1, 1, 0, 0, 0, 0]
    """
    seeds = np.pad(np.where(stray, -1, owned), REACH)
    places = np.flatnonzero(_surface(seeds))
    numbers = seeds.ravel()[places]
    strides = np.array(seeds.strides) // seeds.itemsize
    spread = np.zeros(seeds.size, dtype=seeds.dtype)
    for shift in (_from_far_to_near(owned.ndim, tuple(edges.tolist())) @ strides).tolist():
        spread[places + shift] = numbers  # the last, so the nearest, stays
    inner = spread.reshape(seeds.shape)[(slice(REACH, -REACH),) * owned.ndim]
    return np.where(owned > 0, owned, np.where(stray, 0, inner.clip(min=0)))


def _surface(seeds: np.ndarray) -> np.ndarray:
    """The seeds with a neighbour along an axis that is another."""
    inner = np.zeros(seeds.shape, dtype=bool)
    inside = inner[(slice(1, -1),) * seeds.ndim]
    inside[...] = True
    middle = seeds[(slice(1, -1),) * seeds.ndim]
    for axis in range(seeds.ndim):
        for shift in (slice(0, -2), slice(2, None)):
            window = [slice(1, -1)] * seeds.ndim
            window[axis] = shift
            inside &= seeds[tuple(window)] == middle
    return (seeds != 0) & ~inner


@lru_cache(maxsize=64)
def _from_far_to_near(ndim: int, edges: tuple[float, ...]) -> np.ndarray:
    """All steps within reach; those of one length in a fixed order."""
    steps = np.array(list(itertools.product(range(-REACH, REACH + 1), repeat=ndim)))
    return steps[np.argsort(-((steps * edges) ** 2).sum(axis=1), kind="stable")]
