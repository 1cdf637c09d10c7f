"""The best overlap of lesions with the anchors of an endless grid, without making the grid.

All anchors of one shape have one volume, so the best of them for a lesion is the one that holds the
most of its mass. Along each axis an anchor that begins before the lesion holds a first part of it:
the later it begins the more, until it covers the end. So of those that begin at or before the
lesion only the last one matters, of those that end at or behind it only the first one, and beside
these the ones that lie inside. The mass of a box is a product of the voxels' shares along each
axis, so that all edges and places of one axis are summed at once, and then those of the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softoverlap._types import Boxes, plain
from softoverlap.lesion import Lesion
from softoverlap.overlaps import MaskBoxOverlap

_ELEMENTS_PER_BLOCK = 1 << 22


def level_anchors(
    shapes: Float[Tensor, "shapes ndim"], stride: Sequence[int], places: Sequence[int]
) -> Boxes:
    """Anchors of these edges around the centres of a grid's cells, float32.

    Args:
        shapes: Edges in voxels, shape (A, ndim).
        stride: Edges of a cell in voxels, one number an axis.
        places: Cells along each axis.

    Returns:
        Boxes in voxels, place by place in C order and shape by shape, shape
        (places · A, 2 * ndim).

    Examples:
        >>> import torch
        >>> level_anchors(torch.tensor([[3.0]]), [2], [2])
        tensor([[-0.5000,  2.5000],
                [ 1.5000,  4.5000]])
    """
    half = shapes.float() / 2
    cell = torch.cat([-half, half], dim=1)
    lines = [
        (torch.arange(count, dtype=cell.dtype, device=cell.device) + 0.5) * step
        for count, step in zip(places, stride, strict=True)
    ]
    centres = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flatten(0, -2)
    return (centres.repeat(1, 2)[:, None] + cell).flatten(0, 1)


def grid_quality(
    lesions: Sequence[Lesion],
    shapes: Float[Tensor, "shapes ndim"],
    stride: Sequence[int],
    overlap: MaskBoxOverlap,
) -> Float[Tensor, "lesions shapes"]:
    """The best overlap of each lesion with the anchors of each shape, at any place of the grid.

    Args:
        lesions: K lesions in voxels of their images.
        shapes: Edges in voxels, shape (A, ndim).
        stride: Edges of a cell in voxels, one number an axis.
        overlap: Of mask and box, rising with the mass in the box: a Tversky index.

    Returns:
        Best overlap, float64, on the CPU, shape (K, A).

    Examples:
        >>> import torch
        >>> from softoverlap import mask_box_dice
        >>> lesion = Lesion(
        ...     box=torch.tensor([2.0, 4.0]), crop=torch.ones(2), offset=torch.tensor([2]),
        ...     centre=torch.tensor([3.0]), volume_mm3=2.0,
        ... )
        >>> grid_quality([lesion], torch.tensor([[2.0], [3.0]]), [2], mask_box_dice)
        tensor([[1.0000, 0.8000]], dtype=torch.float64)
    """
    shapes = shapes.detach().to("cpu", torch.float64)
    lines = [column.unique(return_inverse=True) for column in shapes.unbind(dim=1)]
    edges, rows = [line for line, _ in lines], tuple(row for _, row in lines)
    crops = [plain(lesion.crop).detach().to("cpu", torch.float64) for lesion in lesions]
    masses = shapes.new_zeros((len(crops), len(shapes)))
    shares = cache(_shares)  # small lesions have few extents, and few places in a cell
    axes = [(tuple(line.tolist()), step) for line, step in zip(edges, stride, strict=True)]
    for number, (crop, lesion) in enumerate(zip(crops, lesions, strict=True)):
        placed = zip(lesion.offset.tolist(), crop.shape, axes, strict=True)
        places = [shares(low % step, side, line, step) for low, side, (line, step) in placed]
        masses[number] = _best_masses(crop, places)[rows]
    sizes = torch.stack([crop.sum() for crop in crops])
    masses = masses.minimum(sizes[:, None])  # rounding lifts a sum of all voxels
    return overlap.with_(empty=0.0).ratio(masses, shapes.prod(dim=1), sizes[:, None])


def _best_masses(
    crop: Float[Tensor, "*crop"], places: Sequence[tuple[Tensor, Tensor]]
) -> Float[Tensor, "*edges"]:
    """The most mass that an anchor can hold, for all combinations of edges."""
    (first, owner), *others = places
    rest = crop
    for shares, _ in others:  # the axis that is summed goes, its places come last
        rest = torch.tensordot(rest, shares, dims=([1], [1]))  # pyright: ignore[reportArgumentType]
    columns = math.prod(rest.shape[1:])
    step = max(1, _ELEMENTS_PER_BLOCK // max(1, columns))
    best = []
    for part in first.split(step):
        mass = torch.tensordot(part, rest, dims=1)
        for axis, (_, owners) in enumerate(others, start=1):
            mass = _best_of_edges(mass, axis, owners)
        best.append(mass)
    return _best_of_edges(torch.cat(best), 0, owner)


def _best_of_edges(
    mass: Float[Tensor, "*places"], axis: int, owner: Int[Tensor, "places"]
) -> Float[Tensor, "*edges"]:
    """The highest of the places of each edge, along one axis."""
    shape = list(mass.shape)
    shape[axis] = int(owner[-1]) + 1
    index = owner.view(-1, *[1] * (mass.ndim - 1 - axis)).expand_as(mass)
    return mass.new_zeros(shape).scatter_reduce_(axis, index, mass, "amax")


def _shares(
    low: int, side: int, lengths: tuple[float, ...], step: int
) -> tuple[Float[Tensor, "places voxels"], Int[Tensor, "places"]]:
    """The share of each voxel in the places that may be best, and the edge of each place."""
    edges = torch.tensor(lengths, dtype=torch.float64)
    first = ((low + edges / 2) / step - 0.5).floor()  # the last that begins before the lesion
    last = ((low + side - edges / 2) / step - 0.5).ceil()  # the first that ends behind it
    counts = (last - first + 1).clamp(min=1).long()
    owner = torch.arange(len(edges)).repeat_interleave(counts)
    place = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
    centre = (first[owner] + place + 0.5) * step - low
    half = edges[owner] / 2
    voxel = torch.arange(side, dtype=edges.dtype)
    end, start = (centre + half)[:, None], (centre - half)[:, None]
    return (end.minimum(voxel + 1) - start.maximum(voxel)).clamp(min=0), owner


def anchors_a_voxel(stride: Sequence[int]) -> float:
    """How many anchors of one shape a voxel has.

    Examples:
        >>> anchors_a_voxel((2, 2, 1))
        0.25
    """
    return 1 / math.prod(stride)
