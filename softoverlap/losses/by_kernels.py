"""The sums behind a loss of masks by kernels, where they may run and the inputs are plain ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import _triton
from softoverlap._autograd import held
from softoverlap._types import Masks, Targets, plain
from softoverlap.losses.inputs import Preparation

_MOST_CHANNELS = 256  # of a softmax, which holds them all at once
_MOST_ITEMS = 65535  # of what a GPU starts along an axis
_MOST_VOXELS = 1 << 30

_TYPES = {
    torch.bool,
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}

PerChannel = Float[Tensor, "batch channel"]


def sums_by_kernels(
    prepare: Preparation, input: Masks, target: Targets, form: str
) -> list[PerChannel] | None:
    """Intersection, size of the prediction and size of the target; None asks for the plain path.

    That takes whatever is refused, warned of or looked at, and what makes other volumes first:
    one-hot targets, ignored voxels, other activations.
    """
    if not all(isinstance(t, Tensor) and t.dtype in _TYPES for t in (input, target)):
        return None
    logits, truth = plain(input), plain(target)
    if not _triton.available(logits, truth) or not _are_plain(prepare, logits, truth):
        return None
    from softoverlap.losses._triton import sums  # imports Triton

    activation = "softmax" if prepare.softmax else "sigmoid" if prepare.sigmoid else "none"
    logits = logits if logits.is_floating_point() else logits.float()
    found = sums(logits, truth, activation=activation, form=form)
    if prepare.hides_background(logits.shape[1]):
        found = found[:, :, 1:]
    return list(held(found).unbind())


def _are_plain(prepare: Preparation, logits: Tensor, truth: Tensor) -> bool:
    if prepare.validate or prepare.to_onehot_y or prepare.ignore_index is not None:
        return False
    if prepare.other_act is not None:
        return False
    if logits.ndim < 3 or logits.shape != truth.shape:
        return False
    if not logits.layout == truth.layout == torch.strided:
        return False
    items, channels, voxels = logits.shape[0], logits.shape[1], logits.shape[2:].numel()
    if channels == 1 and (prepare.softmax or not prepare.include_background):
        return False
    if prepare.softmax and channels > _MOST_CHANNELS:
        return False
    return channels > 0 and items * channels <= _MOST_ITEMS and voxels <= _MOST_VOXELS
