"""Connected components and distances: by the packages of the extra `fast`, else by SciPy.

The answer is the same. Components are numbered in the order of their first voxel (in 3D; in 2D
cc3d has an order of its own, and SciPy is used), and distances agree to the rounding of float32, in
which `edt` computes. This is the only place that decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from scipy import ndimage

_CONNECTIVITY = {1: 6, 2: 18, 3: 26}
"""In 3D, as cc3d names it, by the number of axes in which neighbours may differ."""


@cache
def package(name: str) -> Any:
    """A package of the extra, or None if it is not there."""
    try:
        return import_module(name)
    except ImportError:
        return None


def numbered(inside: np.ndarray, steps: int) -> np.ndarray:
    """Connected components as int32, numbered from 1 in the order of their first voxel.

    Args:
        inside: Truth values.
        steps: In how many axes neighbours may differ, from 1 to the number of axes.

    Examples:
        >>> numbered(np.array([True, False, True]), 1)
        array([1, 0, 2], dtype=int32)
    """
    cc3d = package("cc3d") if inside.ndim == 3 and inside.size else None
    if cc3d is not None:
        labels = cc3d.connected_components(
            np.ascontiguousarray(inside), connectivity=_CONNECTIVITY[steps], out_dtype=np.uint32
        )
        return np.ascontiguousarray(labels).view(np.int32)
    labels = np.zeros(inside.shape, dtype=np.int32)
    ndimage.label(inside, ndimage.generate_binary_structure(inside.ndim, steps), output=labels)
    return labels


def distances(marked: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """The distance of each voxel to the nearest marked one, of which there is one at least.

    Args:
        marked: Truth values.
        edges: Edges of a voxel.

    Examples:
        >>> distances(np.array([True, False, False]), [0.5])
        array([0. , 0.5, 1. ])
    """
    edt = package("edt") if marked.ndim == 3 else None
    if edt is not None:
        return edt.edt(np.ascontiguousarray(~marked), anisotropy=tuple(edges)).astype(np.float64)
    found: Any = ndimage.distance_transform_edt(~marked, sampling=edges)
    return found
