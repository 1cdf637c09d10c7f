"""A scan turned as radiologists look at it, its boxes with it, and its planes by their names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Axial planes first, and in them the patient's front above and their right on the left.
DISPLAY = torch.tensor(
    [[0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64
)
PLANES = ("sagittal", "coronal", "axial")
"""Planes across the axes of RAS space."""
ENDS = (("L", "R"), ("P", "A"), ("I", "S"))


def plane_title(affine: Tensor, axis: int, index: int, shape: Sequence[int]) -> str:
    """The plane by its name and place, such as `axial, S 12 mm`."""
    along = _world_axis(affine, axis)
    middle = [(length - 1) / 2 for length in shape]
    middle[axis] = index
    at = float(affine[along, :3].double() @ torch.tensor(middle).double() + affine[along, 3])
    return f"{PLANES[along]}, {ENDS[along][at >= 0]} {abs(at):.0f} mm"


def sides(affine: Tensor, axis: int) -> tuple[str, str]:
    """Which side of the patient lies at the low and at the high end of an axis."""
    along = _world_axis(affine, axis)
    low, high = ENDS[along]
    return (low, high) if affine[along, axis] > 0 else (high, low)


def _world_axis(affine: Tensor, axis: int) -> int:
    """The axis of RAS space along which a tensor's axis runs, more or less."""
    return int((affine[:3, axis] / affine[:3, axis].norm()).abs().argmax())
