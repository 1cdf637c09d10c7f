"""How much of each voxel a real-valued box fills, or the ellipsoid that touches its faces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

_LINES = 64
"""Lines across an ellipsoid along each axis but the last, at least."""


def box_fill(
    low: Sequence[float], high: Sequence[float]
) -> tuple[Float64[Tensor, "*crop"], Int64[Tensor, "ndim"]]:
    """The filled share of each voxel that a box meets, exactly, and the first of these voxels.

    Examples:
        >>> box_fill([0.5], [2.25])[0]
        tensor([0.5000, 1.0000, 0.2500], dtype=torch.float64)
    """
    fill = torch.ones((), dtype=torch.float64)
    for a, b in zip(low, high, strict=True):
        fill = fill[..., None] * _lengths(a, b)
    return fill, _first(low)


def ellipsoid_fill(
    low: Sequence[float], high: Sequence[float]
) -> tuple[Float64[Tensor, "*crop"], Int64[Tensor, "ndim"]]:
    """The same for the ellipsoid inside the box (in 2D the ellipse).

    Along the last axis lines through it have exact lengths; across, there are 64 of them or more,
    and at least two a voxel, so that its volume is right to 0.1 %.

    Examples:
        >>> round(float(ellipsoid_fill([0.0, 0.0], [4.0, 4.0])[0].sum()), 1)  # of 4π
        12.6
    """
    squares, weight = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    counts = []
    for a, b in zip(low[:-1], high[:-1], strict=True):
        lengths = _lengths(a, b)
        samples = max(2, math.ceil(_LINES / (b - a)), math.ceil(_LINES / len(lengths)))
        samples = min(samples, _LINES)
        starts = (torch.arange(len(lengths), dtype=torch.float64) + math.floor(a)).clamp(min=a)
        steps = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
        places = (starts[:, None] + steps * lengths[:, None]).flatten()
        counts.append((len(lengths), samples))
        squares = squares[..., None] + ((2 * places - a - b) / (b - a)).square()
        weight = weight[..., None] * (lengths / samples).repeat_interleave(samples)
    half = (1 - squares).clamp(min=0).sqrt() * (high[-1] - low[-1]) / 2
    middle = (low[-1] + high[-1]) / 2
    layers = [
        _summed(
            ((middle + half).clamp(max=k + 1) - (middle - half).clamp(min=k)).clamp(min=0) * weight,
            counts,
        )
        for k in range(math.floor(low[-1]), math.ceil(high[-1]))
    ]
    return torch.stack(layers, dim=-1).clamp(max=1), _first(low)


def _summed(values: Tensor, counts: Sequence[tuple[int, int]]) -> Tensor:
    """Sums over the lines of each voxel."""
    split = values.reshape([side for pair in counts for side in pair])
    return split.sum(dim=tuple(range(1, 2 * len(counts), 2))) if counts else split


def _lengths(low: float, high: float) -> Float64[Tensor, "voxels"]:
    """How much of each voxel an interval covers."""
    edges = torch.arange(math.floor(low), math.ceil(high) + 1, dtype=torch.float64)
    return (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0)


def _first(low: Sequence[float]) -> Int64[Tensor, "ndim"]:
    return torch.tensor([math.floor(a) for a in low])
