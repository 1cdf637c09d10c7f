"""Axes that come round, such as angles and phases: edges and distances of boxes on them.

On an axis of period P, coordinates that differ by P are the same place. A box is there an arc: it
begins at its minimum and is as long as its edge, at most P. With the minimum of `a` as the origin,
`b` begins at `r`, which is `low_b - low_a` less the nearest number of whole turns, and of edges A
and B

- shared: what [0, A] shares with each of [r - P, r - P + B], [r, r + B] and [r + P, r + P + B], as
  two arcs can meet in two pieces
- around both: `min(max(A, f + B), max(B, b + A), P)`, as the shortest arc around both begins where
  one of them does; f is the way forward from `a` to `b`, `r` or `r + P`, and b the one from `b` to
  `a`, `-r` or `P - r`
- from centre to centre: the shorter way, and 0 where one of them is all of the circle, which has no
  centre

Where both ways round are equally long (antipodal arcs), the length is the same, and the gradient is
the mean of both ways': of a distance, 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from softoverlap._checks import refusal, should_validate
from softoverlap._types import plain

Period = float | int | Sequence[float | int | None] | None
"""After which length each axis comes round: one number for all, or one an axis; None never does."""

_SLACK = 1 + 1e-6  # -π to π in float32 is a little longer than 2π
_FARTHEST = 1e30
"""Beyond it, or as much below 1, lengths would need a scale of their own, as on plain axes."""


def as_period(period: Any) -> float | tuple[float | None, ...] | None:
    """The period as something that does not change, if it is one."""
    if period is None:
        return None
    if _is_length(period):
        return float(period)
    if isinstance(period, Sequence) and not isinstance(period, str):
        axes = tuple(period)
        if axes and all(axis is None or _is_length(axis) for axis in axes):
            lengths = tuple(None if axis is None else float(axis) for axis in axes)
            return lengths if any(length is not None for length in lengths) else None
    raise refusal("period", f"must be a length above 0, or one or None an axis, got {period!r}")


def _is_length(period: Any) -> bool:
    if not isinstance(period, Real) or isinstance(period, bool):
        return False
    length = float(period)
    is_one = 0 < length < math.inf
    if is_one and not 1 / _FARTHEST < length < _FARTHEST:
        raise refusal(
            "period", f"must lie between {1 / _FARTHEST:g} and {_FARTHEST:g}, got {period}"
        )
    return is_one


def of_axes(period: Period, ndim: int) -> tuple[float | None, ...]:
    """A period, or None, for each axis."""
    period = as_period(period)
    if not isinstance(period, tuple):
        return (period,) * ndim
    if len(period) != ndim:
        raise refusal("period", f"must hold {ndim} lengths or None, one an axis, got {period}")
    return period


def check_arcs(period: Period, validate: bool | None, **boxes: Tensor) -> None:
    """Edges of boxes, checked before, are no longer than the period, and of ordinary size."""
    if period is None:
        return
    for name, box in boxes.items():
        ndim = box.shape[1] // 2
        periods = of_axes(period, ndim)
        if not should_validate(validate, box):
            continue
        low, high = plain(box.detach()).double().chunk(2, dim=1)
        limit = low.new_tensor([math.inf if one is None else one * _SLACK for one in periods])
        edges = high - low
        extreme = ((edges > 0) & (edges < 1 / _FARTHEST)).any() or (edges > _FARTHEST).any()
        if extreme or (low.abs() > _FARTHEST).any():
            raise ValueError(
                f"{name} must have edges of 0 or between {1 / _FARTHEST:g} and {_FARTHEST:g} where "
                "an axis comes round, got others"
            )
        longer = (edges > limit).any(dim=1)
        if longer.any():
            row = int(longer.nonzero()[0, 0])
            raise ValueError(
                f"{name} must have no edge longer than the period {period}, "
                f"got {box[row].tolist()} in row {row}"
            )


def edge(low: Tensor, high: Tensor, period: float) -> Tensor:
    """Length of an arc, never more than the circle; a longer one keeps the gradient of its edge."""
    length = high - low
    return length - (length.detach() - period).clamp(min=0)


def is_whole(low: Tensor, high: Tensor, period: float) -> Bool[Tensor, "*shape"]:
    """Whether an arc is all of the circle, up to rounding."""
    return high - low >= period / _SLACK


def shared_edge(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float
) -> Tensor:
    """Length that two arcs share, in one piece or two."""
    a, b = edge(low_a, high_a, period), edge(low_b, high_b, period)
    start = nearest(low_b - low_a, period)
    total = _shared_on_a_line(a, start, b)
    for turn in (-period, period):
        total = total + _shared_on_a_line(a, start + turn, b)
    return total


def _shared_on_a_line(a: Tensor, start: Tensor, b: Tensor) -> Tensor:
    """Of [0, a] and [start, start + b]; half of the gradient where faces or arcs touch."""
    nothing = start.new_zeros(())
    shared = torch.minimum(a, start + b) - torch.maximum(start, nothing)
    return torch.maximum(shared, nothing)


def enclosing_edge(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float
) -> Tensor:
    """Length of the shortest arc around both."""
    a, b = edge(low_a, high_a, period), edge(low_b, high_b, period)
    start = nearest(low_b - low_a, period)
    forward = torch.where(start < 0, start + period, start)
    back = torch.where(start > 0, period - start, -start)
    from_a, from_b = torch.maximum(a, forward + b), torch.maximum(b, back + a)
    return torch.minimum(from_a, from_b).clamp(max=period)


def centre_distance(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float
) -> Tensor:
    """Length of the shorter way between the centres, 0 where an arc is all of the circle."""
    way = centre_offset(low_a, high_a, low_b, high_b, period).abs()
    return torch.minimum(way, period - way)


def centre_offset(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float
) -> Tensor:
    """The shorter way from the centre of `b` to that of `a`; 0 where one is all of the circle."""
    way = nearest(((low_a - low_b) + (high_a - high_b)) / 2, period)
    return torch.where(is_whole(low_a, high_a, period) | is_whole(low_b, high_b, period), 0, way)


def nearest(offset: Tensor, period: float) -> Tensor:
    """An offset less whole turns, in [-P/2, P/2]; a small one of either sign stays as it is."""
    return offset - period * (offset.detach() / period).round()


def is_equal(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float
) -> Bool[Tensor, "*shape"]:
    """Whether two arcs are the same; all of the circle is the same wherever it begins."""
    a, b = edge(low_a, high_a, period), edge(low_b, high_b, period)
    whole = is_whole(low_a, high_a, period) & is_whole(low_b, high_b, period)
    return ((a == b) & (nearest(low_b - low_a, period) == 0)) | whole


def unwrapped(
    boxes: Shaped[Tensor, "boxes coords"], around: Shaped[Tensor, "boxes coords"], period: Period
) -> Shaped[Tensor, "boxes coords"]:
    """The boxes, each moved by whole periods until its centre is nearest to that of another box.

    What is all of the circle has no centre, and is laid around that of the other box.
    """
    ndim = boxes.shape[1] // 2
    columns = list(boxes.unbind(1))
    for axis, length in enumerate(of_axes(period, ndim)):
        if length is None:
            continue
        low, high = columns[axis], columns[axis + ndim]
        faces = low, high, around[:, axis], around[:, axis + ndim]
        apart = ((low - faces[2]) + (high - faces[3])) / 2
        moved = apart - centre_offset(*faces, length)
        columns[axis], columns[axis + ndim] = low - moved, high - moved
    return torch.stack(columns, dim=1)
