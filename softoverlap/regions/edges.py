"""The area that two regions share, from their edges alone, and its derivative.

An edge is `(x, y)` of its start, then of its stop; outer rings run counter-clockwise, holes
clockwise. A point lies in a region if of the edges above it one more runs to lower than to higher
x. Written for both regions and integrated, that is a sum over edges e of A and f of B:

    area = Σ ± ∫ min(y_e - y_f, 0) dx        over the x that both have, + if both run the same way

as what depends on one edge alone cancels in rings, which are closed. The integrand is linear in two
pieces, so the sum is exact for any shapes, turns and holes: no sorting, no list of vertices, no
tolerance. Backward, a vertex moves its two edges, and of each counts what lies in the other region;
what lies on an edge of that one counts half, which is the mean of both one-sided derivatives. All
is float64, near an origin of the pair's own.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap._periodic import Period, of_axes
from softoverlap._rounding import ROUNDING, without_rounding

_MOST_TURNS = 1000

Edges = Float[Tensor, "regions edges 4"]
"""Regions by their edges; an edge without length adds nothing, and fills up the shorter ones."""

OtherEdges = Float[Tensor, "regions others 4"]
"""As many regions, of as many edges as there are."""


def area(edges: Edges) -> Float[Tensor, "regions"]:
    """By the shoelace formula: negative for a ring that runs clockwise."""
    start, stop = (edges - _origin(edges)).split(2, dim=2)
    return (start[..., 0] * stop[..., 1] - stop[..., 0] * start[..., 1]).sum(1) / 2


def shared_area(a: Edges, b: OtherEdges, period: Period = None) -> Float[Tensor, "regions"]:
    """Area that region i of one set shares with region i of the other."""
    total, moved = _sums(*_laid_out(a, b, period))
    held = torch.minimum(without_rounding(total, moved), torch.minimum(area(a), area(b)))
    return total - (total - held).detach()  # rounding never leaves the range, nor turns a gradient


def covered_area(rings: Edges, period: Period = None) -> Float[Tensor, "regions"]:
    """What rings of any kind share with themselves: ∫ w² where they go w times round a point."""
    return without_rounding(*_sums(*_laid_out(rings, rings, period)))


def _laid_out(a: Tensor, b: Tensor, period: Period) -> tuple[Tensor, Tensor]:
    """Both from the first turn on, and `b` once more for each turn in which it may reach `a`."""
    for axis, length in enumerate(of_axes(period, 2)):
        if length is None or not (len(a) and len(b)):
            continue
        a, b = (_from_first_turn(edges, axis, length) for edges in (a, b))
        highest = (float(edges.detach()[..., axis::2].max()) for edges in (b, a))
        back, on = (math.floor(one / length) for one in highest)
        if back + on > _MOST_TURNS:
            raise refusal(
                "period", f"must fit {_MOST_TURNS} times at most in polygons, got {length}"
            )
        turns = [_moved(b, axis, turn * length) for turn in range(-back, on + 1)]
        b = torch.cat(turns, dim=1)
    return a, b


def _from_first_turn(edges: Tensor, axis: int, length: float) -> Tensor:
    lowest = edges.detach()[..., axis::2].amin(dim=(1, 2))
    return _moved(edges, axis, -(lowest / length).floor()[:, None, None] * length)


def _moved(edges: Tensor, axis: int, by: Tensor | float) -> Tensor:
    along = edges.new_zeros(4)
    along[axis::2] = 1
    return edges + along * by


def _origin(edges: Tensor) -> Tensor:
    """The first vertex of each region, for both ends of an edge."""
    return edges[:, :1, :2].detach().repeat(1, 1, 2)


def _sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The integral of each pair of regions, and how much was added up for it, of either sign."""
    low_a, high_a = torch.aminmax(a.detach()[..., ::2], dim=2)
    low_b, high_b = torch.aminmax(b.detach()[..., ::2], dim=2)
    meets = (low_a[:, :, None] <= high_b[:, None]) & (low_b[:, None] <= high_a[:, :, None])
    region, of_a, of_b = meets.nonzero(as_tuple=True)
    origin = _origin(a)[region, 0]
    parts: Tensor = _Integral.apply(a[region, of_a] - origin, b[region, of_b] - origin)  # pyright: ignore[reportAssignmentType]
    nothing = parts.new_zeros(len(a))
    total = nothing.index_add(0, region, parts)
    return total, nothing.index_add(0, region, parts.detach().abs())


class _Integral(torch.autograd.Function):
    """What pairs of edges add to the area, and to its derivative, once all are added up."""

    @staticmethod
    def forward(e, f):
        part = _Part(e, f)
        below = part.gap_start.clamp(max=0), part.gap_stop.clamp(max=0)
        rise = part.gap_stop - part.gap_start
        share = torch.where(rise == 0, 1, (below[1] - below[0]) / torch.where(rise == 0, 1, rise))
        return part.way * part.run * (below[0] + below[1]) / 2 * share

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        e, f = ctx.saved_tensors
        above, sides = gradients[0][:, None], ((e, f), (f, e))
        wanted = zip(sides, ctx.needs_input_grad, strict=True)
        return tuple(above * _derivative(*side) if needed else None for side, needed in wanted)


class _Part:
    """The part of edges e above or below edges f: where it begins and ends, and how far above.

    Attributes:
        way: 1 where f runs to higher x, -1 where to lower, 0 where it is upright.
        start: Share of e that comes before the part.
        stop: Share of e up to its end. All of an upright e is a part.
        run: Its length along x, negative where e runs to lower x.
        gap_start: How far e is above f where the part begins.
        gap_stop: The same where it ends.
        held: How much of the part counts: an upright e on an end of f counts half.
    """

    def __init__(self, e: Tensor, f: Tensor) -> None:
        x0, y0, x1, y1 = e.unbind(1)
        low, high = torch.minimum(f[:, 0], f[:, 2]), torch.maximum(f[:, 0], f[:, 2])
        begin, end = torch.clamp(x0, low, high), torch.clamp(x1, low, high)
        upright = x0 == x1
        run = torch.where(upright, 1, x1 - x0)
        self.way = (f[:, 2] - f[:, 0]).sign()
        self.start = torch.where(upright, 0, (begin - x0) / run)
        self.stop = torch.where(upright, 1, (end - x0) / run)
        self.run = end - begin
        self.gap_start = y0 + self.start * (y1 - y0) - _height(f, begin)
        self.gap_stop = y0 + self.stop * (y1 - y0) - _height(f, end)
        self.held = torch.where(upright, ((x0 - low).sign() + (high - x0).sign()) / 2, 1)


def _height(f: Tensor, x: Tensor) -> Tensor:
    """Of edges at x; what an upright one has does not count."""
    x0, y0, x1, y1 = f.unbind(1)
    return y0 + (x - x0) / torch.where(x0 == x1, 1, x1 - x0) * (y1 - y0)


def _derivative(e: Tensor, f: Tensor) -> Tensor:
    """To both ends of e: the share of it below f, by how near that is to the end, across e."""
    part = _Part(e, f)
    least = ROUNDING * torch.maximum(e.detach()[:, 1::2].abs(), f.detach()[:, 1::2].abs()).amax(1)
    gaps = (part.gap_start, part.gap_stop)
    start, stop = (torch.where(gap.abs() <= least, 0, gap) for gap in gaps)
    rise = stop - start
    crossing = (-start / torch.where(rise == 0, 1, rise)).clamp(0, 1)
    begin, end = torch.where(rise > 0, 0, crossing), torch.where(rise > 0, crossing, 1)
    share = torch.where(rise == 0, (1 - start.sign()) / 2, end - begin)
    middle = torch.where(rise == 0, 0.5, (begin + end) / 2)
    inside = -part.way * part.held * (part.stop - part.start) * share
    to_stop = inside * (part.start + (part.stop - part.start) * middle)
    across = torch.stack([e[:, 3] - e[:, 1], e[:, 0] - e[:, 2]], dim=1)
    return torch.cat([across * (inside - to_stop)[:, None], across * to_stop[:, None]], dim=1)
