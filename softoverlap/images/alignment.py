"""Bring a volume onto the grid of another for scoring, without loss or as chosen."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._types import plain
from softoverlap.images._itk import from_itk, to_itk
from softoverlap.images.default_affine import lost_affine
from softoverlap.images.geometry import SAME_GRID, Volume, boxes_to_world, check_affine

GEOMETRIES = ("strict", "index", "resample")
"""What `align_to` can do if grids differ."""

CLOSE_GRID = 0.1
"""Up to this displacement, in voxels, scores get a note."""

TRUSTED_GRID = 1.0
"""Up to this displacement, in voxels, `index` may trust the voxel grid."""


@dataclass(frozen=True)
class AlignedVolume:
    """A volume on the grid of another.

    Args:
        volume: The values, with the reference's affine.
        displacement: Largest displacement of a corner along an axis before anything was moved, in
            voxels of the reference.
        notes: What a user should know about it.

    Examples:
        >>> mask = Volume(torch.zeros(2, 2, 2), torch.eye(4, dtype=torch.float64))
        >>> AlignedVolume(mask, 0.0).displacement
        0.0
    """

    volume: Volume
    displacement: float
    notes: tuple[str, ...] = ()


def reorient_to(moving: Volume, affine: Shaped[Tensor, "4 4"]) -> Volume:
    """Flip and permute the axes so that they point as closely as possible like those of a grid.

    Args:
        moving: The volume.
        affine: Voxel indices of the other grid to RAS mm, shape (4, 4).

    Returns:
        The same voxels at the same positions, with another axis order.

    Raises:
        TypeError: If the affine is not a tensor.
        ValueError: If the affine is not invertible.

    Examples:
        >>> affine = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
        >>> mask = Volume(torch.arange(2.0).reshape(2, 1, 1), affine)
        >>> turned = reorient_to(mask, torch.eye(4))
        >>> turned.data.flatten().tolist(), turned.affine[:3, 3].tolist()
        ([1.0, 0.0], [-1.0, 0.0, 0.0])
    """
    there, here = check_affine(affine)[:3, :3], moving.affine[:3, :3]
    cosines = (there / there.norm(dim=0)).T @ (here / here.norm(dim=0))
    source = _nearest_order(cosines.abs().tolist())
    flips = [axis for axis, old in enumerate(source) if cosines[axis, old] < 0]
    lead = moving.data.ndim - 3
    data = plain(moving.data).permute(*range(lead), *(lead + old for old in source))
    step = torch.zeros(4, 4, dtype=torch.float64)
    step[3, 3] = 1
    for axis, old in enumerate(source):
        step[old, axis] = -1 if axis in flips else 1
        step[old, 3] = data.shape[lead + axis] - 1 if axis in flips else 0
    if flips:  # a flip copies, even without axes
        data = data.flip([lead + axis for axis in flips])
    return Volume(data, moving.affine @ step)


def align_to(
    moving: Volume,
    reference: Volume,
    *,
    geometry: str = "strict",
    nearest: bool = False,
    names: tuple[str, str] = ("moving", "reference"),
) -> AlignedVolume:
    """Bring a volume onto the grid of another, as exactly as scores need it.

    First, axes are flipped and permuted, which loses nothing. Then the remaining displacement is
    measured: the largest of a corner along an axis, in voxels of the reference. Half a voxel costs
    a small lesion a third of its Dice, so up to 0.01 voxels count as the same, up to 0.1 get a
    note, and more is an error unless you choose otherwise:

    | geometry | up to | what happens |
    | --- | --- | --- |
    | `"strict"` | 0.1 voxels | an error |
    | `"index"` | 1 voxel | voxels are compared by index, with the reference's affine |
    | `"resample"` | any, if the volumes overlap | values are interpolated by the affines |

    A mask that was saved without its affine has the identity, or what nibabel computes without one.
    Messages say so; `"index"` then compares voxels as they are stored, at any distance.

    Args:
        moving: The volume to align.
        reference: The volume with the target grid; its values are not used.
        geometry: What to do if the grids differ.
        nearest: Resample to the nearest voxel instead of linearly, for labels.
        names: Names of the two for messages, usually their files.

    Returns:
        The volume on the reference's grid, the displacement and notes. Resampled values are 0
        outside the moving volume; between the centres of its outer voxels and its border they are
        those of the outer voxels. Linear interpolation returns floating values. What is outside the
        reference is dropped, and a note says which share of the mass that is.

    Raises:
        ValueError: If the shapes differ after reorientation (unless resampled), the grids are too
            far apart, or the volumes do not overlap.

    Examples:
        >>> affine = torch.eye(4, dtype=torch.float64)
        >>> truth, shifted = Volume(torch.ones(4, 4, 4), affine), affine.clone()
        >>> shifted[0, 3] = 0.4
        >>> aligned = align_to(Volume(torch.ones(4, 4, 4), shifted), truth, geometry="index")
        >>> round(aligned.displacement, 6), bool((aligned.volume.data == 1).all())
        (0.4, True)
    """
    check_choice("geometry", geometry, GEOMETRIES)
    turned = reorient_to(moving, reference.affine)
    displacement = displacement_between(turned, reference)
    same_shape = turned.grid == reference.grid
    apart = displaced(displacement, names)
    if same_shape and displacement <= SAME_GRID:
        return AlignedVolume(replace(turned, affine=reference.affine), displacement)
    lost = lost_affine(moving, reference, names)
    if lost and geometry == "index" and displacement > TRUSTED_GRID and _same(moving, reference):
        kept = replace(moving, data=plain(moving.data), affine=reference.affine)
        return AlignedVolume(kept, displacement, (f"{apart}: compared voxel by voxel", lost))
    if not same_shape and geometry != "resample":
        cure = ", or choose `geometry='index'`" if lost and _same(moving, reference) else ""
        told = lost and f"; {lost}{cure}"
        raise ValueError(_shapes(turned, reference, names, geometry) + told)
    if geometry == "resample":
        volume = _resampled(turned, reference, nearest, names)
        outside = _left_out(_share_outside(turned, reference, nearest), names)
        return AlignedVolume(volume, displacement, (f"{apart}: resampled{outside}",))
    limit = CLOSE_GRID if geometry == "strict" else TRUSTED_GRID
    if displacement > limit:
        hint = geometry_hint(
            displacement, geometry, meet=share_space(turned, reference),
            lost=lost, same=_same(moving, reference),
        )  # fmt: skip
        raise ValueError(f"{apart}, more than the {limit:g} that is allowed{hint}")
    volume = replace(turned, affine=reference.affine)
    return AlignedVolume(volume, displacement, (f"{apart}: not moved",))


def _nearest_order(nearness: list[list[float]]) -> tuple[int, ...]:
    """For each axis of the reference the axis closest to its direction; all are different."""
    orders = itertools.permutations(range(3))
    return max(orders, key=lambda order: sum(map(list.__getitem__, nearness, order)))


def displaced(displacement: float, names: tuple[str, str]) -> str:
    """How far two grids lie apart, in words."""
    return (
        f"{names[0]} lies up to {displacement:.3g} voxels from the grid of {names[1]} "
        "(largest displacement of a corner along an axis)"
    )


def displacement_between(moving: Volume, reference: Volume) -> float:
    """Between the corners of two volumes with the same axis order; shapes may differ."""
    there = corners_in(moving, reference.affine)
    return float((there - corners_in(reference, reference.affine)).abs().max())


def corners_in(volume: Volume, affine: Float64[Tensor, "4 4"]) -> Float64[Tensor, "8 3"]:
    """The corners of a volume in voxel indices of a grid."""
    box = torch.tensor([[0.0, 0.0, 0.0, *map(float, volume.grid)]], dtype=torch.float64)
    world = boxes_to_world(box, volume.affine)[0]
    return torch.linalg.solve(affine[:3, :3], (world - affine[:3, 3]).T).T


def _shapes(moving: Volume, reference: Volume, names: tuple[str, str], geometry: str) -> str:
    hint = (
        ": choose `geometry='resample'` if the affines are right"
        if share_space(moving, reference)
        else ""
    )
    return (
        f"{names[0]} must have the shape of {names[1]}, {reference.grid}, got {moving.grid} in the "
        f"same axis order; with `geometry={geometry!r}` shapes must agree{hint}"
    )


def geometry_hint(
    displacement: float, geometry: str, *, meet: bool = True, lost: str = "", same: bool = True
) -> str:
    """The choices that would work.

    Args:
        displacement: Largest displacement of a corner, in voxels.
        geometry: What was chosen.
        meet: Whether the volumes overlap.
        lost: Words on an affine that was lost, as of `lost_affine`.
        same: Whether the shapes as stored are the same, so that voxels can be compared.

    Returns:
        The end of a message.
    """
    words = []
    if geometry == "strict" and displacement <= TRUSTED_GRID:
        words.append(f"index trusts the voxel grid, up to {TRUSTED_GRID:g} voxel")
    elif geometry == "strict" and lost and same:
        words.append("index trusts the voxel grid where an affine was lost")
    if meet:
        words.append("resample trusts the affines")
    told = f"; {lost}" if lost else ""
    if not words:
        return f" by `geometry={geometry!r}`, and the volumes share no space{told}"
    return f" by {geometry}{told}; choose with `geometry=`: {', '.join(words)}"


def _same(moving: Volume, reference: Volume) -> bool:
    """Whether both hold as many voxels along each axis, as they are stored."""
    return moving.grid == reference.grid


def share_space(moving: Volume, reference: Volume) -> bool:
    """Whether two volumes overlap; one without voxels overlaps with none."""
    if 0 in (*moving.grid, *reference.grid):
        return False
    box = corners_in(moving, reference.affine)
    size = torch.tensor(reference.grid, dtype=torch.float64)
    return not bool((box.amax(dim=0) <= -0.5).any() or (box.amin(dim=0) >= size - 0.5).any())


def _share_outside(moving: Volume, reference: Volume, nearest: bool) -> float:
    """Share of the mass in voxels with centres outside the reference; each label counts 1."""
    data = plain(moving.data).detach().cpu()
    mass = (data != 0).double() if nearest else data.double().abs()
    mass = mass.sum(dim=0) if mass.ndim > 3 else mass
    step = torch.linalg.solve(reference.affine, moving.affine)
    along = [torch.arange(length, dtype=torch.float64) for length in moving.grid]
    inside = torch.ones(moving.grid, dtype=torch.bool)
    for row, length in zip(step, reference.grid, strict=False):
        parts = [factor * places for factor, places in zip(row, along, strict=False)]
        at = parts[0][:, None, None] + parts[1][:, None] + parts[2] + row[3]
        inside &= (at >= -0.5) & (at <= length - 0.5)
    total = float(mass.sum())
    return float(mass[~inside].sum()) / total if total > 0 else 0.0


def _left_out(share: float, names: tuple[str, str]) -> str:
    if share == 0:
        return ""
    return f", and {100 * share:.3g} % of its mass lies outside {names[1]} and is dropped"


def _resampled(moving: Volume, reference: Volume, nearest: bool, names: tuple[str, str]) -> Volume:
    """The values at the voxels of the reference, channel by channel."""
    if not share_space(moving, reference):
        raise ValueError(f"{names[0]} and {names[1]} must share some space, got volumes apart")
    data = plain(moving.data).detach().cpu()
    kept = data.dtype
    stored = data.to(torch.uint8) if kept == torch.bool else data
    half = kept in (torch.float16, torch.bfloat16)
    if half or not (nearest or stored.is_floating_point()):
        stored = stored.float()
    channels = stored.reshape(-1, *moving.grid)
    moved = [_on_grid(channel, moving.affine, reference, nearest) for channel in channels]
    resampled = torch.stack(moved).reshape(*data.shape[:-3], *reference.grid)
    back = kept if nearest or kept.is_floating_point else resampled.dtype
    return Volume(resampled.to(back), reference.affine)


def _on_grid(
    data: Tensor, affine: Float64[Tensor, "4 4"], reference: Volume, nearest: bool
) -> Tensor:
    import SimpleITK

    image = to_itk(data, affine)
    grid = to_itk(torch.zeros(1, 1, 1, dtype=torch.uint8), reference.affine)
    method = SimpleITK.sitkNearestNeighbor if nearest else SimpleITK.sitkLinear
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetReferenceImage(grid)
    resampler.SetSize(list(reference.grid))
    resampler.SetInterpolator(method)
    resampler.SetDefaultPixelValue(0)
    values, _ = from_itk(resampler.Execute(image), "resampled")
    return torch.from_numpy(values.copy())
