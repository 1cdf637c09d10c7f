"""Many aligned boxes, scored in blocks of rows that a cache holds.

A score of boxes is dozens of operations forward and twice as many backward. On a million boxes
each of them reads and writes main memory; in blocks, what they pass on stays in the cache. It is
computed again in the backward pass in place of being kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from softoverlap._autograd import gradients_to, has_tangent, is_batched, plain_gradients
from softoverlap._checks import may_look
from softoverlap._types import accumulation_dtype
from softoverlap.overlaps._blocks import by_coordinate, keep_freed_memory, parts

Terms = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""Numbers of each pair of boxes: a score, or a score and penalties."""

_PAIRS_PER_BLOCK = 1 << 16  # for each thread: PyTorch gives no thread less than half of it


def aligned(terms: Terms, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """The terms of box i and box i, or of boxes that broadcast."""
    if not _are_many(a, b):
        return terms(a, b)
    return _InBlocks.apply(a, b, terms, _rows(), None)  # pyright: ignore[reportReturnType]


def aligned_if(
    looks: Callable[[Tensor], bool], terms: Terms, a: Tensor, b: Tensor
) -> tuple[Tensor, ...] | None:
    """The terms of many boxes, if `looks` says yes to each block of them, which is read anyway."""
    if not _are_many(a, b):
        return None
    try:
        return _InBlocks.apply(a, b, terms, _rows(), looks)  # pyright: ignore[reportReturnType]
    except _UnlikeError:
        return None


def _are_many(a: Tensor, b: Tensor) -> bool:
    if not may_look(a, b) or a.ndim != 2 or a.shape != b.shape or has_tangent(a, b):
        return False
    return len(a) > _rows()


def _rows() -> int:
    return _PAIRS_PER_BLOCK * torch.get_num_threads()


class _UnlikeError(Exception):
    """A block is not as it was thought to be."""


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, terms, rows, looks):
        ctx.save_for_backward(a, b)
        ctx.terms, ctx.rows = terms, rows
        keep_freed_memory()
        blocks = []
        for part in parts(len(a), rows):
            block = _block(part, a, b)
            if looks is not None and not all(map(looks, block)):
                raise _UnlikeError
            blocks.append(terms(*block))
        return tuple(map(torch.cat, zip(*blocks, strict=True)))

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        boxes, needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or is_batched(*gradients):  # for a second derivative, all of it
            return *plain_gradients(ctx.terms, boxes, needed, gradients), None, None, None
        total = [torch.empty_like(x) if n else None for x, n in zip(boxes, needed, strict=True)]
        dtype = accumulation_dtype(*boxes)
        for part in parts(len(boxes[0]), ctx.rows):
            with torch.enable_grad():
                block = _block(part, *boxes)
                for place in range(2):
                    block[place] = block[place].to(dtype).requires_grad_(needed[place])
                found = ctx.terms(*block)
            own = [gradient[part] for gradient in gradients]
            found = gradients_to(block, needed, found, own)
            for whole, gradient in zip(total, found, strict=True):
                if whole is not None and gradient is not None:
                    _write(whole[part], gradient)
        return *total, None, None, None


def _write(whole: Tensor, gradient: Tensor) -> None:
    """A column at a time, which is how the gradient lies in memory."""
    if whole.dtype != gradient.dtype:
        most = torch.finfo(whole.dtype).max  # of half precision, which is exceeded
        gradient = gradient.clamp(-most, most)
    for into, column in zip(whole.unbind(1), gradient.unbind(1), strict=True):
        into.copy_(column)


def _block(part: slice, *boxes: Tensor) -> list[Tensor]:
    return [by_coordinate(x.detach()[part]) for x in boxes]
