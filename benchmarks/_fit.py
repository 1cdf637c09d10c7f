"""The exponent of a curve, and the one that its growth should have at the same sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

GROWTHS: dict[str, Callable[[float], float]] = {
    "1": lambda n: 1.0,
    "n": lambda n: n,
    "n log n": lambda n: n * math.log(n),
    "n^(5/3)": lambda n: n ** (5 / 3),
    "n²": lambda n: n**2,
    "1/n": lambda n: 1 / n,
}
LEAST_MARGIN = 0.05  # what caches add when a working set outgrows one of them


def fitted(
    sizes: Sequence[float],
    values: Sequence[float],
    growth: str,
    *,
    fixed_cost: bool = True,
    floor: float = 0.0,
) -> dict[str, object]:
    """The slope of log value over log size in the upper half of the sizes, on a log scale.

    Times add up: that of the smallest size is a fixed cost and is taken off, unless no growth is
    expected. Memory is the largest of its stages, so nothing is (`fixed_cost`). What is left at or
    below `floor` is noise. With fewer than three points there is no exponent.
    """
    fixed = values[0] if fixed_cost and growth not in ("1", "1/n") else 0.0
    middle = math.sqrt(sizes[0] * sizes[-1])
    points = [
        (n, value - fixed)
        for n, value in zip(sizes, values, strict=True)
        if n >= middle and value - fixed > floor
    ]
    if len(points) < 3:
        return {"theory": growth, "points": len(points)}
    of_theory = GROWTHS[growth]
    start = of_theory(sizes[0]) if fixed else 0.0
    expected, _ = _slope([(n, of_theory(n) - start) for n, _ in points])
    exponent, error = _slope(points)
    return {
        "theory": growth,
        "points": len(points),
        "exponent": exponent,
        "standard_error": error,
        "expected": expected,
        "above": exponent - expected > max(2 * error, LEAST_MARGIN),
    }


def _slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope of the logarithms by least squares, and its standard error."""
    xs, ys = ([math.log(point[axis]) for point in points] for axis in (0, 1))
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    left = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, math.sqrt(left / (len(points) - 2) / spread)
