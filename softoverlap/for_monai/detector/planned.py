"""The parts of a RetinaNet whose levels differ: a pyramid and heads for the levels of a plan.

A level of a plan has shapes and strides of its own, so it has heads of its own, and a fine level,
whose places are many, has fewer channels and shorter heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, TypeVar

import torch.nn.functional as F
from monai.apps.detection.networks.retinanet_network import (
    RetinaNetClassificationHead,
    RetinaNetRegressionHead,
)
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from softoverlap.anchors import AnchorPlan

GROUPS = 8  # of MONAI's RetinaNet heads too
_FULL_STRIDE = 4  # from this stride on a level has all channels
_FINE_DEPTH = 2  # convolutions of a fine level's heads, in place of MONAI's four
_MODULES = 3  # convolution, norm and activation

_Head = TypeVar("_Head", RetinaNetClassificationHead, RetinaNetRegressionHead)


def stage_strides(
    levels: Sequence[Sequence[int]],
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Strides of the stages that lead to the levels, and the stage that each level is taken from.

    A stage strides by a prime at most; an axis that strides less often begins later.

    Examples:
        >>> stage_strides([(4, 4, 1), (8, 8, 2)])
        ([(2, 2, 1), (2, 2, 1), (2, 2, 2)], [1, 2])
    """
    stages: list[tuple[int, ...]] = []
    taken = []
    for before, after in pairwise([(1,) * len(levels[0]), *levels]):
        steps = [_primes(b // a) for a, b in zip(before, after, strict=True)]
        count = max(1, *map(len, steps))
        padded = [[1] * (count - len(axis)) + axis for axis in steps]
        stages += list(zip(*padded, strict=True))
        taken.append(len(stages) - 1)
    return stages, taken


def _primes(number: int) -> list[int]:
    """Prime factors, rising."""
    found, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found


def level_channels(stride: Sequence[int], channels: int) -> int:
    """Channels of a level: finer than stride 4 fewer, but at least 8, a group of each norm.

    A convolution costs as its places times the square of its channels. It costs no more than at
    stride 4 where 8 channels allow it: at stride 1 in 3D it costs four times as much, of 32.

    Examples:
        >>> [level_channels((step,) * 3, 32) for step in (4, 2, 1)]
        [32, 8, 8]
    """
    places = _FULL_STRIDE ** len(stride) / prod(stride)
    if places <= 1:
        return channels
    return max(GROUPS, int(channels / places**0.5) // GROUPS * GROUPS)


class PlannedBackbone(nn.Module):
    """Residual stages, and a feature pyramid over those of them that are levels of a plan.

    Args:
        plan: Strides of the levels.
        in_channels: Channels of the image.
        channels: Channels of each stage; the last number holds for all further ones.
        feature_channels: Channels of the levels; finer ones have fewer.

    Examples:
        >>> import torch
        >>> plan = AnchorPlan(strides=[(2, 2), (4, 4)], sizes=[[(3, 3)], [(6, 6)]])
        >>> maps = PlannedBackbone(plan, 1, (8, 16), 16)(torch.zeros(1, 1, 8, 8))
        >>> [tuple(level.shape) for level in maps]
        [(1, 8, 4, 4), (1, 16, 2, 2)]
    """

    def __init__(
        self, plan: AnchorPlan, in_channels: int, channels: Sequence[int], feature_channels: int
    ) -> None:
        super().__init__()
        steps, taken = stage_strides(plan.strides)
        widths = [channels[min(stage, len(channels) - 1)] for stage in range(len(steps))]
        norm = ("group", {"num_groups": GROUPS})
        self.stages = nn.ModuleList(
            UnetResBlock(plan.ndim, before, after, 3, stride, norm)
            for before, after, stride in zip(
                [in_channels, *widths[:-1]], widths, steps, strict=True
            )
        )
        self.level_channels = [level_channels(s, feature_channels) for s in plan.strides]
        self.out_channels = self.level_channels[-1]
        own = self.level_channels[::-1]  # from here on the coarsest level comes first
        self.taken = taken[::-1]
        self.merging = nn.ModuleList(
            _Merging(plan.ndim, widths[stage], width, coarser)
            for stage, width, coarser in zip(self.taken, own, [0, *own[:-1]], strict=True)
        )
        self.smoothing = nn.ModuleList(_conv(plan.ndim, width, width, 3) for width in own)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps, finest first; a plain annotation, since TorchScript knows no other."""
        maps, features = [], images
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        merged: list[Tensor] = []
        for number, level in enumerate(self.merging):
            features = level(maps[self.taken[number]], features)
            merged.append(features)
        levels: list[Tensor] = []
        for number, smooth in enumerate(self.smoothing):
            levels.insert(0, smooth(merged[number]))
        return levels


class _Merging(nn.Module):
    """What a stage found joins what the coarser level knows, in as many channels as asked for.

    The coarsest level has no coarser one, 0 channels, and does not look at what it is given.
    """

    def __init__(self, ndim: int, in_channels: int, channels: int, coarser: int) -> None:
        super().__init__()
        self.alone = not coarser
        self.inner = _conv(ndim, in_channels, channels, 1)
        alike = coarser in (0, channels)
        self.narrow = nn.Identity() if alike else _conv(ndim, coarser, channels, 1)

    def forward(self, features: Tensor, coarser: Tensor) -> Tensor:
        inner = self.inner(features)
        if self.alone:
            return inner
        return inner + F.interpolate(self.narrow(coarser), size=inner.shape[2:], mode="nearest")


def _conv(ndim: int, in_channels: int, channels: int, size: int) -> nn.Module:
    """A convolution that begins as those of MONAI's pyramid."""
    layer: Any = Conv[Conv.CONV, ndim](in_channels, channels, size, padding=size // 2)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    nn.init.zeros_(layer.bias)
    return layer


class LevelHeads(nn.Module):
    """A head for each level, in place of one for all."""

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(heads)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Maps of the levels; a plain annotation, since TorchScript knows no other."""
        maps: list[Tensor] = []
        for number, head in enumerate(self.levels):
            maps.append(head([x[number]])[0])
        return maps


def classification_heads(plan: AnchorPlan, channels: Sequence[int], num_classes: int) -> LevelHeads:
    """MONAI's classification head, one for each level."""
    levels = zip(channels, plan.sizes, plan.strides, strict=True)
    heads = [
        (RetinaNetClassificationHead(width, len(shapes), num_classes, plan.ndim), stride)
        for width, shapes, stride in levels
    ]
    return LevelHeads([_shortened(head, stride) for head, stride in heads])


def regression_heads(plan: AnchorPlan, channels: Sequence[int]) -> list[RetinaNetRegressionHead]:
    """MONAI's regression head, one for each level."""
    return [
        _shortened(RetinaNetRegressionHead(width, len(shapes), plan.ndim), stride)
        for width, shapes, stride in zip(channels, plan.sizes, plan.strides, strict=True)
    ]


def _shortened(head: _Head, stride: Sequence[int]) -> _Head:
    """The head with fewer convolutions where the level is fine."""
    if prod(stride) < _FULL_STRIDE ** len(stride):
        head.conv = nn.Sequential(*list(head.conv)[: _FINE_DEPTH * _MODULES])
    return head
