"""Figures in print: a figure has the digits that its interval leaves it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

POINT_FIGURES = {
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "f1": "F1",
    "fps_per_scan": "False positives a scan",
}
"""The figures of an operating point by their keys in `summary.json`, with their names in print."""


def counts_none(point: Mapping[str, Any]) -> bool:
    """Whether nothing that was found counts at an operating point, as `summary.json` has it.

    No plain value stands for the infinite score that a rule then chooses: it is null, as where all
    count.

    Examples:
        >>> [counts_none({"threshold": None, "rule": rule}) for rule in ("f1", "all")]
        [True, False]
    """
    return point.get("threshold") is None and point.get("rule", "all") != "all"


FEW_PATIENTS = 10
"""Below, a bootstrap interval is rough."""

FEWEST_PATIENTS = 5
"""Below, there is no bootstrap interval: the draws differ too little to tell anything."""

Ends = Sequence[float | int | None] | None
"""Both ends of an interval, None or NaN where it is not defined."""


def number(value: float | int | None, digits: int = 3) -> str:
    """A number of so many significant digits, a dash where it is not defined.

    Examples:
        >>> number(0.123456), number(1234.5), number(-0.5), number(None)
        ('0.123', '1234', '−0.5', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 10 ** (digits - 1):
        return _signed(f"{value:.0f}")
    return _signed(f"{value:.{digits}g}")


def rounded(value: float | int | None, ends: Ends, digits: int = 3) -> str:
    """A figure to the digit at which the width of its interval has its first or second digit.

    The second digit is shown where the first is below 6: a width of 0.19 leaves two decimals, one
    of 0.7 a single one. Where there is no interval, or it has no width, `digits` are shown.

    Args:
        value: The figure.
        ends: Its interval.
        digits: Significant digits of a figure without interval.

    Examples:
        >>> rounded(0.7234, (0.61, 0.80)), rounded(0.7234, (0.2, 0.9)), rounded(312.4, (270, 340))
        ('0.72', '0.7', '310')
        >>> rounded(0.7234, None), rounded(1, (1, 1))
        ('0.723', '1')
    """
    places = _places(ends)
    if value is None or not math.isfinite(value) or places is None:
        return number(value, digits)
    return _signed(f"{round(value, places) + 0.0:.{max(places, 0)}f}")


def between(ends: Ends) -> str:
    """`0.61 to 0.80`, rounded as the figure is; a dash where it is not defined.

    Examples:
        >>> between((0.6123, 0.8)), between((1.0, 1.0)), between((None, None))
        ('0.61 to 0.80', '1 to 1', '–')
    """
    if ends is None or any(end is None or not math.isfinite(end) for end in ends):
        return "–"
    return " to ".join(rounded(end, ends) for end in ends)


def plural(count: int, noun: str) -> str:
    """`1 case`, `2 cases`.

    Examples:
        >>> plural(1, "case"), plural(0, "case")
        ('1 case', '0 cases')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _places(ends: Ends) -> int | None:
    """How many decimals the interval leaves, negative for tens; None if it does not tell."""
    if ends is None:
        return None
    low, high = ends
    if low is None or high is None:
        return None
    width = high - low
    if not (math.isfinite(width) and width > 1e-9 * max(abs(low), abs(high))):
        return None
    first = math.floor(math.log10(width))
    return -first + (width < 6 * 10**first)


def _signed(words: str) -> str:
    """With a minus sign in place of a hyphen, and no negative zero."""
    return words.replace("-", "−") if float(words) else words.removeprefix("-")
