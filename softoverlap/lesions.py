"""The record of one lesion: what detection, anchors and metrics pass to each other."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class Lesion:
    """One lesion: a soft crop of the image grid, and where it lies.

    Args:
        box: Tight box around the voxels at or above the threshold, shape (2 * ndim,), in voxel
            coordinates of the whole image (voxel `i` fills `[i, i + 1)`).
        crop: Probabilities around the lesion, shape (*crop).
        offset: Index of the crop's first voxel in the image, integers, shape (ndim,).
        centre: Centre of mass in voxel coordinates (a single voxel `i` has centre `i + 0.5`),
            shape (ndim,).
        volume_mm3: Σ probability times the voxel's volume, in mm³.
        existence: Share of raters that marked the lesion, in [0, 1].
        label: Class of the lesion, 0 for the first class.

    Raises:
        ValueError: If the ranks of box, crop, offset and centre disagree.

    Examples:
        >>> import torch
        >>> lesion = Lesion(
        ...     box=torch.tensor([4.0, 6.0]), crop=torch.tensor([0.5, 1.0]),
        ...     offset=torch.tensor([4]), centre=torch.tensor([5.17]), volume_mm3=1.5,
        ... )
        >>> lesion.existence
        1.0
    """

    box: Shaped[Tensor, "coords"]
    crop: Shaped[Tensor, "*crop"]
    offset: Shaped[Tensor, "ndim"]
    centre: Shaped[Tensor, "ndim"]
    volume_mm3: float
    existence: float = 1.0
    label: int = 0

    def __post_init__(self) -> None:
        ndim = self.crop.ndim
        for name, length in (("box", 2 * ndim), ("offset", ndim), ("centre", ndim)):
            shape = tuple(getattr(self, name).shape)
            if shape != (length,):
                raise ValueError(
                    f"{name} must have shape ({length},) for a crop of {ndim} axes, got {shape}"
                )
