"""Naive float64 references of calibration, volumes and surfaces; they share no code with ours."""

from __future__ import annotations

import itertools
import math

import numpy as np


def reference_near(pred, target, threshold, margin, edges):
    """Voxels with a marked one within the margin, by looking at all pairs."""
    places = list(itertools.product(*map(range, pred.shape)))
    marked = [place for place in places if target[place] > 0 or pred[place] >= threshold]
    return {
        place
        for place in places
        if any(_distance(place, other, edges) <= margin * (1 + 1e-9) for other in marked)
    }


def reference_brier(pred, target, near):
    if not near:
        return math.nan
    return sum((float(pred[place]) - float(target[place])) ** 2 for place in near) / len(near)


def reference_calibration_errors(pred, target, near, bins):
    """Expected, average and maximum error; a bin holds its lower edge, the last one both."""
    filled = {}
    for place in near:
        value = float(pred[place])
        number = max(k for k in range(bins) if value >= k / bins)
        filled.setdefault(number, []).append((value, float(target[place])))
    if not filled:
        return math.nan, math.nan, math.nan
    gaps = {
        number: abs(np.mean([p for p, _ in pairs]) - np.mean([t for _, t in pairs]))
        for number, pairs in filled.items()
    }
    expected = sum(len(filled[number]) * gap for number, gap in gaps.items()) / len(near)
    return expected, sum(gaps.values()) / len(gaps), max(gaps.values())


def reference_surface_distances(first, second, edges):
    """From each surface voxel of the first mask to the nearest one of the second, in mm."""
    theirs = _surface(second)
    return [min(_distance(place, other, edges) for other in theirs) for place in _surface(first)]


def _surface(mask):
    """Voxels inside with a neighbour across a face that is not."""
    inside = {tuple(place) for place in np.argwhere(mask).tolist()}

    def is_open(place):
        for axis, step in itertools.product(range(len(place)), (-1, 1)):
            moved = list(place)
            moved[axis] += step
            if tuple(moved) not in inside:
                return True
        return False

    return [place for place in inside if is_open(place)]


def _distance(place, other, edges):
    return math.sqrt(
        sum(((a - b) * edge) ** 2 for a, b, edge in zip(place, other, edges, strict=True))
    )
