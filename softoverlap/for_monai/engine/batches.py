"""Batches of images with their targets, as MONAI's trainer and evaluator take them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from softoverlap._checks import check_positive, refusal
from softoverlap.for_monai.transforms.collating import PerItem

TARGET_KEYS = ("boxes", "labels", "lesions", "unlabelled", "spacing", "ignored")
"""What a target may hold of an item: the first two always, the last two for measures."""


def prepare_lesion_batch(
    batchdata: Mapping[Hashable, Any],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[Tensor | list[Tensor], PerItem, tuple[PerItem], dict[str, Any]]:
    """Images and targets of a batch, as `prepare_batch` of MONAI's engines returns them.

    The targets come twice: as what the engine keeps as label, and as the argument that its inferer
    is called with, since a detector computes its losses itself.

    Args:
        batchdata: What `lesion_collate` returns of items with `"image"`, `"boxes"`, `"labels"`,
            for soft targets `"lesions"`, where voxels lack a label `"unlabelled"`, and for measures
            `"spacing"` in mm and `"ignored"`.
        device: Where the images shall lie; the detector takes targets there by itself.
        non_blocking: As of `Tensor.to`.
        kwargs: Further arguments of `Tensor.to`.

    Returns:
        Images, shape (B, C, *spatial), or a list of them where their shapes differ; a target for
        each image; the arguments of the inferer by place, and by name.

    Raises:
        ValueError: If the batch has no image, boxes or labels, or not as many of each.

    Examples:
        >>> from softoverlap.for_monai import lesion_collate, lesion_target
        >>> scan = {"image": torch.zeros(1, 8, 8), **lesion_target([], spatial_dims=2)}
        >>> images, targets, _, _ = prepare_lesion_batch(lesion_collate([scan, scan]))
        >>> images.shape, len(targets), sorted(targets[0])
        (torch.Size([2, 1, 8, 8]), 2, ['boxes', 'labels', 'lesions'])
    """
    missing = [key for key in ("image", "boxes", "labels") if key not in batchdata]
    if missing:
        raise ValueError(
            f"batchdata must hold image, boxes and labels, got {sorted(map(str, batchdata))}: "
            f"LesionsFromInstancesd makes boxes and labels"
        )
    images = batchdata["image"]
    known = {key: batchdata[key] for key in TARGET_KEYS if key in batchdata}
    uneven = {key: len(entries) for key, entries in known.items() if len(entries) != len(images)}
    if uneven:
        raise ValueError(f"batchdata must hold one of each for {len(images)} images, got {uneven}")
    targets = PerItem(
        {key: entries[image] for key, entries in known.items()} for image in range(len(images))
    )
    options = {"device": device, "non_blocking": non_blocking, **kwargs}
    one = isinstance(images, Tensor)
    moved = images.to(**options) if one else [image.to(**options) for image in images]
    return moved, targets, (targets,), {}


def scans_per_batch(batch_size: int, patches_per_scan: int) -> int:
    """How many scans give the patches of a step.

    Args:
        batch_size: Patches of a step, at least 1.
        patches_per_scan: Patches that a scan gives at a time, a divisor of it.

    Returns:
        The batch size of a loader of scans.

    Raises:
        ValueError: If there is no such number.

    Examples:
        >>> scans_per_batch(4, 2)
        2
    """
    check_positive(batch_size=batch_size, patches_per_scan=patches_per_scan)
    if batch_size % patches_per_scan:
        raise refusal(
            "patches_per_scan", f"must divide batch_size={batch_size}, got {patches_per_scan}"
        )
    return batch_size // patches_per_scan
