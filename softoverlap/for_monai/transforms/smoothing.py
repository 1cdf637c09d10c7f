"""Smoothing before voxels become larger."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap._types import plain
from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.items import Item, channels_of, named

_SAME = 1.01
"""Voxels that become larger by no more than this factor stay as they are."""


class SmoothForSpacingd(MapTransform):
    """Smooths images and soft masks along axes whose voxels `Spacingd` will make larger.

    Linear interpolation reads the two nearest voxels along an axis only, so that a lesion between
    those which are read would vanish. A Gaussian whose standard deviation is half of what a voxel
    grows by spreads it over them, as the planner does with lesions. Instance maps stay as they are.

    Args:
        keys: Images and soft masks, shape (C, *spatial).
        pixdim: Edges of a voxel in mm that `Spacingd` is going to make, one an axis.

    Raises:
        ValueError: If an edge is not above 0; when called, if a key is missing, or an image has
            another number of axes.

    Examples:
        >>> mask = MetaTensor(torch.zeros(1, 8, 8, 8))
        >>> mask[0, 4, 4, 4] = 1.0
        >>> smooth = SmoothForSpacingd("mask", (1.0, 1.0, 3.0))({"mask": mask})["mask"]
        >>> [round(float(value), 2) for value in smooth[0, 4, 4, 2:7]]
        [0.05, 0.24, 0.4, 0.24, 0.05]
    """

    def __init__(self, keys: KeysCollection, pixdim: Sequence[float | int]) -> None:
        super().__init__(keys)
        if not all(0 < edge < float("inf") for edge in pixdim):
            raise refusal("pixdim", f"must be above 0 and finite, got {tuple(pixdim)}")
        self.pixdim = tuple(float(edge) for edge in pixdim)

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """The item with smooth images and masks, on the same grid."""
        return {**data, **{key: self._smooth(key, channels_of(data, key)) for key in self.keys}}

    def _smooth(self, key: Hashable, value: Tensor) -> Tensor:
        ndim = value.ndim - 1
        if len(self.pixdim) != ndim:
            raise ValueError(f"{named(key)} must have {len(self.pixdim)} axes, got {ndim}")
        edges = Grid.of(value, ndim, named(key)).edges
        grown = [new / float(old) for new, old in zip(self.pixdim, edges, strict=True)]
        sigma = [(factor - 1) / 2 if factor > _SAME else 0.0 for factor in grown]
        if not any(sigma):
            return value
        array = plain(value).detach().cpu().float().numpy()
        smooth = torch.from_numpy(ndimage.gaussian_filter(array, [0.0, *sigma], mode="nearest"))
        smooth = smooth.to(value.device)
        return MetaTensor(smooth).copy_meta_from(value) if isinstance(value, MetaTensor) else smooth
