"""Many aligned boxes, scored in blocks of rows that a cache holds.

A score of boxes is dozens of operations forward and twice as many backward. On a million boxes
each of them reads and writes main memory; in blocks, what they pass on stays in the cache. It is
computed again in the backward pass in place of being kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softoverlap._checks import has_tangent, is_batched, may_look
from softoverlap._types import accumulation_dtype
from softoverlap.overlaps._blocks import by_coordinate, keep_freed_memory, parts

Terms = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""Numbers of each pair of boxes: a score, or a score and penalties."""

_PAIRS_PER_BLOCK = 1 << 16  # for each thread: PyTorch gives no thread less than half of it


def aligned(terms: Terms, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """The terms of box i and box i, or of boxes that broadcast."""
    if not may_look(a, b) or a.ndim != 2 or a.shape != b.shape or has_tangent(a, b):
        return terms(a, b)
    rows = _PAIRS_PER_BLOCK * torch.get_num_threads()
    if len(a) <= rows:
        return terms(a, b)
    return _Blocked.apply(a, b, terms, rows)  # pyright: ignore[reportReturnType]


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, terms, rows):
        ctx.save_for_backward(a, b)
        ctx.terms, ctx.rows = terms, rows
        keep_freed_memory()
        blocks = [terms(*_block(part, a, b)) for part in parts(len(a), rows)]
        return tuple(map(torch.cat, zip(*blocks, strict=True)))

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        boxes, needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
        again = torch.is_grad_enabled()
        if again or is_batched(*gradients):  # for a second derivative, all of it
            with torch.enable_grad():
                own = [x.view_as(x) for x in boxes]  # without the boxes' hooks, which run later
                found = ctx.terms(*own)
            return *_gradients(found, own, needed, gradients), None, None
        total = [torch.empty_like(x) if n else None for x, n in zip(boxes, needed, strict=True)]
        dtype = accumulation_dtype(*boxes)
        for part in parts(len(boxes[0]), ctx.rows):
            with torch.enable_grad():
                block = _block(part, *boxes)
                for place in range(2):
                    block[place] = block[place].to(dtype).requires_grad_(needed[place])
                found = ctx.terms(*block)
            found = _gradients(found, block, needed, [gradient[part] for gradient in gradients])
            for whole, gradient in zip(total, found, strict=True):
                if whole is not None and gradient is not None:
                    _write(whole[part], gradient)
        return *total, None, None


def _write(whole: Tensor, gradient: Tensor) -> None:
    """A column at a time, which is how the gradient lies in memory."""
    if whole.dtype != gradient.dtype:
        most = torch.finfo(whole.dtype).max  # of half precision, which is exceeded
        gradient = gradient.clamp(-most, most)
    for into, column in zip(whole.unbind(1), gradient.unbind(1), strict=True):
        into.copy_(column)


def _block(part: slice, *boxes: Tensor) -> list[Tensor]:
    return [by_coordinate(x.detach()[part]) for x in boxes]


def _gradients(
    terms: Sequence[Tensor],
    boxes: Sequence[Tensor],
    needed: Sequence[bool],
    gradients: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradient to each set of boxes that needs one."""
    wanted = [each for each, need in zip(boxes, needed, strict=True) if need]
    pairs = [(t, g.to(t.dtype)) for t, g in zip(terms, gradients, strict=True) if t.requires_grad]
    outputs, factors = map(list, zip(*pairs, strict=True))
    found = iter(
        torch.autograd.grad(
            outputs, wanted, factors, create_graph=torch.is_grad_enabled(), materialize_grads=True
        )
    )
    return [next(found) if need else None for need in needed]
