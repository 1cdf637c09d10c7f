"""Where to sample patches, so that every lesion is as likely to be seen."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import ensure_tuple_rep, fall_back_tuple
from scipy import ndimage

from softoverlap._checks import check_within, refusal
from softoverlap._types import plain
from softoverlap.for_monai.transforms.items import Item, channels_of, like, without
from softoverlap.for_monai.transforms.layers import UNLABELLED


class LesionWeightMapd(MapTransform, InvertibleTransform):
    """A map for `RandWeightedCropd`: each lesion has the same weight, however small.

    The weight of a lesion is spread over its box, grown by `shift` voxels. The map may have been
    resampled before, as by `Spacingd`. A patch near the image's border cannot be centred there:
    with `spatial_size` the weight lies where a centre may be, and a lesion in a corner is as likely
    to be seen as any other. (MONAI's crop leaves out the last voxel of an axis; pad by one if a
    lesion may lie there alone.)

    Args:
        instances_key: Where the instance map of `LesionInstancesd` is.
        output_key: Where the map goes, float32, shape (1, *spatial).
        background: Probability of a patch from anywhere, in [0, 1]; without lesions it is 1.
        spatial_size: The patch size of `RandWeightedCropd`, one number or one an axis, or None.
        shift: How far a patch's centre may lie from a lesion's box, in voxels, one number or one
            an axis; less than half a patch, so that the lesion is in it. With a quarter of the
            patch, all of a lesion up to that size is.

    Raises:
        ValueError: If `background` lies outside [0, 1]; when called, if the map is missing or has
            a wrong shape, or `shift` is too large for the patch.

    Examples:
        >>> import torch
        >>> from softoverlap.for_monai import LesionInstancesd
        >>> mask = torch.zeros(1, 8, 8)
        >>> mask[0, 1, 1], mask[0, 4:, 4:6] = 1.0, 1.0
        >>> item = LesionWeightMapd()(LesionInstancesd()({"mask": mask}))
        >>> item["weight"][0, 1, 1].item(), item["weight"][0, 4:, 4:6].sum().item()
        (1.0, 1.0)
    """

    def __init__(
        self,
        instances_key: Hashable = "instances",
        output_key: Hashable = "weight",
        background: float | int = 0.0,
        spatial_size: Sequence[int] | int | None = None,
        shift: Sequence[int] | int = 0,
    ) -> None:
        super().__init__(instances_key)
        check_within(0, 1, background=background)
        self.output_key, self.background = output_key, float(background)
        self.spatial_size, self.shift = spatial_size, shift

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """The item with the weight map."""
        instances = channels_of(data, self.keys[0], maker="LesionInstancesd")
        numbers = np.asarray(plain(instances).detach().cpu().numpy()).astype(np.int32)
        shape = np.array(numbers.shape[1:])
        weight = np.zeros(numbers.shape[1:], dtype=np.float32)
        boxes = _boxes(numbers)
        for box in boxes:
            window = self._window(box, shape)
            weight[window] += 1 / weight[window].size
        self._add_background(weight, len(boxes))
        found = torch.from_numpy(weight)[None].to(instances.device)
        return {**data, self.output_key: like(instances, found)}

    def inverse(self, data: Item) -> dict[Hashable, Any]:
        """The item without the weight map."""
        return without(data, self.output_key)

    def _window(self, box: tuple[slice, ...], shape: np.ndarray) -> tuple[slice, ...]:
        """Where the centre of a patch may be that shows the lesion."""
        shift = self._checked_shift(shape)
        first, last = self._centres(shape)
        return tuple(
            slice(
                int(np.clip(edge.start - more, a, b)), int(np.clip(edge.stop - 1 + more, a, b)) + 1
            )
            for edge, more, a, b in zip(box, shift, first, last, strict=True)
        )

    def _checked_shift(self, shape: np.ndarray) -> tuple[int, ...]:
        """The shift along each axis; a lesion further from the centre would not be in the patch."""
        shift = ensure_tuple_rep(self.shift, len(shape))
        if self.spatial_size is not None:
            size = fall_back_tuple(self.spatial_size, shape)
            if any(2 * more >= max(side, 1) for more, side in zip(shift, size, strict=True)):
                sides = tuple(int(side) for side in size)
                raise refusal("shift", f"must be less than half of the patch {sides}, got {shift}")
        return shift

    def _centres(self, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last voxel at which `RandWeightedCropd` centres a patch."""
        if self.spatial_size is None:
            return np.zeros_like(shape), shape - 1
        size = np.minimum(np.array(fall_back_tuple(self.spatial_size, shape)), shape)
        first = size // 2
        return first, np.maximum(first, shape - size + size // 2 - 1)

    def _add_background(self, weight: np.ndarray, lesions: int) -> None:
        """Weight everywhere, so that so many patches come from anywhere."""
        if not lesions or self.background == 1:
            weight[...] = 1
            return
        first, last = self._centres(np.array(weight.shape))
        share = lesions * self.background / (1 - self.background)
        weight += share / float(np.prod(last - first + 1))


def _boxes(layers: np.ndarray) -> list[tuple[slice, ...]]:
    """Around each lesion; around its surroundings if resampling left no voxel of its own."""
    found = []
    for layer in layers:
        numbers = np.where(layer == UNLABELLED, 0, layer)
        own = ndimage.find_objects(numbers.clip(min=0), max_label=int(np.abs(numbers).max()))
        wide = ndimage.find_objects(np.abs(numbers))
        found += [a or b for a, b in zip(own, wide, strict=True) if a or b]
    return found
