"""Coordinates: axis-aligned boxes in any number of dimensions.

A box is all minima, then all maxima, in tensor axis order; it is half-open and real-valued, so
voxel `i` fills `[i, i + 1)`. Functions of two boxes broadcast over the leading axes: pass
`a[:, None]` and `b[None]` for all pairs. Nothing of shape (N, M, coords) is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap import _periodic
from softoverlap._autograd import in_graph
from softoverlap._box_edges import enclosing_edge, shared_edge
from softoverlap._box_volumes import in_one
from softoverlap._checks import (
    check_boxes,
    check_codes,
    check_positive,
    check_same_rows,
    check_solid_boxes,
)
from softoverlap._periodic import Period
from softoverlap._types import Boxes, accumulation_dtype, plain, score_dtype

MOST_LOG_SIZE = math.log(1000 / 16)
"""MONAI's clamp of decoded sizes: 62.5 times the anchor's edge."""


def split(boxes: Shaped[Tensor, "*batch coords"]) -> tuple[list[Tensor], list[Tensor]]:
    """The minima and the maxima, a tensor an axis, in float32 or wider."""
    ndim = boxes.shape[-1] // 2
    columns = widened(boxes).movedim(-1, 0).unbind(0)  # whose gradients are joined axis by axis
    return list(columns[:ndim]), list(columns[ndim:])


def widened(boxes: Shaped[Tensor, "*batch coords"]) -> Float[Tensor, "*batch coords"]:
    """In float32 or wider.

    The product of more than four edges leaves the range of float32 at sides of a million.
    """
    return boxes.to(accumulation_dtype(boxes) if boxes.shape[-1] <= 8 else torch.float64)


def volume(boxes: Shaped[Tensor, "*batch coords"]) -> Float[Tensor, "*batch"]:
    """Product of the edges."""
    return _product(edges(boxes))


def intersection(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Volume that two boxes share; touching faces pass half of the gradient."""
    return _product(_shared_edges(a, b))


def enclosing_volume(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"]
) -> Float[Tensor, "*#batch"]:
    """Volume of the smallest box around both."""
    return _product(_enclosing_edges(a, b))


def shared_and_own(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"], period: Period = None
) -> tuple[Tensor, ...]:
    """Volume that two boxes share, and that of each."""
    if period is not None:
        shared = _product(_shared_edge(*faces) for faces in _axes(a, b, period))
        return shared, *(_product(edges(boxes, period)) for boxes in (a, b))
    return in_one(_shared_and_own, widened(a), widened(b), around=False)


def all_volumes(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"], period: Period = None
) -> tuple[Tensor, ...]:
    """Volume that two boxes share, that of each, and that of the smallest box around both."""
    if period is not None:
        around = _product(enclosing_edges(a, b, period))
        return *shared_and_own(a, b, period), around
    return in_one(_all_volumes, widened(a), widened(b), around=True)


def _shared_and_own(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return intersection(a, b), volume(a), volume(b)


def _all_volumes(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return *_shared_and_own(a, b), enclosing_volume(a, b)


def squared_centre_distance(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"], period: Period = None
) -> Float[Tensor, "*#batch"]:
    """Squared Euclidean distance of the centres."""
    total: Tensor | float = 0.0
    for low_a, high_a, low_b, high_b, length in _axes(a, b, period):
        if length is None:
            apart = ((low_a - low_b) + (high_a - high_b)) / 2
        else:
            apart = _periodic.centre_distance(low_a, high_a, low_b, high_b, length)
        total = total + apart**2
    return torch.as_tensor(total)


def squared_diagonal(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"], period: Period = None
) -> Float[Tensor, "*#batch"]:
    """Squared diagonal of the smallest box around both."""
    total: Tensor | float = 0.0
    for edge in enclosing_edges(a, b, period):
        total = total + edge**2
    return torch.as_tensor(total)


def enclosing_edges(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"], period: Period = None
) -> list[Tensor]:
    """Edges of the smallest box around both, a tensor an axis."""
    if period is None:
        return list(_enclosing_edges(a, b))
    return [_enclosing_edge(*faces) for faces in _axes(a, b, period)]


def edges(boxes: Shaped[Tensor, "*batch coords"], period: Period = None) -> list[Tensor]:
    """Edges of each box, a tensor an axis."""
    if period is None:
        return [high - low for low, high in zip(*split(boxes), strict=True)]
    axes = zip(*split(boxes), _periodic.of_axes(period, boxes.shape[-1] // 2), strict=True)
    return [_edge(low, high, length) for low, high, length in axes]


def _edge(low: Tensor, high: Tensor, period: float | None) -> Tensor:
    return high - low if period is None else _periodic.edge(low, high, period)


def equal(
    a: Shaped[Tensor, "*#batch coords"], b: Shaped[Tensor, "*#batch coords"], period: Period = None
) -> Bool[Tensor, "*#batch"]:
    """Whether all coordinates agree; of aligned boxes they are compared at once."""
    if period is not None:
        return reduce(torch.logical_and, (_same_edge(*faces) for faces in _axes(a, b, period)))
    if a.shape == b.shape:
        return (a == b).all(dim=-1)
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
    upper = torch.tensor(spatial_size * 2, device=boxes.device)  # a narrow type might not hold it
    return torch.minimum(boxes.clamp(min=0), upper).to(boxes.dtype)


def encode_boxes(
    boxes: Boxes,
    anchors: Boxes,
    *,
    weights: Sequence[float] | None = None,
    period: Period = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes coords"]:
    """Codes of boxes relative to aligned anchors: what a detector's box head regresses.

    First the offset of the centre on each axis, in edges of the anchor, then the logarithm of the
    ratio of the edges, each times its weight: MONAI's `BoxCoder` in any dimension. The code of an
    interval is that of its centre and its duration. A code does not change if box and anchor
    are scaled together, so a gradient with respect to it ignores the size of the object.

    Args:
        boxes: Minima, then maxima, shape (N, 2 * ndim).
        anchors: Same shape.
        weights: A factor of each code, 2 * ndim numbers above 0; by default 1.
        period: After which length an axis comes round, one number for all or one an axis (None:
            never): the offset is then that of the shorter way round.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Codes, without unit, shape (N, 2 * ndim): centres, then sizes.

    Raises:
        ValueError: If a shape is wrong, a value is not finite, an edge is not above 0, or weights
            do not fit.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497

    Examples:
        >>> import torch
        >>> anchor = torch.tensor([[0.0, 4.0]])
        >>> encode_boxes(torch.tensor([[0.0, 8.0]]), anchor)
        tensor([[0.5000, 0.6931]])
    """
    check_solid_boxes(boxes=boxes, validate=validate)
    check_solid_boxes(anchors=anchors, ndim=boxes.shape[1] // 2, validate=validate)
    check_same_rows(boxes=boxes, anchors=anchors)
    _periodic.check_arcs(period, validate, boxes=boxes, anchors=anchors)
    factors = code_weights(weights, boxes.shape[1])
    offsets, ratios = [], []
    axes = _axes(plain(boxes), plain(anchors), period)
    for low, high, anchor_low, anchor_high, length in axes:
        edge, anchor_edge = high - low, anchor_high - anchor_low
        apart = ((low - anchor_low) + (high - anchor_high)) / 2
        if length is not None:
            apart = _periodic.centre_offset(low, high, anchor_low, anchor_high, length)
        offsets.append(apart / anchor_edge)
        ratios.append(torch.log(edge / anchor_edge))
    codes = [factor * code for factor, code in zip(factors, offsets + ratios, strict=True)]
    return torch.stack(codes, dim=1).to(score_dtype(boxes, anchors))


def decode_boxes(
    codes: Boxes,
    anchors: Boxes,
    *,
    weights: Sequence[float] | None = None,
    clamp: float = MOST_LOG_SIZE,
    validate: bool | None = None,
) -> Float[Tensor, "boxes coords"]:
    """Boxes from their codes relative to aligned anchors: the inverse of `encode_boxes`.

    Args:
        codes: Offsets of the centres, then logarithms of the sizes, shape (N, 2 * ndim).
        anchors: Minima, then maxima, shape (N, 2 * ndim).
        weights: What each code was multiplied with, 2 * ndim numbers above 0; by default 1.
        clamp: Highest logarithm of a size, so that no size overflows; by default MONAI's, 62.5
            times the anchor's edge. Above it a size has no gradient.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Minima, then maxima, in units of the anchors, shape (N, 2 * ndim), in float32 or wider.

    Raises:
        ValueError: If a shape is wrong, a value is not finite, an anchor is inverted, or weights
            or `clamp` are out of range.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497

    Examples:
        >>> import torch
        >>> anchor = torch.tensor([[0.0, 4.0]])
        >>> decode_boxes(torch.tensor([[0.5, 0.0]]), anchor)
        tensor([[2., 6.]])
    """
    check_positive(clamp=clamp)
    check_codes(codes=codes, validate=validate)
    check_boxes(anchors=anchors, ndim=codes.shape[1] // 2, validate=validate)
    check_same_rows(codes=codes, anchors=anchors)
    factors = code_weights(weights, codes.shape[1])
    dtype = accumulation_dtype(codes, anchors)
    columns = plain(codes).to(dtype).unbind(1)
    parts = [code / factor for code, factor in zip(columns, factors, strict=True)]
    minima, maxima = [], []
    for axis, (low, high) in enumerate(zip(*split(plain(anchors).to(dtype)), strict=True)):
        centre = low + (high - low) * (parts[axis] + 0.5)
        half = (high - low) * torch.exp(parts[len(parts) // 2 + axis].clamp(max=clamp)) / 2
        minima.append(centre - half)
        maxima.append(centre + half)
    return torch.stack(minima + maxima, dim=1)


def code_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """A factor of each code."""
    factors = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(factors) != count or not all(0 < factor < math.inf for factor in factors):
        raise ValueError(f"weights must be {count} numbers above 0, got {factors}")
    return factors


def _shared_edges(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Edges of the shared box, one after the other, so that few are held in the cache."""
    return map(shared_edge, *_faces(a, b))


def _enclosing_edges(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    return map(enclosing_edge, *_faces(a, b))


def _axes(
    a: Tensor, b: Tensor, period: Period
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, float | None]]:
    """Minimum and maximum of both boxes, and the period, axis by axis."""
    return zip(*_faces(a, b), _periodic.of_axes(period, a.shape[-1] // 2), strict=True)


def _shared_edge(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float | None
) -> Tensor:
    if period is None:
        return shared_edge(low_a, high_a, low_b, high_b)
    return _periodic.shared_edge(low_a, high_a, low_b, high_b, period)


def _enclosing_edge(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float | None
) -> Tensor:
    if period is None:
        return enclosing_edge(low_a, high_a, low_b, high_b)
    return _periodic.enclosing_edge(low_a, high_a, low_b, high_b, period)


def _same_edge(
    low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor, period: float | None
) -> Bool[Tensor, "*#batch"]:
    if period is None:
        return (low_a == low_b) & (high_a == high_b)
    return _periodic.is_equal(low_a, high_a, low_b, high_b, period)


def _faces(a: Tensor, b: Tensor) -> tuple[list[Tensor], ...]:
    return *split(a), *split(b)


def _product(lengths: Iterable[Tensor]) -> Tensor:
    """Left to right, so that a box's volume and its intersection with itself agree to the bit.

    The lengths are the caller's to lose: without a gradient the first one takes the product.
    """
    return reduce(_times, lengths)


def _times(total: Tensor, edge: Tensor) -> Tensor:
    return total * edge if in_graph() else total.mul_(edge)
