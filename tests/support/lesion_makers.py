"""Lesions for tests."""

from __future__ import annotations

import torch

from softoverlap.lesion import Lesion


def lesion_from_crop(crop, offset, *, existence=1.0, label=0):
    """A lesion with its tight box around the voxels of at least half, and its centre of mass."""
    offset = torch.as_tensor(offset)
    inside = (crop >= min(0.5, float(crop.max()))).nonzero()
    box = torch.cat([inside.amin(0) + offset, inside.amax(0) + 1 + offset]).float()
    places = torch.stack(
        torch.meshgrid(*[torch.arange(side) + 0.5 for side in crop.shape], indexing="ij"), dim=-1
    )
    centre = (places * crop[..., None]).flatten(0, -2).sum(0) / crop.sum() + offset
    return Lesion(
        box=box,
        crop=crop,
        offset=offset,
        centre=centre.float(),
        volume_mm3=float(crop.sum()),
        existence=existence,
        label=label,
    )


def ball(side, *, ndim=3, edge=1.0):
    """A ball that fills a cube of this side, with a soft edge."""
    axis = torch.arange(side) + 0.5 - side / 2
    radius = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij")).square().sum(0).sqrt()
    return torch.sigmoid((side / 2 - radius) / (edge / 4))


def ball_lesion(side, corner, *, ndim=3, **options):
    return lesion_from_crop(ball(side, ndim=ndim), corner, **options)


def scene(lesions, size, *, seed=0, noise=0.05):
    """An image (1, *size) in which the lesions are bright."""
    image = noise * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    for lesion in lesions:
        low = lesion.offset.tolist()
        window = tuple(slice(o, o + s) for o, s in zip(low, lesion.crop.shape, strict=True))
        image[window] += lesion.crop
    return image[None]
