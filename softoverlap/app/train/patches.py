"""Patches to train on: lesion-centred or anywhere, flipped, and the same for the same step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from softoverlap.app.train.config import TrainingConfig
from softoverlap.for_monai import lesion_target
from softoverlap.lesion import Lesion, crop_lesion

_MAX_SEED = 2**63 - 1


class PatchSampler:
    """Batches of patches with their targets; a batch depends on seed and step alone.

    So a resumed run sees the patches that the uninterrupted one would have seen.

    Args:
        images: Normalised images, shape (D, H, W) each.
        lesions: Lesions of each image.
        config: Settings of the run.

    Raises:
        ValueError: If there is no image.

    Examples:
        >>> config = TrainingConfig(patch_size=16, batch_size=3)
        >>> sampler = PatchSampler([torch.zeros(20, 20, 8)], [[]], config)
        >>> images, targets = sampler.batch(0)
        >>> images.shape, len(targets)
        (torch.Size([3, 1, 16, 16, 16]), 3)
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        lesions: Sequence[Sequence[Lesion]],
        config: TrainingConfig,
    ) -> None:
        if not images:
            raise ValueError("scans must hold at least one scan to train on, got none")
        self.images = list(images)
        self.lesions = [list(of_image) for of_image in lesions]
        self.config = config
        self.places = [(i, k) for i, found in enumerate(self.lesions) for k in range(len(found))]

    def batch(self, step: int) -> tuple[Float[Tensor, "batch 1 d h w"], list[dict[str, Any]]]:
        """Images and targets of a step.

        Args:
            step: Number of the step, from 0.

        Returns:
            Patches, shape (B, 1, *patch), and a target for each.
        """
        seed = (self.config.seed * 1_000_003 + step) % _MAX_SEED
        generator = torch.Generator().manual_seed(seed)
        patches = [self._patch(generator) for _ in range(self.config.batch_size)]
        images = torch.stack([image for image, _ in patches])[:, None]
        return images, [lesion_target(lesions) for _, lesions in patches]

    def _patch(self, generator: torch.Generator) -> tuple[Tensor, list[Lesion]]:
        number, start = self._place(generator)
        size = self.config.patch
        image = window(self.images[number], start, size)
        amodal = self.config.amodal
        cropped = [
            crop_lesion(lesion, start, size, keep_box=amodal) for lesion in self.lesions[number]
        ]
        lesions = [lesion for lesion in cropped if lesion is not None]
        if self.config.flips:
            axes = (torch.rand(3, generator=generator) < 0.5).nonzero()[:, 0].tolist()
            image = image.flip(axes)
            lesions = [flip_lesion(lesion, axes, size) for lesion in lesions]
        gain, offset = (self.config.brightness * torch.randn(2, generator=generator)).tolist()
        return image * (1 + gain) + offset, lesions

    def _place(self, generator: torch.Generator) -> tuple[int, list[int]]:
        """An image and the first voxel of a patch: near a lesion, or anywhere."""
        size = self.config.patch
        near = torch.rand(1, generator=generator).item() < self.config.foreground
        if near and self.places:
            pick = int(torch.randint(len(self.places), (1,), generator=generator))
            number, lesion = self.places[pick]
            shift = (torch.rand(3, generator=generator) - 0.5) * torch.tensor(size) / 2
            centre = self.lesions[number][lesion].centre + shift
            wanted = (centre - torch.tensor(size) / 2).round()
        else:
            number = int(torch.randint(len(self.images), (1,), generator=generator))
            free = torch.tensor(self.images[number].shape) - torch.tensor(size)
            wanted = (torch.rand(3, generator=generator) * (free + 1).clamp(min=1)).floor()
        shape = self.images[number].shape
        return number, [
            _inside(int(first), voxels, side)
            for first, voxels, side in zip(wanted.tolist(), shape, size, strict=True)
        ]


def _inside(first: int, voxels: int, side: int) -> int:
    """The nearest start of a patch inside the image; a small image lies in the patch's middle."""
    if voxels < side:
        return -((side - voxels) // 2)
    return min(max(first, 0), voxels - side)


def window(
    image: Float[Tensor, "d h w"], start: Sequence[int], size: Sequence[int]
) -> Float[Tensor, "pd ph pw"]:
    """A patch of the image, zero (the mean) where it reaches beyond."""
    inside, margins = [], []
    for first, side, voxels in zip(start, size, image.shape, strict=True):
        inside.append(slice(max(first, 0), min(first + side, voxels)))
        margins.append((max(-first, 0), max(first + side - voxels, 0)))
    padding = [margin for pair in reversed(margins) for margin in pair]
    return F.pad(image[tuple(inside)], padding)


def flip_lesion(lesion: Lesion, axes: Sequence[int], size: Sequence[int]) -> Lesion:
    """The lesion in an image of `size` voxels that is flipped along `axes`."""
    if not axes:
        return lesion
    ndim = lesion.crop.ndim
    box, offset, centre = lesion.box.clone(), lesion.offset.clone(), lesion.centre.clone()
    for axis in axes:
        box[axis] = size[axis] - lesion.box[axis + ndim]
        box[axis + ndim] = size[axis] - lesion.box[axis]
        offset[axis] = size[axis] - lesion.offset[axis] - lesion.crop.shape[axis]
        centre[axis] = size[axis] - lesion.centre[axis]
    crop = lesion.crop.flip(tuple(axes))
    return replace(lesion, box=box, crop=crop, offset=offset, centre=centre)
