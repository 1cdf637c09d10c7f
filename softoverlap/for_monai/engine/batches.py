"""Batches of images with their targets, as MONAI's trainer and evaluator take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from softoverlap._types import plain
from softoverlap.for_monai.transforms.collating import PerItem

TARGET_KEYS = ("boxes", "labels", "lesions", "spacing", "ignored")
"""What a target may hold of an item: the first two always, the last two for measures."""


def prepare_lesion_batch(
    batchdata: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[Tensor | list[Tensor], PerItem, tuple[PerItem], dict[str, Any]]:
    """Images and targets of a batch, as `prepare_batch` of MONAI's engines returns them.

    The targets come twice: as what the engine keeps as label, and as the argument that its inferer
    is called with, since a detector computes its losses itself.

    Args:
        batchdata: What `lesion_collate` returns, or a list of items (MONAI's `no_collation`). An
            item has `"image"`, `"boxes"`, `"labels"`, and for soft targets `"lesions"`; for
            measures also `"spacing"` in mm and `"ignored"`.
        device: Where the images shall lie; the detector takes targets there by itself.
        non_blocking: As of `Tensor.to`.
        kwargs: Further arguments of `Tensor.to`.

    Returns:
        Images, shape (B, C, *spatial), or a list of them where their shapes differ; a target for
        each image; the arguments of the inferer by place, and by name.

    Raises:
        ValueError: If there is no image, or the items have no boxes or labels.

    Examples:
        >>> item = {"image": torch.zeros(1, 8, 8), "boxes": torch.zeros(0, 4)}
        >>> images, targets, _, _ = prepare_lesion_batch([{**item, "labels": torch.zeros(0)}])
        >>> images.shape, sorted(targets[0])
        (torch.Size([1, 1, 8, 8]), ['boxes', 'labels'])
    """
    images, targets = _parts(batchdata)
    if not isinstance(images, Tensor):
        alike = len({image.shape for image in images}) == 1
        images = torch.stack([plain(image) for image in images]) if alike else images
    options = {"device": device, "non_blocking": non_blocking, **kwargs}
    one = isinstance(images, Tensor)
    moved = images.to(**options) if one else [image.to(**options) for image in images]
    return moved, targets, (targets,), {}


def _parts(batchdata: Any) -> tuple[Any, PerItem]:
    """The images one by one, and their targets."""
    if isinstance(batchdata, Mapping):
        known = [key for key in TARGET_KEYS if key in batchdata]
        images = batchdata.get("image", ())
        count = len(batchdata[known[0]]) if known else 0
        targets = [{key: batchdata[key][image] for key in known} for image in range(count)]
    else:
        images = [item["image"] for item in batchdata]
        targets = [{key: item[key] for key in TARGET_KEYS if key in item} for item in batchdata]
    if not len(images) or len(targets) != len(images):
        raise ValueError(
            f"batchdata must hold images and as many targets, got {len(images)} and {len(targets)}"
        )
    for target in targets:
        if "boxes" not in target or "labels" not in target:
            raise ValueError(
                f"batchdata must hold boxes and labels, got {sorted(target)}: "
                f"LesionsFromInstancesd makes them"
            )
    return images, PerItem(targets)
