"""Scans and lesions brought to another spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from softoverlap.lesion import Lesion

SAME_SPACING = 0.01
"""Spacings whose edges differ by no more than this share are the same."""


def zoom_factor(spacing: Sequence[float], target: Sequence[float]) -> tuple[float, ...]:
    """Old voxels per new voxel on each axis; exactly 1 on all where the spacings are the same."""
    factor = tuple(new / old for old, new in zip(spacing, target, strict=True))
    same = all(abs(ratio - 1) <= SAME_SPACING for ratio in factor)
    return (1.0,) * len(factor) if same else factor


def zoom_size(shape: Sequence[int], factor: Sequence[float]) -> tuple[int, ...]:
    """Voxels of the new grid; its first corner is that of the old one."""
    return tuple(max(1, round(side / f)) for side, f in zip(shape, factor, strict=True))


def zoom(
    data: Float[Tensor, "*spatial"],
    factor: Sequence[float],
    size: Sequence[int],
    *,
    start: Sequence[float] = (0.0, 0.0, 0.0),
    padding: str = "border",
) -> Float[Tensor, "*new"]:
    """Resample linearly onto voxels of `factor` old ones, smoothed first where these are larger.

    `start` is the old coordinate of the new grid's first corner; `padding` says what lies outside,
    `"border"` or `"zeros"`.
    """
    if all(f == 1 for f in factor) and tuple(size) == tuple(data.shape) and not any(start):
        return data
    sigma = [max(0.0, (f - 1) / 2) for f in factor]
    mode = "nearest" if padding == "border" else "constant"
    smooth = torch.from_numpy(ndimage.gaussian_filter(data.cpu().numpy(), sigma, mode=mode))
    lines = [
        2 * ((torch.arange(n, dtype=torch.float64) + 0.5) * f + s) / side - 1
        for n, f, s, side in zip(size, factor, start, data.shape, strict=True)
    ]
    grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flip(-1).to(data.dtype)
    sampled = F.grid_sample(
        smooth[None, None], grid[None], padding_mode=padding, align_corners=False
    )
    return sampled[0, 0].to(data.device)


def zoom_lesion(lesion: Lesion, factor: Sequence[float]) -> Lesion:
    """The lesion in voxels of the new grid; its volume in mm³ stays."""
    if all(f == 1 for f in factor):
        return lesion
    margin = [max(1, math.ceil(f)) for f in factor]  # smoothing and interpolation spread the edge
    padded = F.pad(lesion.crop.float(), [m for m in reversed(margin) for _ in range(2)])
    offset = [o - m for o, m in zip(lesion.offset.tolist(), margin, strict=True)]
    shape = padded.shape
    first = [math.floor(o / f) for o, f in zip(offset, factor, strict=True)]
    last = [math.ceil((o + n) / f) for o, n, f in zip(offset, shape, factor, strict=True)]
    size = [max(1, b - a) for a, b in zip(first, last, strict=True)]
    start = [a * f - o for a, f, o in zip(first, factor, offset, strict=True)]
    crop = zoom(padded, factor, size, start=start, padding="zeros").clamp(0, 1)
    scale = torch.tensor([*factor, *factor], dtype=torch.float32)
    return replace(
        lesion,
        box=lesion.box.float() / scale,
        crop=crop,
        offset=torch.tensor(first),
        centre=lesion.centre.float() / scale[: len(factor)],
    )
