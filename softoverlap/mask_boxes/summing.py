"""The tables of all masks by kernels, where they may run; what they do is told where they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import _triton
from softoverlap._autograd import held

_MOST_AXES, _MOST_MASKS = 3, 65535


def kernels_sum(count: int, ndim: int, *voxels: Tensor) -> bool:
    """Whether kernels make the tables of so many masks, whose voxels lie in these tensors."""
    if not _triton.available(*voxels):
        return False
    return 0 < count <= _MOST_MASKS and 0 < ndim <= _MOST_AXES


def summed_by_kernels(voxels: Tensor, shapes: Sequence[Sequence[int]]) -> Float[Tensor, "entries"]:
    """The tables of masks of these shapes, flat, as their voxels are: one behind the other."""
    from softoverlap.mask_boxes._triton.summing import tables_of_all  # imports Triton

    voxels = held(voxels) if voxels.dtype == torch.float64 else voxels
    return tables_of_all(voxels.contiguous(), shapes)
