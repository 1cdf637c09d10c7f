"""Small detectors, a batch for them, and a scan to train on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet, lesion_target
from softoverlap.images import Volume
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask
from tests.support.lesion_makers import ball_lesion, scene

SIZE = (24, 24, 24)


def tiny_detector(seed=0, spatial_dims=3, num_classes=1, **options):
    torch.manual_seed(seed)
    network = lesion_retinanet(
        channels=(8, 16, 16),
        feature_channels=16,
        anchor_sizes=(5.0, 8.0),
        spatial_dims=spatial_dims,
        num_classes=num_classes,
    )
    return SoftRetinaNetDetector(network, **options)


def batch():
    """Two patches: one with two lesions, one of them faint; one without any."""
    lesions = [ball_lesion(6, [3, 4, 5]), ball_lesion(4, [14, 15, 12], existence=0.4)]
    images = torch.stack([scene(lesions, SIZE, seed=1), scene([], SIZE, seed=2)])
    return images, [lesion_target(lesions), lesion_target([])]


def aware(seed=0, **options):
    torch.manual_seed(seed)
    network = lesion_retinanet(
        channels=(8, 16, 16),
        feature_channels=16,
        anchor_sizes=(5.0, 8.0),
        iou_branch=True,
        spatial_dims=options.pop("spatial_dims", 3),
    )
    return SoftRetinaNetDetector(network, **options)


@dataclass(frozen=True)
class Scan:
    """A scan in memory, with its lesions."""

    name: str
    image: Volume
    lesions: list[Lesion]


def blob(shape=(24, 24, 20), centre=(10.0, 12.0, 9.0), spread=2.5):
    axes = [torch.arange(side) + 0.5 - middle for side, middle in zip(shape, centre, strict=True)]
    squares = sum(axis**2 for axis in torch.meshgrid(*axes, indexing="ij"))
    return torch.exp(-squares / (2 * spread**2))


def scan(seed=0, spacing=(1.0, 1.0, 1.0), *, empty=False):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(24, 24, 20) if empty else blob()
    mask = torch.where(mask > 0.05, mask, 0.0)
    image = 100 + 20 * mask + torch.randn(mask.shape, generator=generator)
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    lesions = lesions_from_mask(mask, spacing=spacing)
    return Scan(f"scan{seed}", Volume(image, affine), lesions)
