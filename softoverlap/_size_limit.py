"""Which lesions are too large for a box to be asked to find them: one rule for all that need it."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Shaped
from torch import Tensor

from softoverlap._types import plain
from softoverlap._units import EDGE_ROUNDING, MAX_LESION_MM


def is_too_long(edge_mm: float | int, most_mm: float | int = MAX_LESION_MM) -> bool:
    """Whether an edge is longer than a lesion's may be.

    Examples:
        >>> is_too_long(32.000001), is_too_long(32.1), is_too_long(32.1, 40)
        (False, True, False)
    """
    return edge_mm > EDGE_ROUNDING * most_mm


def too_large(
    boxes: Shaped[Tensor, "boxes coords"],
    spacing: Sequence[float | int],
    most_mm: float | int = MAX_LESION_MM,
) -> Bool[Tensor, "boxes"]:
    """Whether any edge of each box, in voxels of these edges in mm, is too long.

    Examples:
        >>> import torch
        >>> too_large(torch.tensor([[0.0, 0.0, 32.0, 9.0], [0.0, 0.0, 9.0, 17.0]]), (1.0, 2.0))
        tensor([False,  True])
    """
    low, high = plain(boxes).double().chunk(2, dim=1)
    return ((high - low) * low.new_tensor(spacing) > EDGE_ROUNDING * most_mm).any(dim=1)
