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

import torch
from torch import Tensor

from softoverlap._autograd import has_tangent, is_batched, plain_gradients
from softoverlap._checks import may_look

Volumes = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""From two sets of boxes to shared volume, both sizes and, if it is asked for, enclosing volume."""


def in_one(plain: Volumes, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """The volumes that `plain` computes, of boxes in float32 or wider."""
    asks = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    alike = a.ndim == 2 and a.shape == b.shape and a.dtype == b.dtype
    if not (asks and alike and may_look(a, b)) or has_tangent(a, b):
        return plain(a, b)
    return _Volumes.apply(a, b, plain)  # pyright: ignore[reportReturnType]


class _Volumes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, plain):
        ctx.save_for_backward(a, b)
        ctx.plain = plain
        return plain(a, b)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        boxes, needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or is_batched(*gradients):
            return *plain_gradients(ctx.plain, boxes, needed, gradients), None
        return *_faces(boxes, needed, gradients), None


def _faces(
    boxes: Sequence[Tensor], needed: Sequence[bool], gradients: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradient to all faces."""
    (low_a, high_a), (low_b, high_b) = faces = [
        each.detach().mT.contiguous().chunk(2) for each in boxes
    ]
    shared = torch.minimum(high_a, high_b).sub_(torch.maximum(low_a, low_b))
    inside = shared.sign()
    quarter = _by_edges(shared.clamp_(min=0), gradients[0] / 4)
    half = torch.addcmul(quarter, quarter, inside)  # of that by a shared edge, a half of it at 0
    both, less = half, half
    if len(gradients) > 3:
        around = torch.maximum(high_a, high_b).sub_(torch.minimum(low_a, low_b))
        other = _by_edges(around, gradients[3] / 2)
        both, less = half + other, half - other
    at_low = (low_a - low_b).sign_().mul_(less)
    at_high = (high_a - high_b).sign_().mul_(less)
    found: list[Tensor | None] = []
    for (low, high), gradient, need, sign in zip(
        faces, gradients[1:3], needed, (1, -1), strict=True
    ):
        if not need:
            found.append(None)
            continue
        edge = _by_edges(high - low, gradient).add_(both)
        lower = torch.add(edge, at_low, alpha=sign).neg_()
        found.append(torch.cat([lower, edge.sub_(at_high, alpha=sign)]).mT)
    return found


def _by_edges(edges: Tensor, gradient: Tensor) -> Tensor:
    """The gradient by each edge, (ndim, N), from that by their product: times the other edges."""
    found, before = torch.empty_like(edges), gradient
    for axis, edge in enumerate(edges):
        found[axis] = before
        before = before * edge
    behind = edges[-1]
    for axis in reversed(range(len(edges) - 1)):
        found[axis].mul_(behind)
        behind = behind * edges[axis]
    return found
