"""Where the voxels of a MONAI tensor lie in the world."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from softoverlap._units import edges_of_volume


@dataclass(frozen=True)
class Grid:
    """The affine of an image of two or three axes, for points in voxel coordinates.

    MONAI's affine maps indices of voxel centres to the world in mm; that of a 2D image may have
    three world axes. Voxel `i` fills `[i, i + 1)`, so its centre has the coordinate `i + 0.5`.

    Args:
        axes: A step along each voxel axis in mm, shape (world, ndim).
        origin: Where the centre of the first voxel lies, in mm, shape (world,).
    """

    axes: np.ndarray
    origin: np.ndarray

    @classmethod
    def of(cls, tensor: Tensor, ndim: int, name: str) -> Grid:
        """The grid of a channel-first tensor; without metadata a voxel is 1 mm.

        Raises:
            ValueError: If the affine has too few axes or does not tell them apart.
        """
        affine = tensor.affine if isinstance(tensor, MetaTensor) else torch.eye(ndim + 1)
        matrix = affine.detach().cpu().double().numpy()
        if matrix.ndim != 2 or len(matrix) <= ndim or not np.isfinite(matrix).all():
            raise ValueError(
                f"{name} must have a finite affine of {ndim} axes or more, got {matrix.tolist()}"
            )
        grid = cls(matrix[:-1, :ndim], matrix[:-1, -1])
        if not grid.voxel_mm > 1e-6 * float(np.prod(grid.edges)):
            raise ValueError(f"{name} must have an invertible affine, got {matrix.tolist()}")
        return grid

    @cached_property
    def edges(self) -> np.ndarray:
        """Edges of a voxel in mm, shape (ndim,)."""
        return np.linalg.norm(self.axes, axis=0)

    @cached_property
    def voxel_mm(self) -> float:
        """Volume of a voxel in mm³; its area in mm² in 2D."""
        if self.axes.shape[0] == self.axes.shape[1]:
            return abs(float(np.linalg.det(self.axes)))
        return math.sqrt(max(float(np.linalg.det(self.axes.T @ self.axes)), 0.0))

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """The edges, scaled by one factor where sheared axes make a voxel's volume less."""
        return edges_of_volume(self.edges.tolist(), self.voxel_mm)

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Voxel coordinates (N, ndim) to mm (N, world)."""
        return (points - 0.5) @ self.axes.T + self.origin

    def to_voxels(self, points: np.ndarray) -> np.ndarray:
        """Millimetres (N, world) to voxel coordinates (N, ndim).

        Of a 2D image MONAI's lazy resampling keeps two world axes, of three that there were.
        """
        return (points[:, : len(self.origin)] - self.origin) @ self.steps.T + 0.5

    @cached_property
    def steps(self) -> np.ndarray:
        """Steps in voxels along each world axis, shape (ndim, world)."""
        return np.linalg.pinv(self.axes)
