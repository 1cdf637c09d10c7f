"""What `anchor_quality` takes as its lesions, brought to one form: crops with tables, or boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from softoverlap._checks import (
    check_boxes,
    check_probabilities,
    check_rank,
    check_same_shape,
    check_tensors,
)
from softoverlap._types import plain
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume, supports

AnyLesions = Sequence[Lesion] | Shaped[Tensor, "*rows_and_space"]


@dataclass(frozen=True, eq=False)
class SoftMasks:
    """Soft crops and their tables, on the anchors' device."""

    volume: SummedVolume
    crops: list[Tensor]


def soft_masks_of(
    lesions: AnyLesions, labels: Tensor | None, anchors: Tensor, overlap: str, validate: bool | None
) -> SoftMasks | None:
    """The soft masks of all lesions; None where there is no lesion."""
    ndim, device = anchors.shape[1] // 2, anchors.device
    if not isinstance(lesions, Tensor):
        found = _checked(lesions, labels)
        if not found:
            return None
        volume = SummedVolume.from_lesions(found, device=device, validate=validate)
        return SoftMasks(volume, [lesion.crop for lesion in found])
    if labels is not None:
        return _masks_of_labels(lesions, labels, ndim, device, validate)
    if lesions.ndim != ndim + 1:
        raise ValueError(_no_masks(lesions, ndim, overlap))
    if not len(lesions):
        return None
    check_probabilities(lesions=lesions, validate=validate)
    volume = SummedVolume.from_masks(plain(lesions).to(device), validate=False)
    return SoftMasks(volume, _cropped(lesions, volume))


def boxes_of(
    lesions: AnyLesions, labels: Tensor | None, anchors: Tensor, overlap: str, validate: bool | None
) -> Tensor:
    """The boxes of all lesions, (M, 2 * ndim), on the anchors' device."""
    if isinstance(lesions, Tensor):
        if labels is not None or lesions.ndim != 2:
            raise ValueError(
                f"lesions must be a sequence of Lesion or boxes (M, {anchors.shape[1]}) for "
                f"overlap {overlap!r}, got masks of shape {tuple(lesions.shape)}"
            )
        check_boxes(lesions=lesions, validate=False)
        boxes = plain(lesions).to(anchors.device)
    else:
        found = _checked(lesions, labels)
        boxes = [plain(lesion.box).to(anchors.device) for lesion in found]
        boxes = torch.stack(boxes) if boxes else anchors.new_zeros((0, anchors.shape[1]))
    check_boxes(lesions=boxes, ndim=anchors.shape[1] // 2, validate=validate)
    return boxes


def _checked(lesions: Sequence[Lesion], labels: Tensor | None) -> list[Lesion]:
    if labels is not None:
        raise ValueError("labels must be None unless lesions is one soft mask (*spatial)")
    found = list(lesions)
    for lesion in found:
        if not isinstance(lesion, Lesion):
            expected = "a sequence of Lesion, a tensor of masks or one of boxes"
            raise TypeError(f"lesions must be {expected}, got a {type(lesion).__name__} inside")
    return found


def _masks_of_labels(
    mask: Tensor, labels: Tensor, ndim: int, device: torch.device, validate: bool | None
) -> SoftMasks | None:
    """One lesion for each label above 0 that occurs, in rising order."""
    check_tensors(lesions=mask, labels=labels)
    check_rank(1, "(*spatial)", lesions=mask)
    if mask.ndim != ndim:
        raise ValueError(
            f"lesions must be one mask with {ndim} axes where labels are given, "
            f"got shape {tuple(mask.shape)}"
        )
    check_same_shape(lesions=mask, labels=labels)
    if labels.is_floating_point():
        raise TypeError(f"labels must hold integers, got dtype {labels.dtype}")
    check_probabilities(lesions=mask, validate=validate)
    mask, labels = plain(mask).to(device), plain(labels).to(device, torch.int64)
    crops, offsets = [], []
    for label, window in _windows(labels):
        crops.append(torch.where(labels[window] == label, mask[window], 0))
        offsets.append([axis.start for axis in window])
    if not crops:
        return None
    return SoftMasks(SummedVolume._from_crops(crops, torch.tensor(offsets)), crops)


def _windows(labels: Tensor) -> list[tuple[int, tuple[slice, ...]]]:
    """Each label above 0 with the tight window around it."""
    places = labels.nonzero()
    values, group = labels[tuple(places.t())].unique(return_inverse=True)
    index = group[:, None].expand_as(places)
    corners = places.new_zeros((len(values), labels.ndim))
    low = corners.scatter_reduce(0, index, places, "amin", include_self=False)
    high = corners.scatter_reduce(0, index, places, "amax", include_self=False) + 1
    edges = zip(low.tolist(), high.tolist(), strict=True)
    windows = [tuple(map(slice, *corner)) for corner in edges]
    return [pair for pair in zip(values.tolist(), windows, strict=True) if pair[0] > 0]


def _cropped(masks: Tensor, volume: SummedVolume) -> list[Tensor]:
    """Each mask within its support."""
    corners = supports(volume).long().tolist()
    return [
        mask[tuple(map(slice, corner[: volume.ndim], corner[volume.ndim :]))]
        for mask, corner in zip(masks, corners, strict=True)
    ]


def _no_masks(lesions: Tensor, ndim: int, overlap: str) -> str:
    shape = tuple(lesions.shape)
    if shape[1:] == (2 * ndim,):
        return (
            f"lesions must hold soft masks for overlap {overlap!r}, got boxes of shape {shape}; "
            f"boxes alone have a box overlap such as 'box_iou'"
        )
    return f"lesions must have shape (M, *spatial) with {ndim} spatial axes, got {shape}"
