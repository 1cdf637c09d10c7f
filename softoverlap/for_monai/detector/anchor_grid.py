"""Exact anchors on the grids of a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from torch import Tensor

from softoverlap.anchors import level_anchors


class ExactAnchorGenerator(AnchorGeneratorWithAnchorShape):
    """MONAI's anchor generator without its roundings.

    MONAI rounds half of every edge (an anchor of 5 becomes one of 4, one of 1 vanishes), puts the
    anchors of an odd stride half a voxel off the cell's centre, and computes them in the dtype of
    the features. Here edges are as given, centres are the centres of the cells, and anchors are
    float32 whatever the features are.

    Args:
        feature_map_scales: Factor on the shapes for each level, finest level first.
        base_anchor_shapes: Edges in voxels of each anchor at a place, shape (anchors, ndim).
        indexing: Only `"ij"`, the tensor's axis order.
        level_shapes: In place of both, edges of the anchors of each level, finest level first; as
            many on a level as it takes (`AnchorPlan.sizes`).

    Raises:
        ValueError: If a scale or an edge is not positive, or `indexing` is not `"ij"`.

    Examples:
        >>> import torch
        >>> generator = ExactAnchorGenerator((1.0,), ((5.0, 5.0),))
        >>> generator(torch.zeros(1, 1, 8, 4), [torch.zeros(1, 8, 2, 1)])[0]
        tensor([[-0.5000, -0.5000,  4.5000,  4.5000],
                [ 3.5000, -0.5000,  8.5000,  4.5000]])
    """

    def __init__(
        self,
        feature_map_scales: Sequence[float] = (1.0, 2.0, 4.0, 8.0),
        base_anchor_shapes: Sequence[Sequence[float]] = ((8.0, 8.0, 8.0),),
        indexing: str = "ij",
        *,
        level_shapes: Sequence[Sequence[Sequence[float]]] | None = None,
    ) -> None:
        if level_shapes is not None:
            feature_map_scales = (1.0,)
            base_anchor_shapes = [shape for level in level_shapes for shape in level]
        if indexing != "ij":
            raise ValueError(f"indexing must be 'ij', got {indexing!r}")
        if min(min(shape) for shape in base_anchor_shapes) <= 0 or min(feature_map_scales) <= 0:
            raise ValueError(
                f"feature_map_scales and base_anchor_shapes must be positive, "
                f"got {list(feature_map_scales)} and {[list(s) for s in base_anchor_shapes]}"
            )
        super().__init__(feature_map_scales, base_anchor_shapes, indexing)
        if level_shapes is not None:
            counts = [len(level) for level in level_shapes]
            self.cell_anchors = list(self.cell_anchors[0].split(counts))

    @staticmethod
    def generate_anchors_using_shape(
        anchor_shapes: Float[Tensor, "anchors ndim"],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Float[Tensor, "anchors coords"]:
        """Boxes of these edges around the origin.

        Args:
            anchor_shapes: Edges in voxels, shape (anchors, ndim).
            dtype: Type of the boxes.
            device: Where the boxes shall lie.

        Returns:
            Boxes in voxels, shape (anchors, 2 * ndim).

        Examples:
            >>> import torch
            >>> ExactAnchorGenerator.generate_anchors_using_shape(torch.tensor([[1.0, 5.0]]))
            tensor([[-0.5000, -2.5000,  0.5000,  2.5000]])
        """
        half = anchor_shapes / 2
        return torch.cat([-half, half], dim=1).to(dtype=dtype, device=device)

    @torch.jit.unused  # by a scripted network, which carries it along
    def forward(
        self,
        images: Shaped[Tensor, "batch channels *spatial"],
        feature_maps: list[Tensor],
    ) -> list[Tensor]:
        """Anchors of every image; the images of a batch share one tensor.

        Args:
            images: Images, shape (B, C, *spatial).
            feature_maps: A map for each level, shape (B, C_i, *spatial_i).

        Returns:
            B times the anchors in voxels, float32, shape (N, 2 * ndim): level by level, place by
            place in C order, shape by shape.

        Raises:
            ValueError: If the number of levels is wrong, or an image's size is no multiple of a
                feature map's.

        Examples:
            >>> import torch
            >>> generator = ExactAnchorGenerator((1.0, 2.0), ((3.0, 3.0),))
            >>> maps = [torch.zeros(2, 8, 4, 4), torch.zeros(2, 8, 2, 2)]
            >>> [len(anchors) for anchors in generator(torch.zeros(2, 1, 8, 8), maps)]
            [20, 20]
        """
        if len(feature_maps) != len(self.cell_anchors):
            raise ValueError(
                f"feature_maps must hold {len(self.cell_anchors)} levels, got {len(feature_maps)}"
            )
        size = tuple(images.shape[2:])
        levels = [
            _level(cell.to(feature_maps[0].device, torch.float32), size, tuple(grid.shape[2:]))
            for cell, grid in zip(self.cell_anchors, feature_maps, strict=True)
        ]
        return [torch.cat(levels)] * images.shape[0]


def _level(
    cell: Float[Tensor, "anchors coords"], size: tuple[int, ...], grid: tuple[int, ...]
) -> Float[Tensor, "all coords"]:
    if any(voxels % places for voxels, places in zip(size, grid, strict=True)):
        raise ValueError(
            f"images must have sizes that are multiples of the grid {grid}, got {size}"
        )
    stride = [voxels // places for voxels, places in zip(size, grid, strict=True)]
    return level_anchors(cell[:, len(size) :] * 2, stride, grid)
