"""The class of each lesion, from a map of classes."""

from __future__ import annotations

import numpy as np


def classes_of(classes: np.ndarray, core: np.ndarray, name: str) -> list[int]:
    """For each lesion the class of most of its voxels, counted from 0; of equals the lowest.

    Raises:
        ValueError: If the map holds anything but whole numbers from 0, or a lesion has no class.

    Examples:
        >>> classes_of(np.array([0, 2, 2, 1, 1]), np.array([0, 1, 1, 1, 2]), "classes")
        [1, 0]
    """
    whole = np.rint(classes).astype(np.int64) if np.isfinite(classes).all() else None
    if whole is None or (whole != classes).any() or whole.min(initial=0) < 0:
        raise ValueError(f"{name} must hold whole numbers, 0 for background, from 0")
    count, width = int(core.max(initial=0)), int(whole.max(initial=0)) + 1
    inside = core > 0
    pairs = core[inside].astype(np.int64) * width + whole[inside]
    votes = np.bincount(pairs, minlength=(count + 1) * width).reshape(count + 1, width)[1:]
    votes[:, 0] = 0
    for number in np.flatnonzero(~votes.any(axis=1))[:1]:
        first = np.argwhere(core == number + 1)[0].tolist()
        raise ValueError(f"{name} must have a class in each lesion, got none in that at {first}")
    return (votes.argmax(axis=1) - 1).tolist()
