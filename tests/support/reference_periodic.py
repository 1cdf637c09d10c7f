"""Naive references for boxes whose axes come round: sets of eighths, and every turn tried."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

_CELLS = 8  # of a unit


def shared_length(a, b, period):
    """Of arcs (low, high) on eighths, by counting the eighths in both."""
    return Fraction(len(_cells(a, period) & _cells(b, period)), _CELLS)


def enclosing_length(a, b, period):
    """Of the shortest run of eighths that covers both, over all places where it may begin.

    An arc without length is the place where it begins: a run of no eighths must touch it.
    """
    if period is None:
        return Fraction(max(a[1], b[1])) - Fraction(min(a[0], b[0]))
    count = int(_CELLS * period)
    return Fraction(min(_run_from(start, (a, b), count) for start in range(count)), _CELLS)


def centre_distance(a, b, period):
    """The least over all turns, 0 for an arc without a centre."""
    apart = (Fraction(sum(map(Fraction, a))) - sum(map(Fraction, b))) / 2
    if period is None:
        return abs(apart)
    if period in (a[1] - a[0], b[1] - b[0]):
        return Fraction(0)
    return min(abs(apart + turn * Fraction(period)) for turn in range(-20, 21))


def reference_periodic(name, a, b, period):
    """IoU, Dice, IoF, GIoU, DIoU, EIoU or NWD of boxes with a period or None for each axis."""
    ndim = len(period)
    axes = [((a[i], a[i + ndim]), (b[i], b[i + ndim]), period[i]) for i in range(ndim)]
    edges = [[Fraction(one[1] - one[0]) for one in arcs] for *arcs, _ in axes]
    shared = math.prod(shared_length(*axis) for axis in axes)
    size_a, size_b = (math.prod(edge[which] for edge in edges) for which in (0, 1))
    union, around = size_a + size_b - shared, [enclosing_length(*axis) for axis in axes]
    same = all(_same(*axis) for axis in axes)
    whole = {"iou": union, "giou": union, "dice": size_a + size_b, "iof": size_a}.get(name, union)
    score = Fraction(shared * (2 if name == "dice" else 1), whole) if whole else Fraction(same)
    hull, squared = math.prod(around), sum(centre_distance(*axis) ** 2 for axis in axes)
    if name == "giou":
        score -= (hull - union) / hull if hull else 0
    if name in ("diou", "eiou"):
        diagonal = sum(edge**2 for edge in around)
        score -= squared / diagonal if diagonal else 0
    if name == "eiou":
        pairs = zip(edges, around, strict=True)
        score -= sum((x - y) ** 2 / edge**2 for (x, y), edge in pairs if edge)
    if name == "nwd":
        squared += sum((x - y) ** 2 for x, y in edges) / 4
        return math.exp(-math.sqrt(squared) / 12.7)
    return float(score)


def reference_periodic_mass(mask, box, periodic):
    """Mass of a small mask in a box, voxel by voxel and turn by turn."""
    ndim, total = mask.ndim, 0.0
    for place in itertools.product(*map(range, mask.shape)):
        share = 1.0
        for axis, voxel in enumerate(place):
            turns = range(-9, 10) if periodic[axis] else (0,)
            share *= sum(
                max(0.0, min(voxel + t + 1, box[axis + ndim]) - max(voxel + t, box[axis]))
                for t in (turn * mask.shape[axis] for turn in turns)
            )
        total += share * float(mask[place])
    return total


def _cells(arc, period):
    first, last = (int(_CELLS * end) for end in arc)
    if period is None:
        return set(range(first, last))
    return {cell % int(_CELLS * period) for cell in range(first, last)}


def _run_from(start, arcs, count):
    """Eighths that a run needs from this place on to cover all arcs, at most the circle."""
    ends = [
        (int(_CELLS * low) - start) % count + int(_CELLS * high) - int(_CELLS * low)
        for low, high in arcs
    ]
    return min(count, max(ends))


def _same(a, b, period):
    if period is None:
        return tuple(a) == tuple(b)
    whole = a[1] - a[0] == period
    return a[1] - a[0] == b[1] - b[0] and (whole or (a[0] - b[0]) % period == 0)
