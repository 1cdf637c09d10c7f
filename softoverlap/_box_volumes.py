"""The volumes of aligned boxes, of what they share and of what is around both, in one derivative.

A volume is the product of an edge an axis, so its derivative by an edge is the product of the
others. Autograd passes it through a node for each edge and each product; on many boxes each of
them reads and writes memory, on few each has its price. Here all four volumes hand down their
gradients at once, axis by axis:

    s = gradient by the shared edge,  h = by the enclosing edge,  e = by the box's own edge
    lower face of a:  -(e + (s + h) / 2 + w (s - h) / 2)    w = sign(low of a - low of b)
    upper face of a:    e + (s + h) / 2 - v (s - h) / 2     v = sign(high of a - high of b)

and with the other sign before w and v for b: the shared box follows the higher lower face, the
enclosing box the other one, and equal faces share. A shared edge of 0 passes half of its gradient,
as in `softoverlap.boxes`. Where a gradient is differentiated again, that is left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from softoverlap._autograd import has_tangent, is_batched, plain_gradients
from softoverlap._checks import may_look

Volumes = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""From two sets of boxes to shared volume, both sizes and, if it is asked for, enclosing volume."""


def in_one(plain: Volumes, a: Tensor, b: Tensor, *, around: bool) -> tuple[Tensor, ...]:
    """The volumes that `plain` computes of boxes in float32 or wider; `around`: four, not three."""
    alike = a.ndim == 2 and a.shape == b.shape and a.dtype == b.dtype
    if not alike or not may_look(a, b) or has_tangent(a, b):
        return plain(a, b)
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        return _Volumes.apply(a, b, plain, around)  # pyright: ignore[reportReturnType]
    edges = _edges(_faces(a), _faces(b), around)
    edges[0].clamp_(min=0)
    return _products(edges)


class _Volumes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, plain, around):
        edges = _edges(_faces(a), _faces(b), around)
        inside = edges[0].sign()
        edges[0].clamp_(min=0)
        ctx.save_for_backward(a, b, edges, inside)
        ctx.plain = plain
        return _products(edges)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        *boxes, edges, inside = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or is_batched(*gradients):
            return *plain_gradients(ctx.plain, boxes, needed, gradients), None, None
        found = _to_faces(boxes, needed, _by_edges(edges, gradients), inside)
        return *found, None, None


def _faces(boxes: Tensor) -> tuple[Tensor, ...]:
    """Lower and upper faces, an axis behind each other."""
    return boxes.detach().mT.contiguous().chunk(2)


def _edges(a: Sequence[Tensor], b: Sequence[Tensor], around: bool) -> Tensor:
    """Edges, (3 or 4, ndim, N): shared, below 0 where boxes are apart, of each box, and around."""
    (low_a, high_a), (low_b, high_b) = a, b
    edges = low_a.new_empty((4 if around else 3, *low_a.shape))
    torch.minimum(high_a, high_b, out=edges[0]).sub_(torch.maximum(low_a, low_b))
    torch.sub(high_a, low_a, out=edges[1])
    torch.sub(high_b, low_b, out=edges[2])
    if around:
        torch.maximum(high_a, high_b, out=edges[3]).sub_(torch.minimum(low_a, low_b))
    return edges


def _products(edges: Tensor) -> tuple[Tensor, ...]:
    """Left to right, as in `softoverlap.boxes`."""
    first, *others = edges.unbind(1)
    return reduce(torch.mul, others, first).unbind()


def _by_edges(edges: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """The gradient by each edge from those by the products: times the other edges."""
    slopes, before = torch.empty_like(edges), torch.stack(list(gradients))
    *first, last = edges.unbind(1)
    if not first:
        return before.unsqueeze(1)
    behind, given = last, before
    for axis, edge in enumerate(first, start=1):
        before = torch.mul(before, edge, out=slopes[:, axis])
    for axis in reversed(range(1, len(first))):
        slopes[:, axis].mul_(behind)
        behind = behind * first[axis]
    torch.mul(given, behind, out=slopes[:, 0])
    return slopes


def _to_faces(
    boxes: Sequence[Tensor], needed: Sequence[bool], slopes: Tensor, inside: Tensor
) -> list[Tensor | None]:
    """The gradient to all faces from that by all edges, which is overwritten."""
    (low_a, high_a), (low_b, high_b) = map(_faces, boxes)
    shared = slopes[0].mul_(0.25)
    half = shared.addcmul_(shared, inside)  # of that by a shared edge, a half of it at 0
    both, less = half, half
    if len(slopes) > 3:
        other = slopes[3].mul_(0.5)
        both, less = half + other, half - other
    at_low = (low_b - low_a).sign_().mul_(less)
    at_high = (high_a - high_b).sign_().mul_(less)
    found: list[Tensor | None] = [None, None]
    for place in (place for place in (0, 1) if needed[place]):
        edge, sign = slopes[1 + place].add_(both), -1 if place else 1
        gradient = edge.new_empty((2 * len(edge), *edge.shape[1:]))
        lower, upper = gradient.chunk(2)
        if place:
            torch.add(at_low, edge, out=lower).neg_()
        else:
            torch.sub(at_low, edge, out=lower)
        torch.sub(edge, at_high, alpha=sign, out=upper)
        found[place] = gradient.mT
    return found
