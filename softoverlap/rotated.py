"""Oriented rectangles (2D) and yaw boxes (3D): volume and intersection.

A box is `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians, counter-clockwise from
axis 0 to axis 1. The corners of A are put into the frame of B, where B is `|x| <= w/2, |y| <= h/2`;
by Green's theorem the shared area is the integral of `clamp(x, -w/2, w/2) dy` over the parts of
A's edges with `|y| <= h/2`. On an edge the integrand is linear between at most two break points,
so the trapezoid rule is exact: no sorting, no list of vertices, no tolerance. Arithmetic is
float64, after centres and angles are subtracted. Functions of two boxes broadcast over the
leading axes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

_SMALLEST = 1e-150  # an edge flatter than this has no area to give and would overflow a quotient


def volume(boxes: Shaped[Tensor, "*batch parameters"]) -> Float[Tensor, "*batch"]:
    """Product of the edges."""
    ndim = spatial_dims(boxes)
    edges = boxes[..., ndim : 2 * ndim].to(torch.float64)
    product = edges[..., 0]
    for axis in range(1, ndim):
        product = product * edges[..., axis]
    return product


def intersection(
    a: Shaped[Tensor, "*#batch parameters"], b: Shaped[Tensor, "*#batch parameters"]
) -> Float[Tensor, "*#batch"]:
    """Area or volume that two boxes share."""
    ndim = spatial_dims(a)
    columns_a, columns_b = a.to(torch.float64).unbind(-1), b.to(torch.float64).unbind(-1)
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


def _shared_area(
    offset: list[Tensor],
    edges_a: tuple[Tensor, ...],
    edges_b: tuple[Tensor, ...],
    turn: Tensor,
    angle_b: Tensor,
) -> Tensor:
    """Green's integral over the four edges of A in the frame of B."""
    cosine, sine = angle_b.cos(), angle_b.sin()
    x = cosine * offset[0] + sine * offset[1]
    y = cosine * offset[1] - sine * offset[0]
    half_a, half_b = [edge / 2 for edge in edges_a], [edge / 2 for edge in edges_b]
    along = (turn.cos() * half_a[0], turn.sin() * half_a[0])
    across = (-turn.sin() * half_a[1], turn.cos() * half_a[1])
    corners = [
        (x + i * along[0] + j * across[0], y + i * along[1] + j * across[1])
        for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    area = torch.zeros_like(x)
    for start, stop in zip(corners, corners[1:] + corners[:1], strict=True):
        area = area + _edge_integral(start, stop, half_b[0], half_b[1])
    limit = torch.minimum(edges_a[0] * edges_a[1], edges_b[0] * edges_b[1])
    excess = area - torch.minimum(area.clamp(min=0), limit)
    return area - excess.detach()  # rounding never leaves the range, nor touches the gradient


def _edge_integral(
    start: tuple[Tensor, Tensor], stop: tuple[Tensor, Tensor], half_w: Tensor, half_h: Tensor
) -> Tensor:
    """Integral of clamp(x) dy over the part of an edge with |y| <= half_h."""
    (x0, y0), (x1, y1) = start, stop
    low, high = _clamp(y0, -half_h, half_h), _clamp(y1, -half_h, half_h)
    x_low = x0 + _share(low - y0, y1 - y0) * (x1 - x0)
    x_high = x0 + _share(high - y0, y1 - y0) * (x1 - x0)
    # a flat edge has no area, but where it tilts it sweeps all of its length
    x_high = torch.where((y1 - y0).abs() > _SMALLEST, x_high, x1)
    return (high - low) * _mean_of_clamp(x_low, x_high, half_w)


def _mean_of_clamp(x0: Tensor, x1: Tensor, half_w: Tensor) -> Tensor:
    """Mean of clamp(x, -half_w, half_w) for x going evenly from x0 to x1: three trapezoids."""
    run = x1 - x0
    first, second = _clamp01(_share(-half_w - x0, run)), _clamp01(_share(half_w - x0, run))
    first, second = torch.minimum(first, second), torch.maximum(first, second)
    values = [_clamp(x0 + t * run, -half_w, half_w) for t in (first, second)]
    begin, end = _clamp(x0, -half_w, half_w), _clamp(x1, -half_w, half_w)
    return (
        first * (begin + values[0])
        + (second - first) * (values[0] + values[1])
        + (1 - second) * (values[1] + end)
    ) / 2


def _shared_length(offset: Tensor, half_a: Tensor, half_b: Tensor) -> Tensor:
    shared = torch.minimum(offset + half_a, half_b) - torch.maximum(offset - half_a, -half_b)
    return torch.maximum(shared, torch.zeros_like(shared))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, and 0 where the whole is nothing."""
    something = whole.abs() > _SMALLEST
    return torch.where(something, part / torch.where(something, whole, 1), 0)


def _clamp(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Like `torch.clamp`, with half of the gradient at the limits."""
    return torch.maximum(torch.minimum(values, high), low)


def _clamp01(values: Tensor) -> Tensor:
    return values.clamp(0, 1)
