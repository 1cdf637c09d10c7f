"""Naive references for soft boxes: sums over a fine grid of what the definitions integrate."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.special import ndtr

_PLACES = np.linspace(-9, 9, 30001)
_DENSITY = np.exp(-(_PLACES**2) / 2) / math.sqrt(2 * math.pi)


def reference_shared_edge(a, b):
    """The mean over u of the edge in both; each is (low, deviation, high, deviation)."""
    high = np.minimum(a[2] + a[3] * _PLACES, b[2] + b[3] * _PLACES)
    low = np.maximum(a[0] - a[1] * _PLACES, b[0] - b[1] * _PLACES)
    return float(np.trapezoid((high - low).clip(min=0) * _DENSITY, _PLACES))


def reference_probability(x, face):
    """Of places on an axis to lie inside, for deviations above 0."""
    low, low_deviation, high, high_deviation = face
    return np.minimum(ndtr((x - low) / low_deviation), ndtr((high - x) / high_deviation))


def axes_of(mean, deviation):
    """The faces of one box, axis by axis."""
    ndim = len(mean) // 2
    return [(mean[d], deviation[d], mean[d + ndim], deviation[d + ndim]) for d in range(ndim)]


def reference_shared(a, b):
    """Volume that two boxes share, each (mean, deviation)."""
    pairs = zip(axes_of(*a), axes_of(*b), strict=True)
    return math.prod(itertools.starmap(reference_shared_edge, pairs))


def reference_soft(name, a, b):
    """IoU or Dice of two soft boxes, each (mean, deviation)."""
    shared, sizes = reference_shared(a, b), reference_shared(a, a) + reference_shared(b, b)
    return 2 * shared / sizes if name == "dice" else shared / (sizes - shared)


def reference_mask(soft, shape):
    """The mean probability in each voxel of a soft box."""
    found = np.zeros(shape)
    for place in itertools.product(*map(range, shape)):
        voxel = [*place, *(voxel + 1 for voxel in place)]
        found[place] = reference_shared(soft, (voxel, [0] * len(voxel)))
    return found


def reference_crps(mean, deviation, other, other_deviation):
    """`∫ (F - G)²` of one face, each a step where its deviation is 0."""
    reach = 9 * max(deviation, other_deviation, abs(mean - other) / 9 + 0.1)
    x = np.linspace(min(mean, other) - reach, max(mean, other) + reach, 400001)
    first, second = (
        ndtr((x - m) / s) if s else (x >= m).astype(float)
        for m, s in ((mean, deviation), (other, other_deviation))
    )
    return float(np.trapezoid((first - second) ** 2, x))


def reference_pdq(detections, objects, least=0.0027, floor=1e-14):
    """PDQ of one scan, by the paper's equations: every voxel, and every assignment, in turn.

    Detections are (mask, probabilities of the classes), objects (mask of 0 and 1, class).
    """
    table = np.zeros((len(objects), len(detections)))
    for i, (truth, label) in enumerate(objects):
        voxels = np.argwhere(truth)
        low, high = voxels.min(axis=0), voxels.max(axis=0)
        for j, (found, probabilities) in enumerate(detections):
            total = 0.0
            for place in itertools.product(*map(range, truth.shape)):
                p = found[place] if found[place] >= least else 0.0
                within = all(a <= c <= b for a, c, b in zip(low, place, high, strict=True))
                if truth[place]:
                    total -= math.log(max(p, floor))
                elif not within:
                    total -= math.log(max(1 - p, floor))
            spatial = math.exp(-total / len(voxels))
            spatial = spatial if spatial >= 1e-8 else 0.0
            table[i, j] = math.sqrt(spatial * probabilities[label])
    return _best_of(table)


def _best_of(table):
    """Σ quality over pairs and what is left, where the sum is highest."""
    if table.shape[0] > table.shape[1]:
        table = table.T
    best = max(
        sum_and_pairs(table, columns)
        for columns in itertools.permutations(range(table.shape[1]), table.shape[0])
    )
    left = sum(table.shape) - best[1]
    return best[0] / left if left else math.nan


def sum_and_pairs(table, columns):
    """Σ quality of an assignment, and how many of its pairs have any."""
    values = [table[row, column] for row, column in enumerate(columns)]
    return sum(values), sum(value > 0 for value in values)
