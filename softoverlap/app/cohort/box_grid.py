"""Boxes of a file on the voxel grid of a mask, by the same rules as images (see `align_to`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softoverlap.boxes import volume
from softoverlap.images import (
    CLOSE_GRID,
    SAME_GRID,
    TRUSTED_GRID,
    BoxFile,
    Volume,
    boxes_to_world,
    geometry_hint,
    growth_of,
    lost_affine,
)

GROWTH = 1.01
"""Up to here a box may grow on another grid without a word."""


@dataclass(frozen=True)
class PlacedBoxes:
    """Boxes on a grid.

    Args:
        file: The boxes, in voxels of the grid.
        displacement: Largest displacement of a corner along an axis, in voxels of the grid; None
            where the file has no affine.
        notes: What a user should know.

    Examples:
        >>> PlacedBoxes(BoxFile(torch.zeros(0, 6).double()), 0.0).displacement
        0.0
    """

    file: BoxFile
    displacement: float | None
    notes: tuple[str, ...] = ()


def place_boxes(
    file: BoxFile,
    affine: Tensor | None,
    shape: Sequence[int],
    *,
    geometry: str,
    names: tuple[str, str],
    flips: bool = True,
) -> PlacedBoxes:
    """Bring boxes onto a grid; axes that are flipped or swapped cost nothing.

    Args:
        file: The boxes.
        affine: Voxel indices of the grid to RAS mm, shape (4, 4), or None if it is unknown.
        shape: Voxels of the grid.
        geometry: strict, index or resample.
        names: What the boxes and the grid are called in messages.
        flips: Whether the shape is that of the image, so that axes can be flipped within it.

    Returns:
        The boxes in voxels of the grid.

    Raises:
        ValueError: If the boxes are not 3D, or the grids lie too far apart.

    Examples:
        >>> flipped = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
        >>> flipped[0, 3] = 9.0
        >>> boxes = BoxFile(torch.tensor([[0.0, 0, 0, 2, 2, 2]]).double(), affine=flipped)
        >>> place_boxes(
        ...     boxes, torch.eye(4), (10, 10, 10), geometry="strict", names=("a", "b")
        ... ).file.boxes[0].tolist()
        [8.0, 0.0, 0.0, 10.0, 2.0, 2.0]
    """
    check_3d(file, names[0])
    if file.affine is None or affine is None:
        note = f"{names[0]} and {names[1]} are taken to share a voxel grid: one has no affine"
        shared = file.affine if affine is None else affine.double()  # one grid, one size of voxels
        return PlacedBoxes(replace(file, affine=shared), None, (note,))
    matrix = torch.linalg.solve(affine.double(), file.affine)
    matrix[3] = torch.tensor([0.0, 0, 0, 1])
    turned = _nearest_turn(matrix, shape)
    displacement = _displacement(matrix, turned, shape)
    apart = f"the grid of {names[0]} lies up to {displacement:.3g} voxels off that of {names[1]}"
    lost = _lost_affine(file.affine, affine, shape, names)
    if lost and geometry == "index" and displacement > TRUSTED_GRID:
        notes = f"{apart}: compared voxel by voxel", lost
        return PlacedBoxes(replace(file, affine=affine.double()), displacement, notes)
    limit = {"strict": CLOSE_GRID, "index": TRUSTED_GRID}.get(geometry)
    if limit is not None and not flips and not torch.equal(turned[:3, :3], torch.eye(3).double()):
        raise ValueError(
            f"{names[0]} must have the axes of {names[1]}, got others: pass `geometry='resample'`"
        )
    if limit is not None and not displacement <= limit:
        away = _count_outside(_mapped(file.boxes, matrix), shape) == len(file.boxes)
        hint = geometry_hint(displacement, geometry, meet=not (lost and away), lost=lost)
        raise ValueError(f"{apart}, more than {limit:g}{hint}")
    moved = matrix if geometry == "resample" else turned
    placed = replace(
        file,
        boxes=_mapped(file.boxes, moved),
        affine=affine.double(),
        smallest_anchor=_turned_edges(file.smallest_anchor, moved),
    )
    if (
        lost
        and flips
        and len(placed.boxes)
        and _count_outside(placed.boxes, shape) == len(placed.boxes)
    ):
        cure = "or pass `geometry='index'` to compare voxel by voxel"
        raise ValueError(f"all boxes of {names[0]} lie outside {names[1]}, and {lost}, {cure}")
    notes = [apart] if displacement > SAME_GRID else []
    notes += [lost] if lost and notes else []
    notes += _growth(file.boxes, placed.boxes, moved)
    notes += _outside(placed.boxes, shape, names) if flips else []
    return PlacedBoxes(placed, displacement, tuple(notes))


def _turned_edges(edges: Sequence[float] | None, matrix: Tensor) -> tuple[float, ...] | None:
    """The edges of the smallest box around a mapped one."""
    if edges is None:
        return None
    return tuple((matrix[:3, :3].abs() @ torch.tensor(edges, dtype=torch.float64)).tolist())


def check_3d(file: BoxFile, name: str) -> None:
    """The boxes are 3D.

    Args:
        file: The boxes.
        name: What they are called in the message.

    Raises:
        ValueError: If they are not.

    Examples:
        >>> check_3d(BoxFile(torch.zeros(0, 4).double()), "a.json")
        Traceback (most recent call last):
        ValueError: a.json must hold 3D boxes, got 4 numbers a box
    """
    if file.boxes.shape[1] != 6:
        raise ValueError(f"{name} must hold 3D boxes, got {file.boxes.shape[1]} numbers a box")


def _nearest_turn(matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """The lossless map of voxel indices that is nearest: axes swapped and flipped, edges kept."""
    axes = matrix[:3, :3]
    turn = torch.zeros(4, 4, dtype=torch.float64)
    turn[3, 3] = 1
    for source in range(3):
        target = int(axes[:, source].abs().argmax())
        turn[target, source] = axes[target, source].sign()
        if axes[target, source] < 0:
            turn[target, 3] = shape[target] - 1
    return turn


def _displacement(matrix: Tensor, turned: Tensor, shape: Sequence[int]) -> float:
    """How far apart both maps put the corners of the image, in voxels of the grid."""
    if not torch.linalg.det(turned).abs() > 0.5:  # two axes point along one: far from any grid
        return float("inf")
    image = torch.tensor([[0.0, 0, 0, *map(float, shape)]], dtype=torch.float64)
    in_boxes = _mapped(image, torch.linalg.inv(turned))  # the image in voxels of the boxes
    return float((boxes_to_world(in_boxes, matrix) - boxes_to_world(in_boxes, turned)).abs().max())


def _growth(boxes: Tensor, placed: Tensor, matrix: Tensor) -> list[str]:
    """How much larger boxes became, since no box of another grid is one of this at an angle."""
    volumes = volume(boxes) * torch.linalg.det(matrix[:3, :3]).abs()
    growth = growth_of(volumes, placed)
    if growth <= GROWTH:
        return []
    return [f"the grids are at an angle: boxes became up to {growth:.3g} times as large"]


def _outside(boxes: Tensor, shape: Sequence[int], names: tuple[str, str]) -> list[str]:
    """How many boxes share no space with the image."""
    count = _count_outside(boxes, shape)
    return [f"{count} of {len(boxes)} boxes of {names[0]} lie outside {names[1]}"] if count else []


def _count_outside(boxes: Tensor, shape: Sequence[int]) -> int:
    ends = torch.tensor(list(map(float, shape)), dtype=torch.float64)
    return int(((boxes[:, 3:] <= 0) | (boxes[:, :3] >= ends)).any(dim=1).sum())


def _lost_affine(own: Tensor, affine: Tensor, shape: Sequence[int], names: tuple[str, str]) -> str:
    """Words on an affine that was lost when the mask of the boxes, or the grid's, was saved."""
    voxels = torch.zeros(1, 1, 1).expand(*shape)  # no memory: only the shape counts
    return lost_affine(Volume(voxels, own), Volume(voxels, affine.double()), names)


def _mapped(boxes: Tensor, matrix: Tensor) -> Tensor:
    """The smallest boxes around the mapped corners; edges of voxels go to edges."""
    if not len(boxes):
        return boxes
    corners = boxes_to_world(boxes, matrix, validate=False) + 0.5
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
