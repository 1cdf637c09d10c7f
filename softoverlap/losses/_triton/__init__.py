"""Losses of masks on a GPU: one kernel reads the volumes for the sums, one writes the gradient.

Forward, each program adds up its share of the voxels of one item, and stores what it found for
each channel: Σ shared, Σ prediction and Σ target. PyTorch adds those up, in one order, so that two
runs agree to the last bit. The activation is computed on the way and never stored.

Backward, a program reads its voxels again and writes their gradient, which needs three numbers of
each item and channel: how the loss changes with each of its sums. With a softmax a program holds
all channels of its voxels, else one; other channels are other items to it.
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._triton import on
from softoverlap._types import accumulation_dtype
from softoverlap.losses._triton import kernels

_VALUES_PER_BLOCK = 2048
_PROGRAMS = 4096  # a few waves on the largest GPU
_WIDE = {torch.float32: tl.float32, torch.float64: tl.float64}


def sums(logits: Tensor, target: Tensor, *, activation: str, form: str) -> Tensor:
    """Intersection, size of the prediction and size of the target, shape (3, B, C).

    Args:
        logits: What the activation is applied to, shape (B, C, *spatial), floating.
        target: The same shape.
        activation: `"none"`, `"sigmoid"`, or `"softmax"`, over all channels.
        form: `"min"`, `"product"` or `"squared"`.
    """
    found: Any = _Sums.apply(logits.flatten(2), target.flatten(2), activation, form)
    return found


class _Work(NamedTuple):
    """How the work is cut: a program holds a group of channels of a block of voxels of an item."""

    items: int
    channels: int
    groups: int
    voxels: int

    @classmethod
    def of(cls, logits: Tensor, activation: str) -> _Work:
        """Only a softmax needs all channels at once."""
        items, channels, voxels = logits.shape
        together = channels if activation == "softmax" else 1
        return cls(items, together, channels // together, voxels)

    @property
    def tile(self) -> int:
        """Rows of it; a tile has a power of two of them."""
        return 1 << (self.channels - 1).bit_length()

    @property
    def block(self) -> int:
        return max(16, _VALUES_PER_BLOCK // self.tile)

    @property
    def blocks(self) -> int:
        return -(-self.voxels // self.block)

    def start(self, kernel: Any, programs: int, *arguments: Any, **settings: Any) -> None:
        """Start so many programs for each item and group; of nothing there is nothing to do."""
        if not programs * self.items:
            return
        cut = {"CHANNELS": self.channels, "GROUPS": self.groups}
        cut |= {"TILE": self.tile, "BLOCK": self.block}
        with on(arguments[0].device):
            kernel[(programs, self.items * self.groups)](*arguments, self.voxels, **cut, **settings)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, target, activation, form):
        ctx.save_for_backward(logits, target)
        wide = accumulation_dtype(logits, target)
        ctx.settings = {"ACTIVATION": activation, "FORM": form, "WIDE": _WIDE[wide]}
        ctx.work = work = _Work.of(logits, activation)
        most = max(1, _PROGRAMS // max(1, work.items * work.groups))
        programs = min(work.blocks, most)
        partial = logits.new_empty((3, programs, *logits.shape[:2]), dtype=wide)
        strides = *logits.stride(), *target.stride(), *partial.stride()[:2]
        work.start(kernels.add_up, programs, logits, target, partial, *strides, **ctx.settings)
        return partial.sum(dim=1, dtype=torch.float64).to(wide)

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            found = _Sums._gradients(ctx, gradients[0].contiguous())
        inputs = (*ctx.saved_tensors, *gradients)
        return *once_only("a loss of masks on a GPU", found, inputs), None, None

    @staticmethod
    def _gradients(ctx, slopes: Tensor) -> list[Tensor | None]:
        """Of the tensors that need one; for the other, the kernel is handed what it won't touch."""
        read, needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
        written = [
            torch.empty_like(values) if need else values
            for values, need in zip(read, needed, strict=True)
        ]
        strides = [stride for values in (*read, *written) for stride in values.stride()]
        arguments = *read, slopes, *written, *strides, slopes.stride(0)
        sides = {"TO_LOGITS": needed[0], "TO_TARGET": needed[1]}
        ctx.work.start(
            kernels.write_gradients, ctx.work.blocks, *arguments, **sides, **ctx.settings
        )
        return [grad if need else None for grad, need in zip(written, needed, strict=True)]
