"""Positions of voxels in millimetres: affines, corners, and whether two grids are the same.

Affines are NIfTI's: they map voxel indices to RAS millimetres and locate voxel centres. A box
corner `c` in voxel coordinates, where voxel `i` fills `[i, i + 1)`, lies at `affine · (c - 0.5)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors
from softoverlap._types import Boxes, plain
from softoverlap._units import edges_of_volume
from softoverlap.images.noted import Noted, warned

SAME_GRID = 0.01
"""Grids count as the same up to this displacement of a corner, in voxels."""


NEAR_GRID = 0.6
"""Training and viewing accept a displacement up to this, in voxels, with a warning."""


def check_affine(affine: Tensor, *, name: str = "affine") -> Float64[Tensor, "4 4"]:
    """The affine in float64 on the CPU, if it is a finite, invertible (4, 4) matrix.

    Args:
        affine: Voxel indices to RAS mm, shape (4, 4).
        name: Its name for messages.

    Returns:
        The same matrix, float64, shape (4, 4).

    Raises:
        TypeError: If it is not a tensor.
        ValueError: If its shape, its last row or its determinant is wrong.

    Examples:
        >>> check_affine(torch.eye(4)).dtype
        torch.float64
    """
    check_tensors(**{name: affine})
    if tuple(affine.shape) != (4, 4):
        raise ValueError(f"{name} must have shape (4, 4), got {tuple(affine.shape)}")
    matrix = plain(affine).detach().to("cpu", torch.float64)
    if not torch.isfinite(matrix).all():
        raise ValueError(f"{name} must hold finite values, got {matrix.tolist()}")
    if matrix[3].tolist() != [0, 0, 0, 1]:
        raise ValueError(f"{name} must end with the row 0, 0, 0, 1, got {matrix[3].tolist()}")
    axes = matrix[:3, :3]
    volume, edges = torch.linalg.det(axes).abs(), axes.norm(dim=0).prod()
    if not volume > 1e-6 * edges:
        raise ValueError(f"{name} must be invertible, got axes {axes.tolist()}")
    return matrix


def affine_spacing(affine: Shaped[Tensor, "4 4"]) -> tuple[float, ...]:
    """Edge lengths of a voxel.

    Args:
        affine: Voxel indices to RAS mm, shape (4, 4).

    Returns:
        Millimetres along each voxel axis, three numbers.

    Raises:
        TypeError: If the affine is not a tensor.
        ValueError: If the affine is not a finite, invertible (4, 4) matrix.

    Examples:
        >>> affine_spacing(torch.diag(torch.tensor([-1.0, 1.0, 2.5, 1.0])))
        (1.0, 1.0, 2.5)
    """
    return tuple(check_affine(affine)[:3, :3].norm(dim=0).tolist())


def voxel_volume(affine: Shaped[Tensor, "4 4"]) -> float:
    """Volume of a voxel, also for sheared axes.

    Args:
        affine: Voxel indices to RAS mm, shape (4, 4).

    Returns:
        The volume in mm³.

    Raises:
        TypeError: If the affine is not a tensor.
        ValueError: If the affine is not a finite, invertible (4, 4) matrix.

    Examples:
        >>> voxel_volume(torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
        8.0
    """
    return float(torch.linalg.det(check_affine(affine)[:3, :3]).abs())


def axis_codes(affine: Shaped[Tensor, "4 4"]) -> str:
    """Directions of the voxel axes, each as the nearest letter.

    Args:
        affine: Voxel indices to RAS mm, shape (4, 4).

    Returns:
        Three letters: L or R, P or A, I or S, in the order of the axes.

    Raises:
        TypeError: If the affine is not a tensor.
        ValueError: If the affine is not a finite, invertible (4, 4) matrix.

    Examples:
        >>> axis_codes(torch.diag(torch.tensor([-1.0, 1.0, 2.5, 1.0])))
        'LAS'
    """
    return "".join(map(str, nibabel.orientations.aff2axcodes(check_affine(affine).numpy())))


@dataclass(frozen=True)
class Volume:
    """A 3D image of one or several channels, and its position.

    Args:
        data: Intensities or probabilities, shape (D, H, W), or (C, D, H, W) with
            channels; D, H and W in the axis order of the file.
        affine: Indices along D, H and W to RAS mm of voxel centres, float64, shape (4, 4).

    Raises:
        TypeError: If one of the two is not a tensor.
        ValueError: If the data has neither three nor four axes, or the affine is not an invertible
            (4, 4) matrix.

    Examples:
        >>> affine = torch.diag(torch.tensor([-1.0, 1.0, 2.5, 1.0], dtype=torch.float64))
        >>> Volume(torch.zeros(4, 4, 2), affine).spacing
        (1.0, 1.0, 2.5)
    """

    data: Shaped[Tensor, "*channel depth height width"]
    affine: Float64[Tensor, "4 4"]

    def __post_init__(self) -> None:
        check_tensors(data=self.data)
        if self.data.ndim not in (3, 4):
            raise ValueError(
                "data must have shape (D, H, W), or (C, D, H, W) with channels, "
                f"got {tuple(self.data.shape)}"
            )
        check_affine(self.affine)

    @property
    def grid(self) -> tuple[int, ...]:
        """Voxels along each of the three axes, without channels."""
        return tuple(self.data.shape[-3:])

    @property
    def spacing(self) -> tuple[float, ...]:
        """Edge lengths of a voxel in mm, one for each axis."""
        return affine_spacing(self.affine)

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³: less than the product of its edges if the axes are sheared."""
        return voxel_volume(self.affine)

    @property
    def lesion_spacing(self) -> tuple[float, ...]:
        """The spacing for `lesions_from_mask`: its product is the volume of a voxel.

        It is the spacing of the voxel. With sheared axes all edges are scaled by one factor, so
        that the product is the volume and the nearest lesion stays the nearest.
        """
        return lesion_spacing(self.affine)


def lesion_spacing(affine: Shaped[Tensor, "4 4"]) -> tuple[float, ...]:
    """The edges of a voxel in mm, scaled by one factor where sheared axes make its volume less.

    Args:
        affine: Voxel indices to mm, shape (4, 4).

    Returns:
        Three edges whose product is the volume of a voxel.

    Examples:
        >>> lesion_spacing(torch.diag(torch.tensor([-1.0, 1.0, 2.5, 1.0])))
        (1.0, 1.0, 2.5)
    """
    return edges_of_volume(affine_spacing(affine), voxel_volume(affine))


def boxes_to_world(
    boxes: Boxes, affine: Shaped[Tensor, "4 4"], *, validate: bool | None = None
) -> Float64[Tensor, "boxes 8 3"]:
    """All eight corners of each box: with a rotation, two do not define it.

    Args:
        boxes: Boxes in voxel coordinates, shape (N, 6).
        affine: Voxel indices to RAS mm, shape (4, 4).
        validate: Check the coordinates too; by default on for CPU tensors.

    Returns:
        Corners in RAS mm, float64, shape (N, 8, 3). The corners are in binary order: the last
        axis changes fastest, minima before maxima.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If a shape is wrong, a box is inverted or the affine is not invertible.

    Examples:
        >>> corners = boxes_to_world(torch.tensor([[0.0, 0, 0, 1, 1, 1]]), torch.eye(4))
        >>> corners[0, 0].tolist(), corners[0, 7].tolist()
        ([-0.5, -0.5, -0.5], [0.5, 0.5, 0.5])
    """
    check_boxes(boxes=boxes, ndim=3, validate=validate)
    matrix = check_affine(affine)
    bounds = plain(boxes).detach().to("cpu", torch.float64).reshape(-1, 2, 3)
    which = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    corners = bounds[:, which, torch.arange(3)]
    return (corners - 0.5) @ matrix[:3, :3].T + matrix[:3, 3]


def corner_displacement(
    shape: Sequence[int], affine_a: Shaped[Tensor, "4 4"], affine_b: Shaped[Tensor, "4 4"]
) -> float:
    """Largest displacement of an image corner along an axis between two grids of one shape.

    Args:
        shape: Voxels along each of the three axes.
        affine_a: Voxel indices to RAS mm of the first grid, shape (4, 4).
        affine_b: The same for the second grid, whose voxels are the unit.

    Returns:
        Displacement in voxels of the second grid, 0 for equal grids.

    Raises:
        TypeError: If an affine is not a tensor.
        ValueError: If the shape has not three positive entries or an affine is not invertible.

    Examples:
        >>> shifted = torch.eye(4)
        >>> shifted[0, 3] = 0.4
        >>> round(corner_displacement((10, 10, 10), shifted, torch.eye(4)), 6)
        0.4
    """
    if len(shape) != 3 or any(length < 1 for length in shape):
        raise ValueError(f"shape must hold three positive lengths, got {tuple(shape)}")
    first = check_affine(affine_a, name="affine_a")
    second = check_affine(affine_b, name="affine_b")
    image = torch.tensor([[0.0, 0.0, 0.0, *map(float, shape)]], dtype=torch.float64)
    there = boxes_to_world(image, first)[0] - second[:3, 3]
    in_second = torch.linalg.solve(second[:3, :3], there.T).T
    in_first = boxes_to_world(image, torch.eye(4))[0]
    return float((in_second - in_first).abs().max())


def check_one_channel(image: Volume, *, name: str = "image") -> None:
    """The volume is (D, H, W), not a stack of channels.

    Args:
        image: The scan.
        name: Its name for messages, usually its file.

    Raises:
        ValueError: If it has a channel axis.

    Examples:
        >>> check_one_channel(Volume(torch.zeros(4, 4, 4), torch.eye(4, dtype=torch.float64)))
    """
    if image.data.ndim != 3:
        raise ValueError(
            f"{name} must hold one 3D volume, shape (D, H, W), got shape {tuple(image.data.shape)}:"
            " store one channel as a file"
        )


def check_same_grid(
    image: Volume, mask: Volume, *, names: tuple[str, str] = ("image", "mask")
) -> float:
    """Check that two volumes are on one grid, as exactly as training and viewing need it.

    Corners up to 0.01 voxels apart count as the same. Up to 0.6 voxels there is a warning with the
    figure (real scans and their masks are often that far apart), and more is an error. Voxels are
    compared by index: if axes may be flipped or swapped, first call `reorient_to` on the mask.

    Args:
        image: The scan.
        mask: The volume to compare; its voxels are the unit.
        names: Names of the two for messages, usually their files.

    Returns:
        Largest displacement of an image corner along an axis, in voxels of the mask.

    Raises:
        ValueError: If the shapes differ or the corners are more than 0.6 voxels apart.

    Examples:
        >>> scan = Volume(torch.zeros(4, 4, 4), torch.eye(4, dtype=torch.float64))
        >>> check_same_grid(scan, scan)
        0.0
    """
    return warned(noted_same_grid(image, mask, names=names))


def noted_same_grid(
    image: Volume, mask: Volume, *, names: tuple[str, str] = ("image", "mask")
) -> Noted[float]:
    """`check_same_grid` that returns its warning as a note."""
    shape = image.grid
    if shape != mask.grid:
        raise ValueError(f"{names[1]} must have the shape of {names[0]}, {shape}, got {mask.grid}")
    displacement = corner_displacement(shape, image.affine, mask.affine)
    apart = f"their corners are up to {displacement:.3g} voxels apart"
    if displacement > NEAR_GRID:
        raise ValueError(
            f"{names[1]} must lie on the grid of {names[0]} within {NEAR_GRID} voxels, but {apart}"
        )
    if displacement <= SAME_GRID:
        return displacement, ()
    return displacement, (f"{names[1]} is not on the grid of {names[0]}: {apart}",)
