"""Naive references for regions: slabs in rational numbers, and every turn tried."""

from __future__ import annotations

import itertools
from fractions import Fraction


def reference_region(name, a, b, period=(None, None)):
    """IoU or Dice of regions, each a list of rings of (x, y); inside is where rings go round."""
    shared = sum(
        shared_area(a, [[(x + dx, y + dy) for x, y in ring] for ring in b])
        for dx, dy in itertools.product(*([*_turns(one)] for one in period))
    )
    sizes = _area(a), _area(b)
    if name == "dice":
        return float(2 * shared / sum(sizes))
    return float(shared / (sum(sizes) - shared))


def shared_area(a, b):
    """Between all x at which an edge ends or two edges cross, regions are trapezoids."""
    a, b = _edges(a), _edges(b)
    pairs = itertools.product(((a, b), (b, a)), (0, 1))
    if any(_highest(one, axis) <= _lowest(other, axis) for (one, other), axis in pairs):
        return Fraction(0)
    ends = {x for edge in (*a, *b) for x, _ in edge}
    crossings = {_crossing(*pair) for pair in itertools.combinations((*a, *b), 2)} - {None}
    places = sorted(ends | crossings)
    total = Fraction(0)
    for low, high in itertools.pairwise(places):
        middle = (low + high) / 2
        for one, other in itertools.product(_spans(a, middle), _spans(b, middle)):
            length = min(one[1], other[1]) - max(one[0], other[0])
            total += max(length, 0) * (high - low)
    return total


def reference_hdr(values, mass):
    """Indices of the fewest values, equal ones together, that hold the share of the mass."""
    total, taken = sum(map(Fraction, values)), set()
    for level in sorted(set(values), reverse=True):
        if sum(Fraction(values[i]) for i in taken) >= Fraction(mass) * total:
            break
        taken |= {i for i, value in enumerate(values) if value == level and value > 0}
    return taken


def _area(rings):
    """Of the outer ring, which comes first, less the holes."""
    first, *holes = (
        abs(sum(x * v - y * u for (x, y), (u, v) in _edges([ring]))) / 2 for ring in rings
    )
    return first - sum(holes)


def _lowest(edges, axis):
    return min(point[axis] for edge in edges for point in edge)


def _highest(edges, axis):
    return max(point[axis] for edge in edges for point in edge)


def _turns(period):
    return (0,) if period is None else (turn * Fraction(period) for turn in range(-4, 5))


def _edges(rings):
    points = [[tuple(map(Fraction, point)) for point in ring] for ring in rings]
    return [edge for ring in points for edge in zip(ring, ring[1:] + ring[:1], strict=True)]


def _crossing(one, other):
    """The x at which two edges cross, if they do."""
    (x, y), (x1, y1) = one
    (u, v), (u1, v1) = other
    across = (x1 - x) * (v1 - v) - (y1 - y) * (u1 - u)
    if not across:
        return None
    t = ((u - x) * (v1 - v) - (v - y) * (u1 - u)) / across
    s = ((u - x) * (y1 - y) - (v - y) * (x1 - x)) / across
    return x + t * (x1 - x) if 0 <= t <= 1 and 0 <= s <= 1 else None


def _spans(edges, x):
    """Where a line of constant x lies inside: from the first edge to the second, and so on."""
    heights = sorted(
        y + (x - left) / (right - left) * (y1 - y)
        for (left, y), (right, y1) in edges
        if min(left, right) < x < max(left, right)
    )
    return list(zip(heights[::2], heights[1::2], strict=True))
