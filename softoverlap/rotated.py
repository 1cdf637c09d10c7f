"""Oriented rectangles (2D) and yaw boxes (3D): volume and intersection.

A box is `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians, counter-clockwise from
axis 0 to axis 1. The corners of A are put into the frame of B, where B is `|x| <= w/2, |y| <= h/2`;
by Green's theorem the shared area is the integral of `clamp(x, -w/2, w/2) dy` over the parts of
A's edges with `|y| <= h/2`. On an edge the integrand is linear between at most two break points,
so the trapezoid rule is exact: no sorting, no list of vertices, no tolerance. Its derivative is
read off the same pieces: a corner of A moves the parts of its edges that lie inside B, and the
sides of B move what A shares with them. Arithmetic is float64, after centres and angles are
subtracted. Functions of two boxes broadcast over the leading axes.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap._rounding import without_rounding

_SMALLEST = 1e-150  # an edge flatter than this has no area to give and would overflow a quotient

Point = tuple[Tensor, Tensor]


def volume(boxes: Shaped[Tensor, "*batch parameters"]) -> Float[Tensor, "*batch"]:
    """Product of the edges."""
    ndim = spatial_dims(boxes)
    return reduce(torch.mul, _parameters(boxes)[ndim : 2 * ndim])


def intersection(
    a: Shaped[Tensor, "*#batch parameters"], b: Shaped[Tensor, "*#batch parameters"]
) -> Float[Tensor, "*#batch"]:
    """Area or volume that two boxes share."""
    ndim = spatial_dims(a)
    columns_a, columns_b = _parameters(a), _parameters(b)
    offset = [x - y for x, y in zip(columns_a[:2], columns_b[:2], strict=True)]
    area = _shared_area(
        offset,
        columns_a[ndim : ndim + 2],
        columns_b[ndim : ndim + 2],
        columns_a[-1] - columns_b[-1],
        columns_b[-1],
    )
    if ndim == 2:
        return area
    return area * _shared_length(columns_a[2] - columns_b[2], columns_a[5] / 2, columns_b[5] / 2)


def spatial_dims(boxes: Shaped[Tensor, "*batch parameters"]) -> int:
    """2 for five parameters, 3 for seven."""
    return (boxes.shape[-1] - 1) // 2


def _parameters(boxes: Tensor) -> tuple[Tensor, ...]:
    """The parameters one by one; their gradients are put together one by one, too."""
    return boxes.to(torch.float64).movedim(-1, 0).unbind(0)


def circumscribed(
    boxes: Shaped[Tensor, "boxes parameters"],
) -> Float[Tensor, "boxes coords"]:
    """The smallest axis-aligned box around each: minima, then maxima."""
    ndim, wide = spatial_dims(boxes), boxes.to(torch.float64)
    half = wide[:, ndim : 2 * ndim] / 2
    cosine, sine = wide[:, -1].cos().abs(), wide[:, -1].sin().abs()
    reach = [cosine * half[:, 0] + sine * half[:, 1], sine * half[:, 0] + cosine * half[:, 1]]
    extent = torch.stack([*reach, *half[:, 2:].unbind(1)], dim=1)
    return torch.cat([wide[:, :ndim] - extent, wide[:, :ndim] + extent], dim=1)


def holds(
    boxes: Float[Tensor, "*#batch parameters"], points: Float[Tensor, "*#batch ndim"]
) -> Bool[Tensor, "*#batch"]:
    """Whether each point lies in each box: half-open along the box's own axes."""
    ndim, apart = spatial_dims(boxes), points - boxes[..., : spatial_dims(boxes)]
    angle = boxes[..., -1]
    own = along_axes(apart[..., 0], apart[..., 1], (angle.cos(), angle.sin()))
    places, half = torch.stack([*own, *apart[..., 2:].unbind(-1)], dim=-1), boxes[..., ndim:-1] / 2
    return ((places >= -half) & (places < half)).all(dim=-1)


def along_axes(x: Tensor, y: Tensor, axis: Point) -> Point:
    """A vector's parts along axes that are turned; `axis` is the first one, (cosine, sine)."""
    cosine, sine = axis
    return cosine * x + sine * y, cosine * y - sine * x


def _shared_area(
    offset: list[Tensor],
    edges_a: tuple[Tensor, ...],
    edges_b: tuple[Tensor, ...],
    turn: Tensor,
    angle_b: Tensor,
) -> Tensor:
    """Area that two rectangles share, A in the frame of B."""
    x, y = along_axes(offset[0], offset[1], (angle_b.cos(), angle_b.sin()))
    halves = [edge / 2 for edge in (*edges_a, *edges_b)]
    area: Tensor = _GreenIntegral.apply(x, y, turn, *halves)  # pyright: ignore[reportAssignmentType]
    limit = torch.minimum(edges_a[0] * edges_a[1], edges_b[0] * edges_b[1])
    excess = area - torch.minimum(area.clamp(min=0), limit)
    return area - excess.detach()  # rounding never leaves the range, nor touches the gradient


class _GreenIntegral(torch.autograd.Function):
    """Area of a rectangle at (x, y), turned, inside an upright one at the origin.

    Where edges coincide, the gradient is the mean of both sides if no edge is 0, else some finite
    one of them.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, y, turn, half_a, half_b, half_w, half_h):
        start, stop = _edges(x, y, (turn.cos(), turn.sin()), half_a, half_b, half_h)
        x_low, x_high = _between(start, stop)[2:]
        begin, end = _clamp(x_low, half_w), _clamp(x_high, half_w)
        first, second = _passes(x_low, x_high, half_w)
        mean = begin + (end - begin) * (1 - (first + second) / 2)  # three trapezoids
        parts = (stop.held - start.held) * mean
        return without_rounding(parts.sum(0), parts.abs().sum(0))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, turn, half_a, half_b, half_w, half_h = ctx.saved_tensors
        cosine, sine = turn.cos(), turn.sin()
        start, stop = _edges(x, y, (cosine, sine), half_a, half_b, half_h)
        inside, lever, to_w, to_h = _side_derivatives(start, stop, half_w, half_h)
        net_a, net_b = 2 * half_a * (inside[0] - inside[2]), 2 * half_b * (inside[1] - inside[3])
        found = [
            sine * net_a + cosine * net_b,
            sine * net_b - cosine * net_a,
            -2 * (half_a**2 * (lever[0] + lever[2]) + half_b**2 * (lever[1] + lever[3])),
            2 * half_b * (inside[1] + inside[3]),
            2 * half_a * (inside[0] + inside[2]),
            to_w.sum(0),
            to_h.sum(0),
        ]
        wanted = zip(found, ctx.saved_tensors, ctx.needs_input_grad, strict=True)
        return tuple(
            (gradients[0] * part).sum_to_size(of.shape) if need else None
            for part, of, need in wanted
        )


class _Corners(NamedTuple):
    """Corners of A in the frame of B, an axis of four in front, and y held to |y| <= half_h."""

    x: Tensor
    y: Tensor
    held: Tensor


def _edges(
    x: Tensor, y: Tensor, axis: Point, half_a: Tensor, half_b: Tensor, half_h: Tensor
) -> tuple[_Corners, _Corners]:
    """Starts and stops of A's edges, counter-clockwise, given its first axis in the frame of B.

    Edges 0 and 2 lie along that axis. All four are held in one tensor: so there are fewer
    operations, and more threads are worth their while.
    """
    along = axis[0] * half_a, axis[1] * half_a
    across = -axis[1] * half_b, axis[0] * half_b
    places = []
    for middle, length, width in zip((x, y), along, across, strict=True):
        low, high = middle - length, middle + length
        corners = [low - width, high - width, high + width, low + width]
        places.append(torch.stack([*corners, corners[0]]))
    ring = (*places, _clamp(places[1], half_h))
    return _Corners(*(each[:-1] for each in ring)), _Corners(*(each[1:] for each in ring))


def _between(start: _Corners, stop: _Corners) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shares of each edge where its part with |y| <= half_h begins and ends, and x at both.

    A flat edge is all of it.
    """
    rise, run = stop.y - start.y, stop.x - start.x
    flat = _is_nothing(rise)
    rise = torch.where(flat, 1, rise)
    t_low = torch.where(flat, 0, (start.held - start.y) / rise)
    t_high = torch.where(flat, 1, (stop.held - start.y) / rise)
    return t_low, t_high, start.x + t_low * run, start.x + t_high * run


def _passes(x0: Tensor, x1: Tensor, half_w: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the way from x0 to x1 where x passes -half_w and half_w, held to [0, 1]."""
    run = x1 - x0
    run = torch.where(_is_nothing(run), 1, run)
    return ((-half_w - x0) / run).clamp_(0, 1), ((half_w - x0) / run).clamp_(0, 1)


def _side_derivatives(
    start: _Corners, stop: _Corners, half_w: Tensor, half_h: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How the integral along each edge of A follows the edge, and the sides of B.

    The share of the edge inside B, and that share times the place of its middle on the edge (from
    -1 to 1); then the derivatives to half_w and half_h. What lies on a side of B counts half.
    """
    t_low, t_high, x_low, x_high = _between(start, stop)
    first, second = _passes(x_low, x_high, half_w)
    first, second = torch.minimum(first, second), torch.maximum(first, second)
    upright, flat = _is_nothing(x_high - x_low), _is_nothing(stop.y - start.y)
    beyond, below, above = _beyond(x_high, half_w), *(_beyond(p.y, half_h) for p in (start, stop))
    first = torch.where(upright, beyond.abs() / 2, first)
    second = torch.where(upright, 1 - first, second)
    whole = t_high - t_low
    inside = (second - first) * whole * torch.where(flat, 1 - below.abs(), 1)
    lever = inside * (2 * t_low + whole * (first + second) - 1)
    outside = first * x_low.sign() + (1 - second) * x_high.sign()
    passing = above * _clamp(x_high, half_w) - below * _clamp(x_low, half_w)
    return inside, lever, (stop.held - start.held) * outside, torch.where(flat, 0, passing)


def _beyond(values: Tensor, half: Tensor) -> Tensor:
    """1 above the range [-half, half], -1 below it, half of that at its ends, 0 within."""
    return ((values - half).sign() + (values + half).sign()) / 2


def _is_nothing(length: Tensor) -> Tensor:
    return length.abs() <= _SMALLEST


def _clamp(values: Tensor, half: Tensor) -> Tensor:
    return torch.clamp(values, -half, half)


def _shared_length(offset: Tensor, half_a: Tensor, half_b: Tensor) -> Tensor:
    shared = torch.minimum(offset + half_a, half_b) - torch.maximum(offset - half_a, -half_b)
    return torch.maximum(shared, torch.zeros_like(shared))
