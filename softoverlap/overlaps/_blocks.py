"""All pairs of boxes, scored in blocks of rows by one broadcasting function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._checks import is_traced
from softoverlap._types import accumulation_dtype, plain, score_dtype

Score = Callable[[Tensor, Tensor], Tensor]
"""A score of boxes that broadcast over their leading axes."""

_PAIRS_PER_BLOCK = 3 << 16  # a few tensors of so many fit the cache of two cores
_PAIRS_PER_LAUNCH = 1 << 24  # on a GPU a block shall be worth its launches
_BYTES_TO_KEEP = 28 << 20


def pairwise(score: Score, pred: Tensor, target: Tensor, block_size: int | None) -> Tensor:
    """The score of all pairs; working memory, forward and backward, is that of a block."""
    if block_size is not None and (not isinstance(block_size, int) or block_size < 1):
        raise ValueError(f"block_size must be a whole number of at least 1, got {block_size}")
    if is_traced():  # a graph of blocks would hold for so many boxes alone
        score_of_all = score(plain(pred)[:, None], plain(target)[None])
        return score_of_all.to(score_dtype(pred, target))
    pairs = _PAIRS_PER_BLOCK if pred.device.type == "cpu" else _PAIRS_PER_LAUNCH
    rows = block_size or max(1, pairs // max(1, len(target)))
    return _Blocked.apply(plain(pred), plain(target), score, rows)  # pyright: ignore[reportReturnType]


class _Blocked(torch.autograd.Function):
    """Blocks of rows, computed again in the backward pass in place of being kept."""

    @staticmethod
    def forward(ctx, pred, target, score, rows):
        ctx.save_for_backward(pred, target)
        ctx.score, ctx.rows = score, rows
        result = pred.new_empty((len(pred), len(target)), dtype=score_dtype(pred, target))
        pred, target = by_coordinate(pred), by_coordinate(target)
        if result.device.type == "cpu" and rows < len(pred):
            keep_freed_memory()
        for part in parts(len(pred), rows):
            result[part] = score(pred[part, None], target[None])
        return result

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            found = _Blocked._gradients(ctx, gradients[0])
        inputs = (*ctx.saved_tensors, *gradients)
        return *once_only("pairwise scores", found, inputs), None, None

    @staticmethod
    def _gradients(ctx, gradient: Tensor) -> list[Tensor | None]:
        needed = ctx.needs_input_grad[:2]
        dtype = accumulation_dtype(*ctx.saved_tensors)  # so that blocks add up as one would
        pred, target = (by_coordinate(boxes.detach().to(dtype)) for boxes in ctx.saved_tensors)
        target.requires_grad_(needed[1])
        sums = [torch.zeros_like(boxes) for boxes in (pred, target)]
        for part in parts(len(pred), ctx.rows):
            with torch.enable_grad():
                block = pred[part].requires_grad_(needed[0])
                score = ctx.score(block[:, None], target[None])
            wanted = [boxes for boxes in (block, target) if boxes.requires_grad]
            found = list(torch.autograd.grad(score, wanted, gradient[part].to(score.dtype)))
            if needed[1]:
                sums[1] += found.pop()
            if needed[0]:
                sums[0][part] = found.pop()
        grads = zip(sums, ctx.saved_tensors, needed, strict=True)
        return [total.to(x.dtype) if need else None for total, x, need in grads]


@cache
def keep_freed_memory() -> None:
    """Have glibc keep what a block frees for the next one, from now on.

    It gives chunks above a threshold back to the system, which then hands out pages anew, at twice
    the time of all arithmetic; the threshold rises to the largest chunk that was freed so far.
    """
    torch.UntypedStorage(_BYTES_TO_KEEP, device="cpu")  # never touched


def by_coordinate(boxes: Tensor) -> Tensor:
    """The same boxes with each coordinate in one run of memory, which is how they are read."""
    return torch.stack(boxes.unbind(-1)).movedim(0, -1)  # faster than PyTorch's transposition


def parts(count: int, rows: int) -> Iterator[slice]:
    return (slice(start, start + rows) for start in range(0, count, rows))
