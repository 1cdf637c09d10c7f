"""Derivatives that exist once: a second one is refused, and not silently left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


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


def in_graph() -> bool:
    """Whether operations are differentiated or traced, so that none may write over its input.

    A trace is checked by a second one without gradients, which must be the same.
    """
    return torch.is_grad_enabled() or torch.jit.is_tracing()


def held(values: Tensor, below: float | None = None) -> Tensor:
    """The same values, whose gradient ends at a quarter of the largest number of their type.

    A ratio's slope is one over its denominator: of masks that sum up to a subnormal number no type
    holds it, and infinities of both signs would add up to NaN. Where values are larger, NaN and
    infinity come from elsewhere, such as a loss that diverged, and pass.

    Args:
        values: Of a floating type.
        below: Gradients of values below are held, by default of those whose reciprocal is within
            2^16 of the largest number.
    """
    if not values.requires_grad or torch.jit.is_tracing() or _is_transformed(values):
        return values
    return _Held.apply(values, below)  # pyright: ignore[reportReturnType]


def widened(values: Tensor) -> Tensor:
    """The same values in float64, whose gradient ends at the largest number of their own type."""
    if values.dtype == torch.float64:
        return held(values)
    if not values.requires_grad or torch.jit.is_tracing() or _is_transformed(values):
        return values.to(torch.float64)
    return _Widened.apply(values)  # pyright: ignore[reportReturnType]


def _is_transformed(values: Tensor) -> bool:
    """Whether derivatives are taken by `torch.func` or in forward mode: by plain operations."""
    if torch.compiler.is_compiling():
        return False
    level = torch._C._functorch.maybe_current_level()  # pyright: ignore
    return level is not None or unpack_dual(values).tangent is not None


class _Widened(torch.autograd.Function):
    """One pass over the gradient, where `_Held` takes three."""

    @staticmethod
    def forward(values):
        return values.to(torch.float64)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx, *gradients):
        most = torch.finfo(ctx.dtype).max
        return gradients[0].to(ctx.dtype).clamp_(-most, most)


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(values, below):
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx, inputs, output):
        values, ctx.below = inputs
        ctx.save_for_backward(values)

    @staticmethod
    def backward(ctx, *gradients):
        values, below = ctx.saved_tensors[0], ctx.below
        return held_gradient(values, gradients[0], below), None


def held_gradient(values: Tensor, gradient: Tensor, below: float | None = None) -> Tensor:
    """The gradient that `held` hands on."""
    most = torch.finfo(gradient.dtype).max
    below = 2.0**16 / most if below is None else below
    finite = gradient.nan_to_num(nan=0.0).clamp(-most / 4, most / 4)
    return torch.where(values.abs() < below, finite, gradient)
