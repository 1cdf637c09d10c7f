"""From voxels to millimetres and back, with all corners of a box.

Under an oblique affine, a box along the voxel axes is not a box along the axes of the world, and
the reverse. Then the smallest box around all its corners is written or read, and a note says how
much larger it is.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap.boxes import volume
from softoverlap.images.geometry import boxes_to_world
from softoverlap.images.noted import Noted

FRAMES = ("RAS", "LPS")
_GROWTH = 1.001
"""Boxes that grow by at most this factor count as the same: affines are float32 in files."""


def world_boxes(
    boxes: Float64[Tensor, "boxes 6"],
    affine: Float64[Tensor, "4 4"],
    frame: str,
    path: Path,
    case: str,
) -> Noted[Float64[Tensor, "boxes 6"]]:
    """Smallest enclosing boxes along the axes of the world, minima then maxima, in mm."""
    corners = boxes_to_world(boxes, affine) @ _turn(frame)
    around = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    volumes = volume(boxes) * torch.linalg.det(affine[:3, :3]).abs()
    return around, _notes_on_growth(path, case, volumes, around)


def voxel_boxes(
    corners: Float64[Tensor, "boxes 8 3"],
    affine: Float64[Tensor, "4 4"],
    frame: str,
    path: Path,
    case: str,
) -> Noted[Float64[Tensor, "boxes 6"]]:
    """Smallest boxes along the voxel axes around boxes with corners in mm."""
    there = corners @ _turn(frame) - affine[:3, 3]
    flat = torch.linalg.solve(affine[:3, :3], there.reshape(-1, 3).T).T.reshape(-1, 8, 3) + 0.5
    around = torch.cat([flat.amin(1), flat.amax(1)], dim=1)
    edges = flat[:, [4, 2, 1]] - flat[:, :1]
    return around, _notes_on_growth(path, case, torch.linalg.det(edges).abs(), around)


def box_corners(
    centres: Float64[Tensor, "boxes 3"],
    sizes: Float64[Tensor, "boxes 3"],
    directions: Float64[Tensor, "boxes 3 3"],
) -> Float64[Tensor, "boxes 8 3"]:
    """Corners of boxes with their own directions (columns), in the order of `boxes_to_world`."""
    signs = torch.tensor(list(itertools.product((-0.5, 0.5), repeat=3)), dtype=torch.float64)
    return (signs * sizes[:, None]) @ directions.transpose(1, 2) + centres[:, None]


def _turn(frame: str) -> Float64[Tensor, "3 3"]:
    """The map between RAS and the frame, in both directions."""
    check_choice("frame", frame, FRAMES)
    signs = [1.0, 1.0, 1.0] if frame == "RAS" else [-1.0, -1.0, 1.0]
    return torch.diag(torch.tensor(signs, dtype=torch.float64))


def growth_of(volumes: Float64[Tensor, "boxes"], around: Float64[Tensor, "boxes 6"]) -> float:
    """The largest growth of a box as a factor, 1 if no box has a volume.

    Examples:
        >>> growth_of(torch.tensor([8.0]).double(), torch.tensor([[0, 0, 0, 2, 2, 3.0]]).double())
        1.5
    """
    solid = volumes > 0
    return float((volume(around)[solid] / volumes[solid]).max()) if solid.any() else 1.0


def _notes_on_growth(path: Path, case: str, volumes: Tensor, around: Tensor) -> tuple[str, ...]:
    growth = growth_of(volumes, around)
    if growth <= _GROWTH:
        return ()
    return (
        f"{path}: the axes of boxes and scan of {case} are at an angle; each box became the "
        f"smallest one around all its corners, up to {growth:.3g} times its volume",
    )
