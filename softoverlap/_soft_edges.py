"""The edge that two soft boxes have in common on an axis, of which both move with one number.

The faces of a box lie at `low - u σ_low` and `high + u σ_high`, with a standard normal number u. As
a function of u the edge in common is piecewise linear and rises, so its mean is a sum of Φ and φ at
the places where lines cross.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

_FAR = 40.0
"""Deviations beyond which nothing is left: Φ(-40) is 0 in float64."""


class Faces(NamedTuple):
    """Mean and deviation of the minimum, and of the maximum, on an axis."""

    low: Tensor
    low_deviation: Tensor
    high: Tensor
    high_deviation: Tensor


def shared_edge(a: Faces, b: Faces) -> Tensor:
    """The mean edge that both have in common, if u is the same for both."""
    return _SharedEdge.apply(*a, *b)  # pyright: ignore[reportReturnType]


class _SharedEdge(torch.autograd.Function):
    """It is a weighted sum of the faces and deviations, and the weights are its derivative.

    A weight changes with the places where lines cross, but there the lines are equal.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(low_a, low_dev_a, high_a, high_dev_a, low_b, low_dev_b, high_b, high_dev_b):
        a = Faces(low_a, low_dev_a, high_a, high_dev_a)
        b = Faces(low_b, low_dev_b, high_b, high_dev_b)
        faces = enumerate((*a, *b))  # less an origin, as the weights of the faces add up to 0
        moved = [face if place % 2 else face - low_a for place, face in faces]
        terms = [weight * face for weight, face in zip(_weights(a, b), moved, strict=True)]
        return reduce(torch.add, terms).clamp(min=0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        faces = ctx.saved_tensors
        weights = _weights(Faces(*faces[:4]), Faces(*faces[4:]))
        wanted = zip(weights, faces, ctx.needs_input_grad, strict=True)
        return tuple(
            (gradients[0] * weight).sum_to_size(face.shape) if need else None
            for weight, face, need in wanted
        )


def _weights(a: Faces, b: Faces) -> list[Tensor]:
    """The weight of each face and deviation of both, in order.

    Faces move as `high + u σ` and `low - u σ`. From `start` on, where the last maximum has passed
    the last minimum, the edge is the lesser maximum less the greater minimum.
    """
    edges = [(x.high - y.low, x.high_deviation + y.low_deviation) for x in (a, b) for y in (a, b)]
    start = reduce(torch.maximum, (_crossing(*edge) for edge in edges))
    whole = _above(start)
    low = b.low - a.low, a.low_deviation - b.low_deviation
    high = a.high - b.high, a.high_deviation - b.high_deviation
    found: list[list[Tensor]] = [[], []]
    for line, sign in ((low, -1), (high, 1)):
        of_b = _of_lesser(*line, start, whole)
        of_a = [total - part for total, part in zip(whole, of_b, strict=True)]
        for side, (mass, moment) in zip(found, (of_a, of_b), strict=True):
            side += [sign * mass, moment]
    return found[0] + found[1]


def _of_lesser(
    gap: Tensor, slope: Tensor, start: Tensor, whole: tuple[Tensor, Tensor]
) -> tuple[Tensor, ...]:
    """Of u above `start` where `gap + u slope` is above 0; half of it where the lines are one."""
    beyond = _above(torch.maximum(start, _crossing(gap, slope)))
    falling, equal = slope < 0, (gap == 0) & (slope == 0)
    found = []
    for total, part in zip(whole, beyond, strict=True):
        part = torch.where(falling, total - part, part)
        found.append(torch.where(equal, total / 2, part))
    return tuple(found)


def _crossing(gap: Tensor, slope: Tensor) -> Tensor:
    """Where `gap + u slope` is 0, at most 40 deviations from the mean."""
    far = torch.copysign(torch.full_like(slope, _FAR), slope)
    near = slope.abs() * _FAR > gap.abs()
    return torch.where(near, -gap / torch.where(near, slope, 1), -gap.detach().sign() * far)


def _above(place: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and first moment of a standard normal number above a place."""
    density = torch.exp(-place.square() / 2) / math.sqrt(2 * math.pi)
    return torch.special.ndtr(-place), density
