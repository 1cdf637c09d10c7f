"""Edges of the box that two boxes share and of the one around both, with a short derivative.

PyTorch's own derivative of a minimum compares, halves and fills anew for each of the two faces.
Here the sign of the difference of the faces says which of them an edge follows: one pass a face
is enough, and where both faces are one, each has half of the gradient. A graph, and the
transforms of `torch.func`, take PyTorch's operations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softoverlap._autograd import has_tangent
from softoverlap._checks import is_traced


def shared_edge(low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor) -> Tensor:
    """Edge that two boxes share, 0 where they are apart; half of the gradient where they touch."""
    if is_traced() or has_tangent(low_a, high_a, low_b, high_b):
        edge = torch.minimum(high_a, high_b).sub_(torch.maximum(low_a, low_b))
        return torch.maximum(edge, edge.new_zeros(()))
    if not _needs_gradient(low_a, high_a, low_b, high_b):
        return torch.minimum(high_a, high_b).sub_(torch.maximum(low_a, low_b)).clamp_(min=0)
    return _SharedEdge.apply(low_a, high_a, low_b, high_b)  # pyright: ignore[reportReturnType]


def enclosing_edge(low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor) -> Tensor:
    """Edge of the smallest box around both."""
    faces = low_a, high_a, low_b, high_b
    if is_traced() or has_tangent(*faces) or not _needs_gradient(*faces):
        return torch.maximum(high_a, high_b).sub_(torch.minimum(low_a, low_b))
    return _EnclosingEdge.apply(low_a, high_a, low_b, high_b)  # pyright: ignore[reportReturnType]


def _needs_gradient(*faces: Tensor) -> bool:
    return torch.is_grad_enabled() and any(face.requires_grad for face in faces)


class _SharedEdge(torch.autograd.Function):
    @staticmethod
    def forward(ctx, low_a, high_a, low_b, high_b):
        edge = torch.minimum(high_a, high_b).sub_(torch.maximum(low_a, low_b))
        ctx.save_for_backward(low_a, high_a, low_b, high_b, edge)
        return edge.clamp(min=0)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        low_a, high_a, low_b, high_b, edge = (saved.detach() for saved in ctx.saved_tensors)
        quarter = gradients[0] / 4
        half = torch.addcmul(quarter, quarter, edge.sign())  # 0 where the boxes are apart
        return _to_faces(ctx, half, (low_a - low_b).sign_(), (high_b - high_a).sign_())


class _EnclosingEdge(torch.autograd.Function):
    @staticmethod
    def forward(ctx, low_a, high_a, low_b, high_b):
        ctx.save_for_backward(low_a, high_a, low_b, high_b)
        return torch.maximum(high_a, high_b).sub_(torch.minimum(low_a, low_b))

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        low_a, high_a, low_b, high_b = (saved.detach() for saved in ctx.saved_tensors)
        half = gradients[0] / 2
        return _to_faces(ctx, half, (low_b - low_a).sign_(), (high_a - high_b).sign_())


def _to_faces(ctx, half: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient to each face, given half of that to the edge.

    `low` and `high` are 1 where the edge follows the face of the first box, -1 where it follows
    that of the second, 0 where it follows both.
    """
    found: list[Tensor | None] = []
    less = -half
    for place, need in enumerate(ctx.needs_input_grad):
        part = None
        if need:
            sign, side = (high, half) if place % 2 else (low, less)
            part = torch.addcmul(side, side, sign, value=1 if place < 2 else -1)
            part = part.sum_to_size(ctx.saved_tensors[place].shape)
        found.append(part)
    return tuple(found)
