"""A small RetinaNet for lesions, on MONAI's blocks and without torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.apps.detection.networks.retinanet_network import RetinaNet, RetinaNetRegressionHead
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor, nn

from softoverlap.anchors import AnchorPlan
from softoverlap.for_monai.detector.anchor_grid import ExactAnchorGenerator
from softoverlap.for_monai.detector.planned import (
    GROUPS,
    LevelHeads,
    PlannedBackbone,
    classification_heads,
    regression_heads,
)

_HEAD_SPREAD = 0.01  # of the weights of MONAI's RetinaNet heads


def lesion_retinanet(
    *,
    in_channels: int = 1,
    num_classes: int = 1,
    channels: Sequence[int] = (16, 32, 64),
    strides: Sequence[int | Sequence[int]] = (2, 2, 2),
    num_levels: int = 2,
    feature_channels: int = 32,
    anchor_sizes: Sequence[float | Sequence[float]] = (5.0, 8.0, 12.0),
    spatial_dims: int = 3,
    iou_branch: bool = False,
    plan: AnchorPlan | None = None,
) -> RetinaNet:
    """MONAI's RetinaNet with a small residual backbone, for training on patches.

    Every stage is a residual block that strides first, so that the full resolution is touched
    once. The last `num_levels` stages feed a feature pyramid. The network carries its anchors as
    `network.anchor_generator`: on the finest level they have `anchor_sizes`, on the next ones as
    many times more as its stride is larger.

    With a plan, strides, levels and anchors are the plan's. Each level then has heads of its own,
    since levels differ in the number and the shapes of their anchors. A level finer than stride 4
    has fewer channels, but at least 8, so that a convolution costs no more there than at stride 4
    (of 32 channels in 3D, at stride 1 four times as much), and heads of two
    convolutions in place of four.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes of lesions, without background.
        channels: Channels of each stage, multiples of 8.
        strides: Stride of each stage, one number or one an axis.
        num_levels: Levels of the feature pyramid.
        feature_channels: Channels of each level and of the heads, a multiple of 8.
        anchor_sizes: Edges of the anchors in voxels, one number for a cube or one an axis.
        spatial_dims: 2 or 3.
        iou_branch: Let the network predict, beside each box, how well it will fit: one channel
            more for each anchor, behind its code. MONAI's evaluation and its sliding window know
            two maps only, so the box head is widened. The network tells by `network.iou_branch`.
        plan: Strides and anchors of the levels, in place of `strides`, `num_levels`,
            `anchor_sizes` and `spatial_dims`; the last of `channels` holds for all further stages.

    Returns:
        The network; classification starts at a score of 0.01 everywhere (Lin et al.).

    Raises:
        ValueError: If an argument is out of range or the lengths do not fit together.

    References:
        Lin et al., Focal loss for dense object detection, https://arxiv.org/abs/1708.02002
        Lin et al., Feature pyramid networks, https://arxiv.org/abs/1612.03144
        Wu et al., IoU-aware single-stage object detector, https://arxiv.org/abs/1912.05992

    Examples:
        >>> import torch
        >>> network = lesion_retinanet()
        >>> outputs = network(torch.zeros(1, 1, 16, 16, 16))
        >>> [tuple(level.shape) for level in outputs["classification"]]
        [(1, 3, 4, 4, 4), (1, 3, 2, 2, 2)]
    """
    if plan is not None:
        _check(channels, channels, 1, feature_channels, plan.ndim)
        network = _planned(plan, in_channels, num_classes, channels, feature_channels, iou_branch)
        network.iou_branch = iou_branch  # pyright: ignore[reportArgumentType]
        return network
    _check(channels, strides, num_levels, feature_channels, spatial_dims)
    if not anchor_sizes:
        raise ValueError("anchor_sizes must hold at least one size, got none")
    steps = [ensure_tuple_rep(stride, spatial_dims) for stride in strides]
    total = np.cumprod(steps, axis=0)
    extractor = _PyramidBackbone(
        spatial_dims, in_channels, channels, steps, num_levels, feature_channels
    )
    network = RetinaNet(
        spatial_dims=spatial_dims,
        num_classes=num_classes,
        num_anchors=len(anchor_sizes),
        feature_extractor=extractor,
        size_divisible=tuple(int(step) for step in total[-1]),
    )
    network.iou_branch = iou_branch  # pyright: ignore[reportArgumentType]
    if iou_branch:
        _widen(network.regression_head, len(anchor_sizes), 2 * spatial_dims)
    finest = total[-num_levels]
    scales = [float(np.max(level / finest)) for level in total[-num_levels:]]
    shapes = [ensure_tuple_rep(size, spatial_dims) for size in anchor_sizes]
    network.anchor_generator = ExactAnchorGenerator(scales, shapes)
    return network


def _planned(
    plan: AnchorPlan,
    in_channels: int,
    num_classes: int,
    channels: Sequence[int],
    feature_channels: int,
    iou_branch: bool,
) -> RetinaNet:
    """The network of a plan, with its anchors."""
    extractor = PlannedBackbone(plan, in_channels, channels, feature_channels)
    network = RetinaNet(
        spatial_dims=plan.ndim,
        num_classes=num_classes,
        num_anchors=len(plan.sizes[0]),
        feature_extractor=extractor,
        size_divisible=plan.strides[-1],
    )
    widths = extractor.level_channels
    boxes = regression_heads(plan, widths)
    if iou_branch:
        for head, shapes in zip(boxes, plan.sizes, strict=True):
            _widen(head, len(shapes), 2 * plan.ndim)
    # MONAI's two heads, for all levels alike, give way
    network.classification_head = classification_heads(plan, widths, num_classes)  # pyright: ignore
    network.regression_head = LevelHeads(boxes)  # pyright: ignore[reportAttributeAccessIssue]
    network.anchor_generator = ExactAnchorGenerator(level_shapes=plan.sizes)
    return network


def _widen(head: RetinaNetRegressionHead, anchors: int, coords: int) -> None:
    """One channel more for each anchor, behind its code; the code starts with MONAI's weights."""
    narrow = head.bbox_reg
    wide = type(narrow)(narrow.in_channels, anchors * (coords + 1), kernel_size=3, padding=1)
    nn.init.normal_(wide.weight, std=_HEAD_SPREAD)
    nn.init.zeros_(wide.bias)
    with torch.no_grad():
        code = narrow.weight.unflatten(0, (anchors, coords))
        wide.weight.unflatten(0, (anchors, coords + 1))[:, :coords] = code
    head.bbox_reg = wide


class _PyramidBackbone(nn.Module):
    """Residual stages; the last levels of them through a feature pyramid."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        num_levels: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        norm = ("group", {"num_groups": GROUPS})
        inputs = [in_channels, *channels[:-1]]
        self.stages = nn.ModuleList(
            UnetResBlock(spatial_dims, before, after, 3, stride, norm)
            for before, after, stride in zip(inputs, channels, strides, strict=True)
        )
        self.pyramid = FeaturePyramidNetwork(
            spatial_dims, list(channels[-num_levels:]), out_channels
        )
        self.num_levels = num_levels
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps, finest first; a plain annotation, since TorchScript knows no other."""
        maps, features = [], images
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        levels = {str(level): maps[level - self.num_levels] for level in range(self.num_levels)}
        return list(self.pyramid(levels).values())


def _check(
    channels: Sequence[int],
    strides: Sequence[int | Sequence[int]],
    num_levels: int,
    feature_channels: int,
    spatial_dims: int,
) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
    if not channels or len(strides) != len(channels):
        raise ValueError(
            f"strides must hold one stride for each stage in channels, "
            f"got {len(strides)} for {len(channels)}"
        )
    if not 1 <= num_levels <= len(channels):
        raise ValueError(f"num_levels must lie in [1, {len(channels)}], got {num_levels}")
    for name, numbers in (("channels", channels), ("feature_channels", [feature_channels])):
        if any(number < GROUPS or number % GROUPS for number in numbers):
            raise ValueError(f"{name} must be multiples of {GROUPS}, got {list(numbers)}")
