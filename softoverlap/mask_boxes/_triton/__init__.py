"""Scores of all pairs of masks and boxes on a GPU: few pairs meet, and only those are read.

A program holds a block of boxes and goes through masks. Where no box of the block touches the crop
of a mask, it writes zeros; else it reads the nodes of the table around the boxes that do, forms the
score in float64 and writes it, once. Nothing waits for the GPU, and no list of pairs is made.

Backward, the same blocks go through the same masks, and read upstream gradients only where some
box touches. What belongs to a box is added up in registers, in one order: two runs agree to the
last bit. Gradients to the tables are added to their nodes atomically, in any order, so that two
runs agree to rounding; where PyTorch is asked for deterministic algorithms, the plain path is
taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._triton import on
from softoverlap.mask_boxes._triton import kernels
from softoverlap.mask_boxes.tables import SummedVolume

MOST_AXES = 3
FORMS = ("mass", "dice", "iou", "tversky")

_BLOCK = 32  # one box a thread of a warp: larger blocks meet more masks, and need more registers
_PROGRAMS = 2048


def scores_of_all(
    volume: SummedVolume,
    boxes: Tensor,
    form: str,
    parameters: Mapping[str, float],
    dtype: torch.dtype,
) -> Tensor:
    """Scores of all pairs, shape (K, N), in the dtype; `form` says which ratio of `scores`."""
    boxes = boxes if boxes.is_floating_point() else boxes.double()
    settings = {
        "FORM": form,
        "EMPTY": float(parameters.get("empty", 0)),
        "ALPHA": float(parameters.get("alpha", 0)),
        "BETA": float(parameters.get("beta", 0)),
        "AXES": volume.ndim,
    }
    return _Scores.apply(volume.table, volume.sizes, boxes, volume, settings, dtype)  # pyright: ignore


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, sizes, boxes, volume, settings, dtype):
        ctx.save_for_backward(table, sizes, boxes)
        ctx.volume, ctx.settings = volume, settings
        scores = boxes.new_empty((len(volume), len(boxes)), dtype=dtype)
        work = _Work(volume, boxes)
        work.start(kernels.write_scores, table, sizes, boxes, scores, **settings)
        return scores

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            found = _Scores._gradients(ctx, gradients[0])
        inputs = (*ctx.saved_tensors, *gradients)
        return *once_only("the mass of a mask in a box", found, inputs), None, None, None

    @staticmethod
    def _gradients(ctx, gradient: Tensor) -> list[Tensor | None]:
        table, sizes, boxes = ctx.saved_tensors
        need_table, need_sizes, need_boxes = ctx.needs_input_grad[:3]
        work = _Work(ctx.volume, boxes)
        upstream = gradient, *gradient.stride()
        found: list[Tensor | None] = [None, None, None]
        if need_table or need_sizes:
            to_table = torch.zeros_like(table)
            to_sizes = torch.zeros_like(sizes)
            grads = *upstream, to_table, to_sizes
            work.start(kernels.add_to_tables, table, sizes, boxes, *grads, **ctx.settings)
            found[:2] = to_table, to_sizes
        if need_boxes:
            to_boxes = table.new_zeros((work.parts, *boxes.shape))
            work.start(
                kernels.write_to_boxes, table, sizes, boxes, *upstream, to_boxes, **ctx.settings
            )
            found[2] = to_boxes.sum(dim=0).to(boxes.dtype)
        return found


class _Work:
    """How the work is cut: blocks of boxes, and parts of the masks where boxes are few."""

    def __init__(self, volume: SummedVolume, boxes: Tensor) -> None:
        self.masks, self.boxes = len(volume), len(boxes)
        self.blocks = -(-self.boxes // _BLOCK)
        parts = min(self.masks, max(1, _PROGRAMS // max(1, self.blocks)))
        self.masks_each = -(-self.masks // max(1, parts))
        self.parts = -(-self.masks // max(1, self.masks_each))
        self.places = [t.contiguous() for t in (volume.starts, volume.offsets, volume.shapes)]

    def start(
        self,
        kernel: Any,
        table: Tensor,
        sizes: Tensor,
        boxes: Tensor,
        *others: Any,
        **settings: Any,
    ) -> None:
        """Start a kernel on all pairs; of none there is nothing to do."""
        if not self.masks * self.boxes:
            return
        read = table, sizes.contiguous(), boxes.contiguous(), *self.places
        counts = self.masks, self.boxes, self.masks_each
        with on(table.device):
            kernel[(self.blocks, self.parts)](
                *read, *counts, *others, **settings, BLOCK=_BLOCK, num_warps=1
            )
