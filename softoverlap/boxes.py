"""Coordinates: axis-aligned boxes in any number of dimensions.

A box is all minima, then all maxima, in tensor axis order; it is half-open and real-valued, so
voxel `i` fills `[i, i + 1)`. Functions of two boxes broadcast over the leading axes: pass
`a[:, None]` and `b[None]` for all pairs. Nothing of shape (N, M, coords) is ever made.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap._types import accumulation_dtype


def split(boxes: Shaped[Tensor, "*batch coords"]) -> tuple[list[Tensor], list[Tensor]]:
    """The minima and the maxima, a tensor an axis, in float32 or wider."""
    ndim = boxes.shape[-1] // 2
    columns = boxes.to(accumulation_dtype(boxes)).unbind(-1)
    return list(columns[:ndim]), list(columns[ndim:])


def volume(boxes: Shaped[Tensor, "*batch coords"]) -> Float[Tensor, "*batch"]:
    """Product of the edges."""
    return _product(edges(boxes))


def intersection(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Volume that two boxes share; touching faces pass half of the gradient."""
    shared = []
    for low_a, high_a, low_b, high_b in zip(*split(a), *split(b), strict=True):
        edge = torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)
        shared.append(torch.maximum(edge, edge.new_zeros(())))
    return _product(shared)


def enclosing_volume(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Volume of the smallest box around both."""
    return _product(enclosing_edges(a, b))


def squared_centre_distance(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Squared Euclidean distance of the centres."""
    total: Tensor | float = 0.0
    for low_a, high_a, low_b, high_b in zip(*split(a), *split(b), strict=True):
        total = total + (((low_a - low_b) + (high_a - high_b)) / 2) ** 2
    return torch.as_tensor(total)


def squared_diagonal(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Squared diagonal of the smallest box around both."""
    total: Tensor | float = 0.0
    for edge in enclosing_edges(a, b):
        total = total + edge**2
    return torch.as_tensor(total)


def enclosing_edges(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> list[Tensor]:
    """Edges of the smallest box around both, a tensor an axis."""
    return [
        torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)
        for low_a, high_a, low_b, high_b in zip(*split(a), *split(b), strict=True)
    ]


def edges(boxes: Shaped[Tensor, "*batch coords"]) -> list[Tensor]:
    """Edges of each box, a tensor an axis."""
    return [high - low for low, high in zip(*split(boxes), strict=True)]


def equal(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Bool[Tensor, "*#batch"]:
    """Whether all coordinates agree."""
    same = a[..., 0] == b[..., 0]
    for coordinate in range(1, a.shape[-1]):
        same = same & (a[..., coordinate] == b[..., coordinate])
    return same


def centres(boxes: Shaped[Tensor, "*batch coords"]) -> Float[Tensor, "*batch ndim"]:
    """Mean of the minima and the maxima."""
    minima, maxima = split(boxes)
    middles = [low + (high - low) / 2 for low, high in zip(minima, maxima, strict=True)]
    return torch.stack(middles, dim=-1)


def clip(
    boxes: Shaped[Tensor, "*batch coords"], spatial_size: tuple[int, ...]
) -> Shaped[Tensor, "*batch coords"]:
    """The part of each box inside an image of this size; a box beyond it becomes flat."""
    upper = torch.tensor(spatial_size * 2, dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0), upper)


def _product(lengths: list[Tensor]) -> Tensor:
    """Left to right, so that a box's volume and its intersection with itself agree to the bit."""
    product = lengths[0]
    for edge in lengths[1:]:
        product = product * edge
    return product
