"""Where each lesion is judged by a loss: found once, before augmentation."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from monai.transforms import InvertibleTransform, MapTransform

from softoverlap._checks import check_threshold, check_weight
from softoverlap._types import plain
from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.items import Item, like, named, probabilities_of, without
from softoverlap.lesion_losses import lesion_regions


class LesionRegionsd(MapTransform, InvertibleTransform):
    """Find the regions of lesions once: a map for `LesionwiseSoftLoss`.

    Nothing is drawn by chance, so `CacheDataset` keeps the map. Spatial transforms and crops may
    then run on it in the mode `"nearest"`, beside image and mask. A patch has some of the numbers,
    and the loss takes as a lesion what the patch leaves of it. The inverse takes the map out again.

    Args:
        mask_key: Where the soft masks are, shape (C, *spatial), a channel a class that counts in
            the loss.
        regions_key: Where the map goes, shape (C, *spatial), int32; see `lesion_regions`.
        reach: How far from a lesion its region goes, at least 0, in mm; with 0 it has the lesion's
            own voxels alone, as `OthersMasked` wants them.
        threshold: Lowest probability inside a lesion, in (0, 1].

    Raises:
        ValueError: If a setting is out of range; when called, if the key is missing, a shape is
            wrong or the mask holds anything but probabilities; the message names the key.

    Examples:
        >>> mask = torch.zeros(1, 4, 8)
        >>> mask[0, 1, 1], mask[0, 1, 6] = 1.0, 1.0
        >>> LesionRegionsd(reach=2)({"mask": mask})["regions"][0, 1].tolist()
        [1, 1, 1, 1, 2, 2, 2, 2]
    """

    def __init__(
        self,
        mask_key: Hashable = "mask",
        regions_key: Hashable = "regions",
        reach: float | int = 8.0,
        threshold: float | int = 0.5,
    ) -> None:
        super().__init__(mask_key)
        check_weight(reach=reach)
        check_threshold(threshold=threshold)
        self.regions_key = regions_key
        self.reach, self.threshold = float(reach), float(threshold)

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """The item with the map of regions."""
        mask = probabilities_of(data, self.keys[0], maker="FuseRatersd", one=False)
        edges = Grid.of(mask, mask.ndim - 1, named(self.keys[0])).edges.tolist()
        found = [
            lesion_regions(channel, reach=self.reach, spacing=edges, threshold=self.threshold)
            for channel in plain(mask)
        ]
        return {**data, self.regions_key: like(mask, torch.stack(found))}

    def inverse(self, data: Item) -> dict[Hashable, Any]:
        """The item without the map of regions."""
        return without(data, self.regions_key)
