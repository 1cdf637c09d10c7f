"""Balls in boxes: a box stands for the ball, in 2D the disc, that touches its faces.

So a ball goes wherever boxes go. Where voxels are longer along one axis, a ball is an ellipsoid and
its box no cube; nothing here changes if an axis is stretched, so voxels serve as well as mm.

Two balls share a lens of two caps; their heights are products of differences, not differences of
squares, so lenses of any thinness are right. A box shares with a ball a signed sum over its corners
of what the ball has between its centre and a corner; by the divergence theorem that is made of the
slices through the corner, which are balls of one dimension less, and of the part of the sphere in
between, whose area Gauss and Bonnet give. Derivatives are read off the same pieces: a face moves
its slice, and a radius the sphere inside. Arithmetic is float64, after centres are subtracted.
Functions of two sets broadcast over the leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import combinations, product

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_tensors, should_validate
from softoverlap._rounding import ROUNDING
from softoverlap._types import plain, score_dtype

MOST_AXES = 3
_OF_UNIT = {1: 2.0, 2: math.pi, 3: 4 * math.pi / 3}
"""Volume of the ball of radius 1."""


def boxes_of_balls(
    balls: Shaped[Tensor, "balls parameters"], *, validate: bool | None = None
) -> Float[Tensor, "balls coords"]:
    """The boxes that balls are given by: the smallest one around each.

    Args:
        balls: Centre, then diameter, in any one unit, shape (N, ndim + 1); the columns `coordX,
            coordY, coordZ, diameter_mm` of LUNA16's `annotations.csv` are balls as they stand.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Minima, then maxima, in that unit, shape (N, 2 * ndim).

    Raises:
        ValueError: If the shape is wrong, a value is not finite or a diameter is negative.

    References:
        Setio et al., LUNA16, https://arxiv.org/abs/1612.08012

    Examples:
        >>> import torch
        >>> boxes_of_balls(torch.tensor([[4.0, 5.0, 6.0, 2.0]]))
        tensor([[3., 4., 5., 5., 6., 7.]])
    """
    check_tensors(balls=balls)
    if balls.ndim != 2 or not 2 <= balls.shape[1] <= MOST_AXES + 1:
        raise ValueError(
            f"balls must have shape (N, ndim + 1), a centre on one to three axes and a diameter, "
            f"got {tuple(balls.shape)}"
        )
    balls, given = plain(balls), balls
    if should_validate(validate, balls):
        if not torch.isfinite(balls.detach()).all():
            raise ValueError("balls must hold finite numbers, got NaN or infinity")
        negative = (balls.detach()[:, -1] < 0).nonzero()
        if len(negative):
            row = int(negative[0, 0])
            raise ValueError(
                f"balls must have diameters of at least 0, got {balls[row].tolist()} in row {row}"
            )
    centre, radius = balls[:, :-1], balls[:, -1:] / 2
    return torch.cat([centre - radius, centre + radius], dim=1).to(score_dtype(given))


def check_ball_boxes(check: Callable[[], None], **boxes: Tensor) -> None:
    """Check boxes; where rows may be centres and diameters, the message says what takes those."""
    try:
        check()
    except ValueError as error:
        if any(each.ndim == 2 and each.shape[1] in (3, MOST_AXES + 1) for each in boxes.values()):
            raise ValueError(
                f"{error}; boxes_of_balls makes boxes of centre and diameter"
            ) from None
        raise


def halves(boxes: Shaped[Tensor, "*batch coords"]) -> tuple[list[Tensor], list[Tensor]]:
    """Centre and half of the edge, a tensor an axis, float64."""
    minima, maxima = geometry.split(boxes.to(torch.float64))
    radii = [(high - low) / 2 for low, high in zip(minima, maxima, strict=True)]
    return [low + radius for low, radius in zip(minima, radii, strict=True)], radii


def volume(boxes: Shaped[Tensor, "*batch coords"]) -> Float[Tensor, "*batch"]:
    """Volume of the ball in each box; that of an ellipsoid where the box is no cube."""
    _, radii = halves(boxes)
    return _OF_UNIT[len(radii)] * reduce(torch.mul, radii)


def relative_distance(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Distance of the centres in radii of the second ball; infinite from one without volume."""
    (centre_a, _), (centre_b, radii) = halves(a), halves(b)
    offset = []
    for x, y, radius in zip(centre_a, centre_b, radii, strict=True):
        beyond = torch.where(x == y, 0.0, math.inf)
        offset.append(torch.where(radius > 0, (x - y) / _above_0(radius), beyond))
    return _length(offset)


def shared_and_own(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> tuple[Tensor, ...]:
    """Volume that two balls share, and that of each, in some unit.

    Each axis is measured in the geometric mean of both edges. If one box is the other one larger,
    as those of two balls are, both hold balls then. Else they hold ellipsoids, which share no less
    than what the largest balls in them share.
    """
    (centre_a, edges_a), (centre_b, edges_b) = halves(a), halves(b)
    if len(edges_a) == 1:
        return geometry.shared_and_own(a, b)
    units = [_above_0(_root(x * y)) for x, y in zip(edges_a, edges_b, strict=True)]
    offset = [(x - y) / unit for x, y, unit in zip(centre_a, centre_b, units, strict=True)]
    radii = [
        torch.stack([edge / unit for edge, unit in zip(edges, units, strict=True)])
        for edges in (edges_a, edges_b)
    ]
    larger = _above_0(torch.maximum(*(each.amax(dim=0) for each in radii)).detach())
    radii, ndim = [each / larger for each in radii], len(offset)
    inner = [each.amin(dim=0) for each in radii]
    shared: Tensor = _Lens.apply(_length(offset) / larger, *inner, ndim)  # pyright: ignore
    return shared, *(_OF_UNIT[ndim] * reduce(torch.mul, each.unbind(0)) for each in radii)


def shared_with_box(
    boxes: Shaped[Tensor, "*#batch coords"], balls: Shaped[Tensor, "*#batch coords"]
) -> tuple[Tensor, ...]:
    """Volume that a box and a ball share, and that of each, where the radius is 1."""
    centre, radii = halves(balls)
    ndim = len(radii)
    if ndim == 1:
        return geometry.shared_and_own(boxes, balls)
    low, high = (
        [(x - y) / _above_0(radius) for x, y, radius in zip(faces, centre, radii, strict=True)]
        for faces in geometry.split(boxes.to(torch.float64))
    )
    shared = torch.zeros_like(radii[0])
    for upper in product((False, True), repeat=ndim):
        corner = [high[axis] if up else low[axis] for axis, up in enumerate(upper)]
        shared = shared + (-1) ** upper.count(False) * up_to_corner(*corner)
    nearest = [
        bottom.clamp(min=0) + top.clamp(max=0) for bottom, top in zip(low, high, strict=True)
    ]
    apart = _sum([x.detach() ** 2 for x in nearest]) >= 1 - ROUNDING
    shared = shared.masked_fill(apart, 0)  # a thin box has parts far below the rounding of angles
    of_boxes = reduce(torch.mul, [top - bottom for bottom, top in zip(low, high, strict=True)])
    solid = reduce(torch.minimum, radii) > 0
    of_balls = _OF_UNIT[ndim] * solid.to(torch.float64)
    return within(shared, torch.minimum(of_boxes, of_balls)), of_boxes, of_balls


def within(values: Tensor, limit: Tensor) -> Tensor:
    """Held to [0, limit], which rounding may leave; the gradient is that of the values."""
    excess = values - torch.minimum(values.clamp(min=0), limit)
    return values - excess.detach()


def up_to_corner(*corner: Float[Tensor, "*#batch"]) -> Float[Tensor, "*#batch"]:
    """Volume of the unit ball between its centre and a corner, given by a tensor an axis.

    It changes sign with each coordinate, so a box has the sum over its corners, signed.
    """
    if len(corner) == 1:
        return corner[0].clamp(-1, 1)
    x, y, *others = corner
    return _UpToCorner.apply(x, y, *(others or [None]))  # pyright: ignore[reportReturnType]


class _UpToCorner(torch.autograd.Function):
    """The derivative to a coordinate is the slice of the ball there, up to the corner.

    In 2D the third coordinate is None; a compiler counts the arguments.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, y, z):
        held = [place.clamp(-1, 1) for place in (x, y, z) if place is not None]
        slices = [place * _slice(held, axis) for axis, place in enumerate(held)]
        return (_sphere_up_to(held) + _sum(slices)) / len(held)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        corner = [place for place in ctx.saved_tensors if place is not None]
        return tuple(
            (gradients[0] * _slice(corner, axis)).sum_to_size(corner[axis].shape) if need else None
            for axis, need in enumerate(ctx.needs_input_grad)
        )


def _slice(corner: Sequence[Tensor], axis: int) -> Tensor:
    """Volume of the slice of the unit ball at a coordinate, up to the others."""
    radius = _root((1 - corner[axis]) * (1 + corner[axis]))
    others = [x / _above_0(radius) for place, x in enumerate(corner) if place != axis]
    return radius ** len(others) * up_to_corner(*others)


def _sphere_up_to(corner: Sequence[Tensor]) -> Tensor:
    """Area of the unit sphere between the planes through the centre and the corner, signed.

    In 2D that is the length of the circle. What lies beyond one plane is taken from the octant,
    what lies beyond two is given back; beyond all three is nothing, unless the corner is inside.
    """
    sign, sides = reduce(torch.mul, [x.sign() for x in corner]), [x.abs() for x in corner]
    if len(sides) == 2:
        beyond = [torch.atan2(_root((1 - x) * (1 + x)), x) for x in sides]
        return sign * (math.pi / 2 - _sum(beyond)).clamp(min=0)
    area = math.pi / 2 * (_sum(sides) - 2)
    area = area + _sum([_beyond_both(x, y) for x, y in combinations(sides, 2)])
    outside = _sum([x * x for x in sides]) > 1
    return sign * torch.where(outside, area.clamp(min=0), 0)


def _beyond_both(x: Tensor, y: Tensor) -> Tensor:
    """Half of the area of the unit sphere that lies beyond both of two upright planes."""
    z = _root(1 - x * x - y * y)
    return torch.atan2(z, x * y) - x * torch.atan2(z, y) - y * torch.atan2(z, x)


class _Lens(torch.autograd.Function):
    """Volume that two balls share, from their distance and radii.

    Where centres and radii are equal, the gradient is the mean of all sides: 0 to the distance's
    direction, and half of the sphere to each radius.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(apart, radius_a, radius_b, ndim):
        caps, half = _caps(apart, radius_a, radius_b)
        both = list(zip((radius_a, radius_b), caps, strict=True))
        if ndim == 2:
            parts = [radius**2 * _segment(torch.atan2(half, radius - cap)) for radius, cap in both]
        else:
            parts = [math.pi / 3 * cap**2 * (3 * radius - cap) for radius, cap in both]
        shared, smaller = _sum(parts), _OF_UNIT[ndim] * torch.minimum(radius_a, radius_b) ** ndim
        inside = apart <= (radius_a - radius_b).abs()
        return torch.where(inside, smaller, torch.minimum(shared, smaller))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.ndim = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        apart, *radii = ctx.saved_tensors
        caps, half = _caps(apart, *radii)
        if ctx.ndim == 2:
            angles = [torch.atan2(half, r - cap) for cap, r in zip(caps, radii, strict=True)]
            found = [-2 * half, *(2 * r * angle for r, angle in zip(radii, angles, strict=True))]
        else:
            found = [-math.pi * half**2]
            found += [2 * math.pi * r * cap for r, cap in zip(radii, caps, strict=True)]
        wanted = zip(found, ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        grads = [(gradients[0] * x).sum_to_size(of.shape) if n else None for x, of, n in wanted]
        return *grads, None


def _caps(apart: Tensor, radius_a: Tensor, radius_b: Tensor) -> tuple[list[Tensor], Tensor]:
    """Heights of the parts of both balls inside the other, and the radius of the disc between.

    All of a ball inside the other is a cap of its diameter. The plane of equal powers of both
    balls, in which the disc lies, cuts equal balls of one centre in half.
    """
    same = apart <= 0
    twice = torch.where(same, 1, 2 * apart)
    depth = (radius_a + radius_b - apart).clamp(min=0)
    ahead = radius_b - radius_a
    past_a, past_b = (apart + ahead).clamp(min=0), (apart - ahead).clamp(min=0)
    caps = []
    for past, own, other in ((past_a, radius_a, radius_b), (past_b, radius_b, radius_a)):
        cap = torch.minimum(depth * past / twice, 2 * own)
        caps.append(torch.where(same, own * (1 + (other - own).sign()), cap))
    half = _root(depth * past_a * past_b * (apart + radius_a + radius_b)) / twice
    return caps, torch.where(same, torch.where(radius_a == radius_b, radius_a, 0), half)


def _segment(angle: Tensor) -> Tensor:
    """Area of the unit disc beyond a chord, seen from the centre under twice the angle."""
    double = 2 * angle
    square, series = double**2, torch.ones_like(double)
    for k in range(16, 2, -2):  # of x - sin(x), which cancels where x is small
        series = 1 - square / (k * (k + 1)) * series
    return torch.where(double < 1, double**3 / 12 * series, (double - double.sin()) / 2)


def _above_0(length: Tensor) -> Tensor:
    """What may be divided by: 1 in place of 0."""
    return torch.where(length > 0, length, 1)


def _length(offset: Sequence[Tensor]) -> Tensor:
    """Euclidean length, with gradient 0 where it is 0."""
    return _root(_sum([x * x for x in offset]))


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, parts)


def _root(values: Tensor) -> Tensor:
    """The square root, and 0 with gradient 0 of what is not above 0."""
    above = ~(values <= 0)  # so for NaN
    return torch.where(above, torch.where(above, values, 1).sqrt(), 0)
