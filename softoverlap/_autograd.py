"""Derivatives that exist once: a second one is refused, and not silently left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def once_only(
    what: str, gradients: Sequence[Tensor | None], inputs: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradients of a backward pass, computed without a graph, tied to what they depend on.

    PyTorch's `once_differentiable` ties them to nothing, so `torch.autograd.grad` of them finds
    other paths to the same inputs and returns their share alone.
    """
    if not torch.is_grad_enabled():
        return tuple(gradients)
    present = [gradient for gradient in gradients if gradient is not None]
    tied = iter(_Refuse.apply(what, len(present), *present, *inputs))  # pyright: ignore
    return tuple(None if gradient is None else next(tied) for gradient in gradients)


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, what, count, *tensors):
        ctx.what = what
        return tuple(tensor.clone() for tensor in tensors[:count])

    @staticmethod
    def backward(ctx, *gradients):
        raise RuntimeError(f"{ctx.what} can be differentiated once, got a second derivative")
