"""Scores of all pairs by kernels, where they may run; what they do is told where they are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import _triton
from softoverlap._types import Boxes
from softoverlap.mask_boxes.tables import SummedVolume

_MOST_AXES = 3


def kernels_take(volume: SummedVolume, boxes: Boxes) -> bool:
    """Whether these tables and boxes are scored by kernels, and not pair by pair.

    Their gradient to the tables is added up in any order, which a user may have forbidden.
    """
    ordered = volume.table.requires_grad and torch.are_deterministic_algorithms_enabled()
    few = 1 <= volume.ndim <= _MOST_AXES
    return few and not ordered and _triton.available(volume.table, boxes)


def scores_by_kernels(
    volume: SummedVolume,
    boxes: Boxes,
    form: str,
    parameters: Mapping[str, float],
    dtype: torch.dtype,
) -> Float[Tensor, "lesions boxes"]:
    """Scores of all pairs in the dtype: `form` is `"mass"`, `"dice"`, `"iou"` or `"tversky"`."""
    from softoverlap.mask_boxes._triton import scores_of_all  # imports Triton

    return scores_of_all(volume, boxes, form, parameters, dtype)
