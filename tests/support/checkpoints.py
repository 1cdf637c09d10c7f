"""Detectors with fresh weights, as a checkpoint holds them, and scans of noise."""

from __future__ import annotations

import torch

from softoverlap.app.train import fresh_detector
from softoverlap.images import Volume

SMALL = {
    "patch_size": [16, 16, 16],
    "channels": [8, 8],
    "strides": [2, 2],
    "feature_channels": 8,
    "anchor_sizes": [5.0],
}


def small_detector(seed=0, **settings):
    return fresh_detector({**SMALL, **settings}, seed=seed)


def lively_detector(seed=0, gain=100, **settings):
    """One whose scores differ from place to place, and of which no box is too low to be written."""
    model = small_detector(seed, lowest_score=0.0, **settings)
    with torch.no_grad():
        for name, weight in model.detector.network.named_parameters():
            if name.endswith("cls_logits.weight"):
                weight.mul_(gain)
    return model


def noise(shape=(24, 22, 20), affine=None, *, channels=1, seed=0):
    """A scan of blurred noise."""
    data = torch.rand(1, channels, *shape, generator=torch.Generator().manual_seed(seed))
    data = torch.nn.functional.avg_pool3d(data, 3, stride=1, padding=1)[0]
    affine = torch.eye(4, dtype=torch.float64) if affine is None else affine
    return Volume(data if channels > 1 else data[0], affine)


def spaced(*edges):
    return torch.diag(torch.tensor([*edges, 1.0], dtype=torch.float64))
