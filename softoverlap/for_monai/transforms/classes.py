"""The class of each lesion, from a map of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage


def classes_of(
    classes: np.ndarray, core: np.ndarray, owned: np.ndarray, edges: Sequence[float], name: str
) -> np.ndarray:
    """For each voxel of a lesion its class, counted from 1; 0 for all others.

    What the map leaves without a class has that of the nearest voxel of its lesion.

    Args:
        classes: The map, whole numbers, 0 for the background.
        core: For each voxel the number of the lesion that has it as its own, or 0.
        owned: The same with soft edges.
        edges: Edges of a voxel, which say what is near.
        name: The map, for messages.

    Raises:
        ValueError: If the map holds anything but whole numbers from 0, or a lesion has no class.

    Examples:
        >>> core = np.array([0, 1, 1, 1, 2, 0])
        >>> owned = np.array([1, 1, 1, 1, 2, 2])
        >>> classes_of(np.array([0, 2, 0, 3, 1, 0]), core, owned, [1.0], "classes").tolist()
        [2, 2, 2, 3, 1, 1]
    """
    whole = np.rint(classes).astype(np.int64) if np.isfinite(classes).all() else None
    if whole is None or (whole != classes).any() or whole.min(initial=0) < 0:
        raise ValueError(f"{name} must hold whole numbers, 0 for background, from 0")
    found = np.zeros_like(whole)
    for number, window in enumerate(ndimage.find_objects(owned), start=1):
        if window is None:
            continue
        here, inside = whole[window], owned[window] == number
        if not here[core[window] == number].any():
            first = np.argwhere(core == number)[0].tolist()
            raise ValueError(
                f"{name} must have a class in each lesion, got none in that at {first}"
            )
        nearest: Any = ndimage.distance_transform_edt(
            ~(inside & (here > 0)), sampling=edges, return_distances=False, return_indices=True
        )
        found[window][inside] = here[tuple(nearest)][inside]
    return found
