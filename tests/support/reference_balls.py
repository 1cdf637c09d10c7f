"""Balls the slow way: integrals over slices, and LUNA16's count of hits over plain lists."""

from __future__ import annotations

import itertools
import math

from scipy.integrate import quad

FULL = {0: 1.0, 1: 2.0, 2: math.pi, 3: 4 * math.pi / 3}
"""Volume of the ball of radius 1."""


def reference_lens(distance, radius_a, radius_b, ndim):
    """What two balls share: the smaller one of both discs, along the line of their centres."""

    def disc(x):
        square = min(radius_a**2 - x**2, radius_b**2 - (x - distance) ** 2)
        return FULL[ndim - 1] * max(square, 0.0) ** ((ndim - 1) / 2)

    low, high = max(-radius_a, distance - radius_b), min(radius_a, distance + radius_b)
    if low >= high:
        return 0.0
    plane = (distance**2 + radius_a**2 - radius_b**2) / (2 * distance) if distance else low
    return _integral(disc, low, high, [plane])


def reference_ball_iou(a, b):
    """IoU of two balls `(centre..., diameter)`."""
    ndim, radii = len(a) - 1, (a[-1] / 2, b[-1] / 2)
    shared = reference_lens(math.dist(a[:-1], b[:-1]), *radii, ndim)
    union = sum(FULL[ndim] * radius**ndim for radius in radii) - shared
    return shared / union if union else float(a == b)


def reference_shared_with_box(box, centre, radii):
    """What a box shares with an ellipsoid along its axes: a slice after the other."""
    ndim = len(centre)
    faces = [
        [(box[axis + side] - centre[axis]) / radii[axis] for side in (0, ndim)]
        for axis in range(ndim)
    ]
    return math.prod(radii) * _of_unit(faces, 1.0)


def _of_unit(faces, radius):
    """What the box between some faces shares with the ball of a radius around the origin."""
    (low, high), *others = faces
    low, high = max(low, -radius), min(high, radius)
    if low >= high:
        return 0.0
    if not others:
        return high - low
    kinks = []
    for corner in itertools.product(*([0.0, *pair] for pair in others)):
        square = radius**2 - sum(x * x for x in corner)
        kinks += [side * math.sqrt(square) for side in (-1, 1) if square > 0]
    height = lambda x: _of_unit(others, math.sqrt(max(radius**2 - x * x, 0.0)))  # noqa: E731
    return _integral(height, low, high, kinks)


def _integral(function, low, high, kinks):
    """Between kinks, with the square roots at the ends of a ball taken out."""
    ends = sorted({low, high, *(kink for kink in kinks if low < kink < high)})
    total = 0.0
    for start, stop in itertools.pairwise(ends):
        middle, half = (start + stop) / 2, (stop - start) / 2

        def turned(angle, middle=middle, half=half):
            return function(middle + half * math.sin(angle)) * half * math.cos(angle)

        total += quad(turned, -math.pi / 2, math.pi / 2, epsabs=1e-12, epsrel=1e-11)[0]
    return total


def reference_luna16(scans):
    """For each least score the lesions found and the false positives, as the challenge counts.

    A scan is its nodules `(x, y, z, diameter)` and its candidates `(x, y, z, score)`. A candidate
    whose distance to a nodule is below its radius hits it; the nodule has the highest score of
    those that hit it, and the others are neither right nor wrong.
    """
    found, false = [], []
    for nodules, candidates in scans:
        free = list(candidates)
        for nodule in nodules:
            near = [c for c in candidates if math.dist(c[:3], nodule[:3]) < nodule[3] / 2]
            found += [max(c[3] for c in near)] if near else []
            free = [c for c in free if c not in near]
        false += [c[3] for c in free]
    levels = sorted({c[3] for _, candidates in scans for c in candidates}, reverse=True)
    return [
        (level, sum(s >= level for s in found), sum(s >= level for s in false)) for level in levels
    ]
