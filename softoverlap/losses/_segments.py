"""Sums over parts of the voxels that numbers tell apart."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sums(values: Tensor, numbers: Tensor, count: int) -> Tensor:
    """What the values (B, C, voxels) with each number below `count` add up to, (B, C, count)."""
    rows = values.shape[0] * values.shape[1]
    first = torch.arange(rows, device=values.device).view(*values.shape[:2], 1) * count
    total = torch.zeros(rows * count, dtype=torch.float64, device=values.device)
    total = total.index_add(0, (numbers + first).flatten(), values.double().flatten())
    return total.to(values.dtype).view(*values.shape[:2], count)
