"""The heat map of a centre head: the soft masks of lesions under a Gaussian, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap._types import plain
from softoverlap.anchors import AnchorWeights
from softoverlap.for_monai.detector.learning import Target
from softoverlap.for_monai.detector.samples import Assignment
from softoverlap.lesion import Lesion

_BLUR = 1 / 6  # of the edges of a lesion's box, and at least one voxel
_ALIKE = 1e-6  # cells whose heat differs by rounding alone, as of a symmetric lesion
_NEAR = 0.5  # of the highest blurred mask: from here on boxes learn


@dataclass(frozen=True)
class HeatMap:
    """What the N cells of an image learn from its lesions.

    Args:
        heat: The highest blurred mask of a lesion of each class, in [0, 1], shape (N, classes).
        highest: The highest of all, shape (N,).
        lesion: Whose it is, -1 where there is none, shape (N,).
    """

    heat: Float[Tensor, "cells classes"]
    highest: Float[Tensor, "cells"]
    lesion: Int[Tensor, "cells"]

    def boxes_to_learn(self, labels: Int[Tensor, "lesions"], target: Target) -> Assignment:
        """Boxes learn near the peaks, and the more the nearer."""
        index = self.lesion.masked_fill(self.highest < _NEAR, -1)
        weights = AnchorWeights(self.highest, self.highest, self.highest)
        return Assignment(index, weights, labels, target.get("lesions"), target.get("visible"))


def heat_map(
    lesions: Sequence[Lesion],
    labels: Sequence[int],
    axes: Sequence[Float[Tensor, "_"]],
    num_classes: int,
) -> HeatMap:
    """The heat of the lesions at the cells of a grid.

    Args:
        lesions: The lesions of an image.
        labels: Their classes.
        axes: Centres of the cells along each axis, in voxels.
        num_classes: Number of classes.

    Examples:
        >>> lesion = Lesion.from_box(torch.tensor([2.0, 2.0, 4.0, 4.0]), spacing=[1.0, 1.0])
        >>> made = heat_map([lesion], [0], [torch.tensor([1.0, 3.0])] * 2, 1)
        >>> made.lesion, made.heat[-1]
        (tensor([0, 0, 0, 0]), tensor([1.]))
    """
    cells, device = [len(places) for places in axes], axes[0].device
    heat = torch.zeros(num_classes, *cells, device=device)
    highest, index = heat[0].clone(), torch.full(cells, -1, device=device)
    for number, (lesion, label) in enumerate(zip(lesions, labels, strict=True)):
        own = blurred(lesion, axes)
        heat[label] = heat[label].maximum(own)
        index = torch.where(own > highest, number, index)
        highest = highest.maximum(own)
    return HeatMap(heat.flatten(1).t(), highest.flatten(), index.flatten())


def blurred(lesion: Lesion, axes: Sequence[Float[Tensor, "_"]]) -> Float[Tensor, "*cells"]:
    """The lesion's soft mask under a Gaussian, at the cells of a grid, 1 at the highest.

    Of a lesion that a patch cuts it is the part that shows.
    """
    device = axes[0].device
    heat = plain(lesion.crop).to(device, torch.float32)
    low, high = plain(lesion.box).to(device, torch.float64).chunk(2)
    spread, offset = (_BLUR * (high - low)).clamp(min=1), plain(lesion.offset).to(device)
    for axis, places in enumerate(axes):
        voxels = offset[axis] + torch.arange(lesion.crop.shape[axis], device=device) + 0.5
        squares = ((places[:, None] - voxels) / spread[axis]) ** 2
        kernel = torch.exp((squares.min() - squares) / 2)  # 1 somewhere, however coarse the grid
        heat = torch.einsum("v...,cv->...c", heat, kernel)  # the next axis comes first
    top = heat.max()
    heat = heat / torch.where(top > 0, top, 1)
    return heat.masked_fill(heat > 1 - _ALIKE, 1)


def grid_axes(
    cells: Float[Tensor, "cells coords"], grid: Sequence[int]
) -> list[Float[Tensor, "_"]]:
    """Centres of the cells along each axis of their grid, whose cells come in C order."""
    low, high = cells.chunk(2, dim=1)
    centres = ((low + high) / 2).view(*grid, len(grid))
    return [centres[..., axis].movedim(axis, 0).flatten(1)[:, 0] for axis in range(len(grid))]


def is_peak(
    logits: Float[Tensor, "batch cells classes"], grid: Sequence[int]
) -> Bool[Tensor, "batch cells classes"]:
    """Whether no neighbour of the cell, diagonal ones too, has more of the class."""
    pool = {2: F.max_pool2d, 3: F.max_pool3d}[len(grid)]
    heat = logits.movedim(2, 1).unflatten(2, tuple(grid))
    return (heat == pool(heat, 3, stride=1, padding=1)).flatten(2).movedim(1, 2)
