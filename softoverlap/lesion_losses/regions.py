"""Where each lesion is judged: in a cell of its own, or in the whole image without the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Shaped
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import check_threshold, check_weight
from softoverlap._types import Masks
from softoverlap.lesions import distances, labelled_lesions


def lesion_regions(
    mask: Shaped[Tensor, "*spatial"],
    *,
    reach: float | int,
    spacing: Sequence[float | int] | None = None,
    threshold: float | int = 0.5,
) -> Int[Tensor, "*spatial"]:
    """Which lesion each voxel belongs to: the nearest one within reach, or none.

    A lesion is a 26-connected component of the voxels at or above the threshold, with its soft edge
    as `lesions_from_mask` has it; its region holds these voxels, and those within reach of them
    that are nearer to no other lesion. Of lesions equally near, the one with the lower number takes
    the voxel; equal distances that differ by rounding, as with edges of 0.977 mm, may go either
    way. All else is 0: the rest, one region of its own.

    Distances are computed in a window around each lesion, so small lesions in a large scan cost
    little. A reach of the image's diagonal gives whole Voronoi cells, at the price of a distance
    transform of the image for each lesion.

    Args:
        mask: Probabilities, shape (*spatial) of one, two or three axes.
        reach: How far from a lesion its region goes, at least 0, in mm, or in voxels without
            `spacing`; with 0 it has the lesion's own voxels alone.
        spacing: Edge lengths of a voxel in mm, one for each axis, or None.
        threshold: Lowest probability inside a lesion, in (0, 1].

    Returns:
        Number of the lesion of each voxel, from 1 in the order of their first voxel, or 0; int32,
        shape (*spatial).

    Raises:
        TypeError: If the mask is not a tensor of real numbers, or spacing one number.
        ValueError: If a shape, the spacing, the reach or the threshold is wrong, or a probability
            lies outside [0, 1].

    References:
        Jaus et al., Every component counts (CC-Metrics), https://arxiv.org/abs/2410.18684

    Examples:
        >>> mask = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0])
        >>> lesion_regions(mask, reach=2).tolist()
        [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0]
        >>> lesion_regions(mask, reach=2, spacing=[2.0]).tolist()
        [0, 0, 1, 1, 1, 0, 2, 2, 2, 2, 0, 0]
    """
    check_weight(reach=reach)
    edges = (1.0,) * mask.ndim if spacing is None else spacing
    _, maps = labelled_lesions(mask, spacing=edges, threshold=threshold)
    regions = maps.owned.astype(np.int32)
    if reach > 0 and maps.owned.any():
        _grow(regions, maps.owned, float(reach), tuple(map(float, edges)))
    return torch.from_numpy(regions).to(mask.device)


def _grow(regions: np.ndarray, owned: np.ndarray, reach: float, edges: tuple[float, ...]) -> None:
    """Give voxels within reach of a lesion to the nearest one; `regions` is written to."""
    nearest = np.full(owned.shape, np.inf, dtype=np.float32)
    margins = [int(reach / edge) + 1 for edge in edges]
    for number, own in enumerate(ndimage.find_objects(owned), start=1):
        window = tuple(
            slice(max(0, side.start - margin), side.stop + margin)
            for side, margin in zip(own, margins, strict=True)
        )
        away = distances(owned[window] == number, edges).astype(np.float32)
        nearer = (away <= reach) & (away < nearest[window])
        nearest[window][nearer] = away[nearer]
        regions[window][nearer] = number


def regions_of_masks(
    masks: Masks, reach: float | int, threshold: float | int, spacing: Sequence[float | int] | None
) -> Int[Tensor, "batch channel *spatial"]:
    """The regions of each channel of each item."""
    found = [
        lesion_regions(mask, reach=reach, spacing=spacing, threshold=threshold)
        for mask in masks.detach().flatten(0, 1)
    ]
    return torch.stack(found).view(masks.shape) if found else masks.to(torch.int32)


@dataclass(frozen=True)
class LesionCells:
    """Each lesion is judged in its cell: what is nearest to it, within reach.

    Args:
        reach: How far a cell goes beyond its lesion, at least 0, in mm, or in voxels without
            `spacing`.
        spacing: Edge lengths of a voxel in mm, one for each axis, or None.
        threshold: Lowest probability inside a lesion, in (0, 1].

    Raises:
        ValueError: If the reach or the threshold is out of range.

    Examples:
        >>> LesionCells(reach=2).regions(torch.tensor([[[0.0, 1, 0, 0, 0, 0, 1]]])).tolist()
        [[[1, 1, 1, 1, 2, 2, 2]]]
    """

    reach: float | int = 8
    spacing: Sequence[float | int] | None = None
    threshold: float | int = 0.5

    def __post_init__(self) -> None:
        check_weight(reach=self.reach)
        check_threshold(threshold=self.threshold)

    def regions(self, masks: Masks) -> Int[Tensor, "batch channel *spatial"]:
        """The cells of masks (B, C, *spatial)."""
        return regions_of_masks(masks, self.reach, self.threshold, self.spacing)

    def seen(self, own: Tensor, rest: Tensor) -> Tensor:
        """Sums over what a lesion is judged by, from those over its region and over the rest."""
        return own


@dataclass(frozen=True)
class OthersMasked:
    """Each lesion is judged in the whole image, of which the other lesions are masked out.

    Args:
        threshold: Lowest probability inside a lesion, in (0, 1].

    Raises:
        ValueError: If the threshold is out of range.

    Examples:
        >>> OthersMasked().regions(torch.tensor([[[0.0, 1, 0, 0, 0, 0, 1]]])).tolist()
        [[[0, 1, 0, 0, 0, 0, 2]]]
    """

    threshold: float | int = 0.5

    def __post_init__(self) -> None:
        check_threshold(threshold=self.threshold)

    def regions(self, masks: Masks) -> Int[Tensor, "batch channel *spatial"]:
        """The lesions of masks (B, C, *spatial), without a margin."""
        return regions_of_masks(masks, 0, self.threshold, None)

    def seen(self, own: Tensor, rest: Tensor) -> Tensor:
        """Sums over what a lesion is judged by, from those over its region and over the rest."""
        return own + rest
