"""Items with soft lesions for transforms, and what a chain of transforms makes of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose

from softoverlap.for_monai import LesionInstancesd, LesionsFromInstancesd

KEYS = ("image", "mask", "instances")
MODES = ("bilinear", "bilinear", "nearest")
LAZY_MODES = {
    "mask": {"mode": "bilinear", "padding_mode": "zeros"},
    "instances": {"mode": "nearest", "padding_mode": "zeros"},
}
"""MONAI's lazy resampling takes modes from here, not from the transforms."""


@lru_cache
def blobs(shape, *, seed=0, count=6, apart=4, smallest=0.4, largest=4.0):
    """A soft mask of ellipsoids with soft edges, `apart` voxels apart, one of a single voxel."""
    rng = np.random.RandomState(seed)
    ndim = len(shape)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) + 0.5
    mask = np.zeros(shape)
    single = tuple(rng.randint(3, side - 3) for side in shape)
    mask[single] = 1.0
    for _ in range(50 * count):
        centre = rng.uniform(3, np.array(shape) - 3, ndim)
        radii = rng.uniform(smallest, largest, ndim)
        distance = np.sqrt((((places - centre) / radii) ** 2).sum(-1))
        blob = np.clip((1 - distance) * radii.min() + 0.5, 0, 1)
        grown = np.sqrt((((places - centre) / (radii + apart)) ** 2).sum(-1)) < 1.3
        if count and blob.max() > 0.6 and not (mask[grown] > 0).any():
            mask = np.maximum(mask, blob)
            count -= 1
    return torch.from_numpy(mask).float()


def item_of(mask, spacing=None):
    """An item with an image and this soft mask, channel first."""
    ndim = mask.ndim
    affine = torch.diag(torch.tensor([*(spacing or [1.0] * ndim), 1.0], dtype=torch.float64))
    affine[:ndim, -1] = torch.tensor([7.0, -3.0, 11.0][:ndim])
    noise = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1))
    image = MetaTensor((mask + 0.1 * noise)[None], affine=affine)
    return {"image": image, "mask": MetaTensor(mask[None], affine=affine)}


def carried(item, *steps, lazy=False, seed=0, **options):
    """The item after lesions were found, the steps taken, and lesions read again."""
    chain = Compose(
        [LesionInstancesd(), *steps, LesionsFromInstancesd(**options)],
        lazy=lazy,
        overrides=LAZY_MODES if lazy else None,
    )
    chain.set_random_state(seed)
    return chain(item)


def on_image(lesion, shape):
    """The lesion's crop in the whole image."""
    image = torch.zeros(shape)
    window = tuple(
        slice(start, start + side)
        for start, side in zip(lesion.offset.tolist(), lesion.crop.shape, strict=True)
    )
    image[window] = lesion.crop.float()
    return image


def core_box(soft, threshold=0.5):
    """Tight around the voxels of at least the threshold."""
    inside = (soft >= threshold).nonzero()
    return torch.cat([inside.amin(0), inside.amax(0) + 1]).float()
