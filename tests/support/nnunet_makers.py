"""Trainers of nnU-Net without plans or files, and what its data loader would hand to them.

nnU-Net is imported where it is used: this environment may lack it.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch

CLASSES = {"background": 0, "edge": 1, "core": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}
KINDS = {
    "classes": CLASSES,
    "classes, some ignored": {**CLASSES, "ignore": 3},
    "regions": REGIONS,
    "regions, some ignored": {**REGIONS, "ignore": 3},
}


def trainer(kind, labels, *, batch=True, over_ranks=False, supervised=True, stages=4):
    """A trainer of this class as it is after `__init__`, as far as its losses and steps know."""
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    made = kind.__new__(kind)
    made.label_manager = LabelManager(labels, regions_class_order=[1, 2])
    pooling = [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1)
    made.configuration_manager = SimpleNamespace(batch_dice=batch, pool_op_kernel_sizes=pooling)
    made.is_ddp, made.enable_deep_supervision = over_ranks, supervised
    made.device = torch.device("cpu")
    made.loss = made._build_loss()
    return made


def label_maps(labels, *, raters=1, size=8, seed=0):
    """Label maps of two items at three resolutions, (2, raters, ...), as the loader stacks them."""
    highest = max(max(value) if isinstance(value, list) else value for value in labels.values())
    draw = torch.Generator().manual_seed(seed)
    shape = (2, raters, size, size, size)
    maps = torch.randint(0, highest + 1, shape, generator=draw, dtype=torch.int16)
    return [maps[..., ::step, ::step, ::step] for step in (1, 2, 4)]


def targets(made, maps):
    """What nnU-Net makes of label maps: the same, or masks of regions and of what is ignored."""
    from batchgeneratorsv2.transforms.utils.seg_to_regions import (
        ConvertSegmentationToRegionsTransform,
    )

    manager = made.label_manager
    if not manager.has_regions:
        return maps
    ignored = [manager.ignore_label] if manager.has_ignore_label else []
    convert = ConvertSegmentationToRegionsTransform([*manager.foreground_regions, *ignored], 0)
    return [torch.stack([convert(segmentation=item)["segmentation"] for item in m]) for m in maps]


def logits(made, maps, *, seed=0):
    """Outputs of a network at each resolution, which take a gradient."""
    heads, draw = made.label_manager.num_segmentation_heads, torch.Generator().manual_seed(seed + 1)
    shapes = [(len(each), heads, *each.shape[2:]) for each in maps]
    return [torch.randn(shape, generator=draw).mul_(3).requires_grad_() for shape in shapes]


def loss_and_gradients(made, outputs, truth):
    """The loss of outputs at all resolutions, and its gradient to those that count."""
    loss = made.loss(outputs, truth)
    return loss.detach(), torch.autograd.grad(loss, outputs[:2])
