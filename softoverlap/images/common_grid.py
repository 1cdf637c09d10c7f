"""Volumes on one grid that holds all of them, so that nothing outside their overlap is lost."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from softoverlap._types import plain
from softoverlap.images.alignment import (
    AlignedVolume,
    align_to,
    corners_in,
    displaced,
    displacement_between,
    reorient_to,
    share_space,
)
from softoverlap.images.default_affine import lost_affine
from softoverlap.images.geometry import SAME_GRID, Volume

_SMALL = 1 << 26
"""A common grid of up to so many voxels is never too large."""

_TIMES = 4
"""Above that, it may hold so many times the voxels of all volumes together."""

_Voxel = tuple[int, ...]
_ENDS = torch.tensor(list(itertools.product((0, 1), repeat=3)))  # the order of `boxes_to_world`


def boxes_between_grids(
    boxes: Shaped[Tensor, "boxes coords"],
    affine: Shaped[Tensor, "4 4"],
    onto: Shaped[Tensor, "4 4"],
) -> Float[Tensor, "boxes coords"]:
    """The tight boxes, in voxels of another grid, around boxes of a scan.

    Args:
        boxes: In voxels of one grid, shape (N, 6).
        affine: Voxel centres of that grid to RAS mm, shape (4, 4).
        onto: The same of the other grid.

    Returns:
        Boxes where the given ones are, same shape, in their type if it is a floating one, else in
        float64. Where the grids lie along the same axes, they are the same boxes.

    Examples:
        >>> onto = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))
        >>> boxes_between_grids(torch.tensor([[0.0, 1, 2, 4, 5, 6]]), torch.eye(4), onto)
        tensor([[0.2500, 0.7500, 1.2500, 2.2500, 2.7500, 3.2500]])
    """
    step = torch.linalg.inv(onto.cpu().double()) @ affine.cpu().double()
    turn, shift = step[:3, :3], step[:3, 3]
    low, high = plain(boxes).detach().cpu().double().chunk(2, dim=1)
    centre = ((low + high) / 2 - 0.5) @ turn.T + shift + 0.5
    half = ((high - low) / 2) @ turn.abs().T
    moved = torch.cat([centre - half, centre + half], dim=1)
    return moved.to(boxes) if boxes.is_floating_point() else moved.to(boxes.device)


@dataclass(frozen=True)
class CommonGrid:
    """Volumes on one grid.

    Args:
        reference: The first volume.
        aligned: The others, in their order.
        start: The first voxel of the grid, in voxels of the first volume's own grid.

    Examples:
        >>> mask = Volume(torch.zeros(2, 2, 2), torch.eye(4, dtype=torch.float64))
        >>> CommonGrid(mask, ()).start
        (0, 0, 0)
    """

    reference: Volume
    aligned: tuple[AlignedVolume, ...]
    start: tuple[int, ...] = (0, 0, 0)


def on_common_grid(
    reference: Volume,
    others: Sequence[Volume],
    *,
    geometry: str,
    nearest: Sequence[bool],
    names: Sequence[str],
) -> CommonGrid:
    """Bring volumes onto the grid of the first; with `"resample"`, extended to hold all of them.

    The extended grid has the voxels of the first volume, and others around them. A volume whose
    voxels lie on it is copied, others are interpolated; outside of itself each volume is 0. So a
    mask that was cropped to what it marks counts as the whole mask does.

    Args:
        reference: The first volume.
        others: Those to align.
        geometry: What to do if the grids differ, see `align_to`.
        nearest: For each of the others, whether to resample to the nearest voxel, for labels.
        names: Names of all volumes for messages, the first one first.

    Returns:
        The volumes.

    Raises:
        ValueError: If grids differ and `geometry` does not allow it, a volume that shares no space
            with the first has lost its affine, or the volumes lie too far apart for one grid.

    Examples:
        >>> whole = torch.zeros(6, 4, 4)
        >>> whole[1:3, 1:3, 1:3] = whole[4, 0, 0] = 1
        >>> affine = torch.eye(4, dtype=torch.float64)
        >>> moved = affine.clone()
        >>> moved[:3, 3] = 1
        >>> common = on_common_grid(
        ...     Volume(whole[1:3, 1:3, 1:3], moved), [Volume(whole, affine)],
        ...     geometry="resample", nearest=[False], names=["truth", "pred"],
        ... )
        >>> common.reference.grid, common.start, float(common.aligned[0].volume.data.sum())
        ((6, 4, 4), (-1, -1, -1), 9.0)
    """
    pairs = list(zip(others, nearest, names[1:], strict=True))
    if geometry != "resample":
        aligned = [
            align_to(other, reference, geometry=geometry, nearest=near, names=(name, names[0]))
            for other, near, name in pairs
        ]
        return CommonGrid(reference, tuple(aligned))
    blank = None if reference.data.any() else _blank_like(reference, others)
    reference = blank or reference
    turned = [reorient_to(other, reference.affine) for other in others]
    for other, there, (_, _, name) in zip(others, turned, pairs, strict=True):
        _check_affine_kept(other, there, reference, (name, names[0]))
    start, shape = _extent(reference, turned, names)
    whole = _placed(reference, tuple(-first for first in start), shape, _at(reference, start))
    aligned = []
    for there, (other, near, name) in zip(turned, pairs, strict=True):
        moved = _aligned(there, reference, whole, near, (name, names[0]))
        lost = moved.notes and lost_affine(other, reference, (name, names[0]))
        notes = (*moved.notes, lost) if lost else moved.notes
        aligned.append(replace(moved, notes=notes))
    if blank is not None:
        note = f"{names[0]} marks nothing and does not hold the other masks: their grid is used"
        aligned[0] = replace(aligned[0], notes=(*aligned[0].notes, note))
    return CommonGrid(whole, tuple(aligned), start)


def _aligned(
    turned: Volume, reference: Volume, whole: Volume, nearest: bool, names: tuple[str, str]
) -> AlignedVolume:
    """A volume with the reference's order of axes on the extended grid."""
    displacement = displacement_between(turned, reference)
    same = turned.grid == reference.grid and displacement <= SAME_GRID
    note = displaced(displacement, names)
    if not share_space(turned, reference):
        note += " and shares no space with it"
    offset = _offset(turned, whole)
    if offset is not None or not turned.data.any():
        placed = _placed(turned, offset or whole.grid, whole.grid, whole.affine)
        notes = () if same else (f"{note}: its voxels were placed by the affines",)
        return AlignedVolume(placed, displacement, notes)
    moved = align_to(turned, whole, geometry="resample", nearest=nearest, names=names)
    return AlignedVolume(moved.volume, displacement, (f"{note}: resampled",))


def _check_affine_kept(
    moving: Volume, turned: Volume, reference: Volume, names: tuple[str, str]
) -> None:
    """A mask that lies elsewhere lies there by an affine of its own."""
    if share_space(turned, reference) or not moving.data.any():
        return
    if lost := lost_affine(moving, reference, names):
        same = moving.grid == reference.grid
        cure = ", or pass `geometry='index'` to compare voxel by voxel" if same else ""
        raise ValueError(f"{names[0]} and {names[1]} share no space, and {lost}{cure}")


def _blank_like(reference: Volume, others: Sequence[Volume]) -> Volume | None:
    """A mask that marks nothing says nothing of its grid, unless that holds the other masks."""
    for other in others:
        low, high = _window(reorient_to(other, reference.affine), reference)
        inside = min(low) >= 0 and all(map(operator.le, high, reference.grid))
        if other.data.any() and not inside:
            blank = torch.zeros(1, dtype=reference.data.dtype).expand(
                *reference.data.shape[:-3], *other.grid
            )
            return Volume(blank, other.affine)
    return None


def _extent(
    reference: Volume, turned: Sequence[Volume], names: Sequence[str]
) -> tuple[_Voxel, _Voxel]:
    """First voxel and shape of the grid of all volumes, of those that mark something if need be."""
    volumes = [reference, *turned]
    most = max(_SMALL, _TIMES * sum(math.prod(volume.grid) for volume in volumes))
    start, shape = _around([_window(volume, reference) for volume in volumes])
    if math.prod(shape) > most and (marked := [one for one in volumes if one.data.any()]):
        start, shape = _around([_window(volume, reference) for volume in marked])
    if math.prod(shape) > most:
        raise ValueError(
            f"{', '.join(names[1:])} must lie near {names[0]}, got grids so far apart that one for "
            f"all would have {math.prod(shape):.3g} voxels, more than {most:.3g}: look at their "
            "affines"
        )
    return start, shape


def _around(windows: Sequence[tuple[_Voxel, _Voxel]]) -> tuple[_Voxel, _Voxel]:
    """First voxel and shape of what holds all windows."""
    first = [min(axis) for axis in zip(*(low for low, _ in windows), strict=True)]
    end = [max(axis) for axis in zip(*(high for _, high in windows), strict=True)]
    return tuple(first), tuple(high - low for low, high in zip(first, end, strict=True))


def _window(turned: Volume, reference: Volume) -> tuple[_Voxel, _Voxel]:
    """The first voxel and the end of a volume, in voxels of the reference."""
    offset = _offset(turned, reference)
    if offset is not None:
        return offset, tuple(at + length for at, length in zip(offset, turned.grid, strict=True))
    edges = corners_in(turned, reference.affine) + 0.5  # corner c is the edge between two voxels
    low, high = edges.amin(dim=0).floor().long(), edges.amax(dim=0).ceil().long()
    return tuple(low.tolist()), tuple(high.tolist())


def _offset(turned: Volume, reference: Volume) -> _Voxel | None:
    """Where a volume begins in voxels of the reference; None if its voxels lie between those."""
    there = corners_in(turned, reference.affine)
    first = there[0] + 0.5
    length = torch.tensor(turned.grid, dtype=torch.float64)
    if not (there[-1] - there[0] - length).abs().max() <= SAME_GRID:
        return None
    at = first.round()
    ends = torch.stack([at, at + length])[_ENDS, torch.arange(3)]
    close = (there + 0.5 - ends).abs().max() <= SAME_GRID
    return tuple(int(place) for place in at.tolist()) if close else None


def _at(reference: Volume, start: _Voxel) -> Float64[Tensor, "4 4"]:
    """The affine of the grid that begins at another voxel."""
    step = torch.eye(4, dtype=torch.float64)
    step[:3, 3] = torch.tensor(start, dtype=torch.float64)
    return reference.affine @ step


def _placed(volume: Volume, at: _Voxel, shape: _Voxel, affine: Float64[Tensor, "4 4"]) -> Volume:
    """The values of a volume on a grid in which it begins at a voxel, 0 elsewhere."""
    data = plain(volume.data)
    if volume.grid == shape and not any(at):
        return Volume(data, affine)
    whole = data.new_zeros(*data.shape[:-3], *shape)
    there, here = [], []
    for first, length, end in zip(at, volume.grid, shape, strict=True):
        low, high = max(first, 0), max(min(first + length, end), max(first, 0))
        there.append(slice(low, high))
        here.append(slice(low - first, high - first))
    whole[(..., *there)] = data[(..., *here)]
    return Volume(whole, affine)
