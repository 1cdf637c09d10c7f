"""Shape aliases, and the dtypes in which sums and scores come back."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Masks = Shaped[Tensor, "batch channel *spatial"]
"""Probabilities in [0, 1], one map per channel of each item."""

Targets = Shaped[Tensor, "batch other_channel *spatial"]
"""Like `Masks` of the same batch, or one channel of labels."""

VoxelWeights = Shaped[Tensor, "batch 1 *spatial"]
"""How much each voxel counts, in [0, 1]: one map an item."""

LesionMasks = Shaped[Tensor, "lesions *spatial"]
"""Probabilities in [0, 1], one map per lesion."""

Boxes = Shaped[Tensor, "boxes coords"]
"""All minima, then all maxima, in tensor axis order: coords = 2 * ndim."""

OtherBoxes = Shaped[Tensor, "others coords"]
"""Boxes of the same layout, as many as there are."""

PerChannel = Float[Tensor, "batch channel"]
"""One number per channel of each item."""


def plain(tensor: Tensor) -> Tensor:
    """The same data without a subclass (MONAI's `MetaTensor` slows arithmetic down)."""
    if type(tensor) is Tensor or torch.compiler.is_exporting():  # whose tensors have no data
        return tensor
    return tensor.as_subclass(Tensor)


def accumulation_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of sums: float64 if any tensor is float64, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def score_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of ratios: the widest floating input type; for integers alone the default."""
    dtypes = [t.dtype for t in tensors if t.is_floating_point()]
    if not dtypes:
        return torch.get_default_dtype()
    widest = dtypes[0]
    for dtype in dtypes[1:]:
        widest = torch.promote_types(widest, dtype)
    return widest
