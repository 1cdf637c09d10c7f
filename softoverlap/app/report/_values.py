"""Values of a JSON file, checked: null stands for what is not defined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Interval = tuple[float, float]


def as_number(value: Any) -> float:
    """A number; null is NaN."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{value!r} in place of a number")
    return math.nan if value is None else float(value)


def as_numbers(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(as_number(value) for value in values)


def as_interval(ends: Sequence[Any] | None) -> Interval:
    low, high = (None, None) if ends is None else ends
    return as_number(low), as_number(high)
