"""Checks of the fields of a plan: each gives the value in its own form, or an error with its name.

A plan comes from a file that somebody may have edited, so nothing is taken for granted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from softoverlap._checks import check_axes, check_number, check_within, refusal


def number(name: str, value: Any) -> float | int:
    """A finite number."""
    check_number(**{name: value})
    if not math.isfinite(value):
        raise refusal(name, f"must be finite, got {value!r}")
    return value


def strides(values: Any) -> tuple[tuple[int, ...], ...]:
    """For each level a whole number an axis, a multiple of the one before."""
    levels = tuple(_whole("strides", level) for level in _list("strides", values, "levels"))
    if len({len(level) for level in levels}) > 1 or not 1 <= len(levels[0]) <= 3:
        raise refusal("strides", f"must hold as many axes on each level, 1 to 3, got {levels}")
    for fine, coarse in pairwise(levels):
        if any(step % before for before, step in zip(fine, coarse, strict=True)) or fine == coarse:
            raise refusal("strides", f"must grow by multiples, got {coarse} after {fine}")
    return levels


def sizes(values: Any, levels: int, ndim: int) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """For each level the edges of its shapes."""
    given = _list("sizes", values, "levels")
    if len(given) != levels:
        raise refusal("sizes", f"must hold a list for each of {levels} levels, got {len(given)}")
    return tuple(_shapes(number, level, ndim) for number, level in enumerate(given))


def _shapes(level: int, values: Any, ndim: int) -> tuple[tuple[float, ...], ...]:
    shapes = []
    for shape in _list("sizes", values, f"shapes on level {level}"):
        edges = _list("sizes", shape, f"edges on level {level}")
        if len(edges) != ndim:
            raise refusal("sizes", f"must have {ndim} edges, got {list(edges)} on level {level}")
        for edge in edges:
            if isinstance(edge, bool) or not isinstance(edge, Real):
                raise refusal(
                    "sizes", f"must hold numbers, got {edge!r} on level {level}", TypeError
                )
            if not 0 < float(edge) < math.inf:
                raise refusal("sizes", f"must hold edges above 0, got {edge!r} on level {level}")
        shapes.append(tuple(map(float, edges)))
    return tuple(shapes)


def lengths(name: str, values: Any, ndim: int) -> tuple[float, ...] | None:
    """A length above 0 for each axis."""
    if values is None:
        return None
    given = _list(name, values, "lengths")
    for value in given:
        if number(name, value) <= 0:
            raise refusal(name, f"must be above 0, got {value!r}")
    _check_axes(name, given, ndim)
    return tuple(map(float, given))


def axes(value: Any, ndim: int) -> str | None:
    """Where the voxel axes point."""
    if value is not None:
        check_axes(value, ndim)
    return value


def patch_size(values: Any, stride: Sequence[int]) -> tuple[int, ...] | None:
    """A multiple of the stride along each axis."""
    if values is None:
        return None
    sides = _whole("patch_size", values)
    _check_axes("patch_size", sides, len(stride))
    if any(side % step for side, step in zip(sides, stride, strict=True)):
        raise refusal("patch_size", f"must be multiples of the last stride {stride}, got {sides}")
    return sides


def count(name: str, value: Any) -> int | None:
    """A whole number of at least 1."""
    return None if value is None else _whole(name, [value])[0]


def share(name: str, value: Any) -> float | int | None:
    """A number in [0, 1]."""
    if value is not None:
        check_within(0, 1, **{name: value})
    return value


def figures(name: str, values: Any) -> dict[str, dict[str, float | int | None]] | None:
    """Of each class its figures: a number, or None where it has none."""
    if values is None:
        return None
    for part in (values, *(values.values() if isinstance(values, Mapping) else ())):
        if not isinstance(part, Mapping):
            raise refusal(name, f"must hold figures for each class, got {part!r}", TypeError)
    for of_class in values.values():
        for figure in of_class.values():
            if figure is not None:
                number(name, figure)
    return {key: dict(of_class) for key, of_class in values.items()}


def _check_axes(name: str, values: Sequence[object], ndim: int) -> None:
    if len(values) != ndim:
        raise refusal(name, f"must hold {ndim} numbers, one an axis, got {list(values)}")


def _whole(name: str, values: Any) -> tuple[int, ...]:
    """Whole numbers of at least 1."""
    given = _list(name, values, "whole numbers")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise refusal(name, f"must hold whole numbers, got {value!r}", TypeError)
        if value < 1:
            raise refusal(name, f"must be at least 1, got {value!r}")
    return tuple(map(int, given))


def _list(name: str, values: Any, of: str) -> list[Any]:
    """At least one thing in a row; text is none."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise refusal(name, f"must be a list of {of}, got {values!r}", TypeError)
    given = list(values)
    if not given:
        raise refusal(name, f"must hold {of}, got none")
    return given
