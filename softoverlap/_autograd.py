"""What custom derivatives share: second ones, refused or plain, and gradients that stay finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def plain_gradients(
    plain: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    gradients: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradients of a backward pass by plain operations, which can be differentiated again.

    Args:
        plain: From the inputs to the outputs of the forward pass that may have a gradient.
        inputs: Those of the forward pass.
        needed: Which of them need a gradient.
        gradients: Those of the outputs.

    Returns:
        A gradient of each input that needs one, else None.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [each.view_as(each) for each in inputs]  # without the inputs' hooks, which run later
        outputs = plain(*own)
    return gradients_to(own, needed, outputs, gradients, again=again)


def gradients_to(
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    again: bool = False,
) -> list[Tensor | None]:
    """The gradient of each input that needs one, from those of outputs that were made of them."""
    wanted = [each for each, need in zip(inputs, needed, strict=True) if need]
    pairs = zip(outputs, gradients, strict=True)
    tied = [(output, grad.to(output.dtype)) for output, grad in pairs if output.requires_grad]
    made, factors = map(list, zip(*tied, strict=True))
    found = iter(
        torch.autograd.grad(made, wanted, factors, create_graph=again, materialize_grads=True)
    )
    return [next(found) if need else None for need in needed]


def has_tangent(*tensors: Tensor) -> bool:
    """Whether a tensor carries a derivative in forward mode, which custom functions do not."""
    return any(unpack_dual(tensor).tangent is not None for tensor in tensors)


def is_batched(*tensors: Tensor | None) -> bool:
    """Whether a tensor stands for many, as a gradient does with `is_grads_batched=True`.

    Only plain operations have a rule for that.
    """
    kinds = torch._C._functorch  # pyright: ignore
    present = [tensor for tensor in tensors if tensor is not None]
    return any(kinds.is_batchedtensor(t) or kinds.is_legacy_batchedtensor(t) for t in present)


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
    return level is not None or has_tangent(values)


class _Widened(torch.autograd.Function):
    """One pass over the gradient, where `_Held` takes several."""

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
