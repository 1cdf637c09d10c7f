"""Naive references for oriented boxes: hulls in rational numbers, masks voxel by voxel, codes."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

from tests.support.reference import reference_rotated_intersection, reference_rotated_iou


def corner_points(box):
    """Corners in the plane, rounded to float64."""
    ndim = (len(box) - 1) // 2
    (x, y), (w, h), angle = box[:2], box[ndim : ndim + 2], box[-1]
    cosine, sine = math.cos(angle), math.sin(angle)
    return [
        (x + (i * w * cosine - j * h * sine) / 2, y + (i * w * sine + j * h * cosine) / 2)
        for i, j in itertools.product((-1, 1), repeat=2)
    ]


def hull_area(points):
    """Area of the convex hull of points, exact: the smallest polygon, corner after corner."""
    points = sorted({(Fraction(x), Fraction(y)) for x, y in points})
    chains = []
    for ordered in (points, points[::-1]):
        chain = []
        for point in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        chains += chain[:-1]
    around = zip(chains, chains[1:] + chains[:1], strict=True)
    return sum((p[0] * q[1] - p[1] * q[0] for p, q in around), Fraction(0)) / 2


def _turn(p, q, r):
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


def _extent(a, b):
    """Length on axis 2 around both; 1 in the plane."""
    if len(a) == 5:
        return Fraction(1)
    ends = [Fraction(box[2]) + s * Fraction(box[5]) / 2 for box in (a, b) for s in (-1, 1)]
    return max(ends) - min(ends)


def _volume(box):
    ndim = (len(box) - 1) // 2
    return math.prod(map(Fraction, box[ndim : 2 * ndim]))


def reference_rotated_giou(a, b):
    """IoU less the share of the enclosing prism that is not union."""
    a, b = list(map(float, a)), list(map(float, b))
    hull = hull_area(corner_points(a) + corner_points(b)) * _extent(a, b)
    union = _volume(a) + _volume(b) - reference_rotated_intersection(a, b)
    return reference_rotated_iou(a, b) - (float((hull - union) / hull) if hull else 0.0)


def reference_rotated_diou(a, b):
    """IoU less the squared distance of the centres over the squared diameter."""
    a, b = list(map(float, a)), list(map(float, b))
    ndim = (len(a) - 1) // 2
    points = corner_points(a) + corner_points(b)
    diameter = max(math.dist(p, q) for p, q in itertools.combinations(points, 2)) ** 2
    diameter += float(_extent(a, b)) ** 2 if ndim == 3 else 0
    distance = math.dist(a[:ndim], b[:ndim]) ** 2
    return reference_rotated_iou(a, b) - (distance / diameter if diameter else 0.0)


def reference_turned_mass(mask, box):
    """Probability of each voxel times the area that it shares with the box."""
    return sum(
        float(mask[i, j]) * float(reference_rotated_intersection([i + 0.5, j + 0.5, 1, 1, 0], box))
        for i, j in np.ndindex(*mask.shape)
    )


def reference_rotated_code(box, anchor):
    """Offsets in the anchor's frame, logarithms of sizes, cosine and sine of twice the turn."""
    ndim = (len(box) - 1) // 2
    frame = np.eye(ndim)
    c, s = math.cos(anchor[-1]), math.sin(anchor[-1])
    frame[:2, :2] = [[c, s], [-s, c]]
    edges, anchor_edges = np.array(box[ndim:-1]), np.array(anchor[ndim:-1])
    offset = frame @ (np.array(box[:ndim]) - np.array(anchor[:ndim])) / anchor_edges
    twice = 2 * (box[-1] - anchor[-1])
    return [*offset, *np.log(edges / anchor_edges), math.cos(twice), math.sin(twice)]
