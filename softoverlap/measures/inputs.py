"""Two masks of a batch, read a class and a part at a time.

Labels never become one-hot: sixty classes of a label map would take sixty times its memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softoverlap._checks import (
    check_number,
    check_probabilities,
    check_rank,
    check_same_shape,
    check_tensors,
)
from softoverlap._types import at_least, is_number, plain
from softoverlap.masks import counted_voxels

Spacing = Sequence[float] | float
"""Edges of a voxel in mm, or one for all."""

Part = tuple[slice | EllipsisType, ...]
"""A part of an image, along its spatial axes."""

WHOLE: Part = (...,)
VOXELS_AT_ONCE = 1 << 16  # what is worked on stays in the cache
VOXELS_PER_LAUNCH = 1 << 24  # on a GPU a part shall be worth its launches


class MaskPair(NamedTuple):
    """One class of prediction and target, (B, 1, *spatial), zero in voxels that do not count.

    Masks come in their own precision, those of labels as truth values. `counted` says how much
    each voxel counts, or is None where all of them do.
    """

    pred: Tensor
    truth: Tensor
    counted: Tensor | None


@dataclass(frozen=True)
class MaskBatch:
    """Prediction and target of a batch as they came, and which channels and voxels count."""

    pred: Tensor
    truth: Tensor
    mask: Tensor | None
    classes: range
    ignore_index: int | None
    looks: bool

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.pred)

    @property
    def channels(self) -> int:
        """How many classes count."""
        return len(self.classes)

    @property
    def device(self) -> torch.device:
        """Where the prediction is."""
        return self.pred.device

    @property
    def spatial(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(self.pred.shape[2:])

    @property
    def hard(self) -> bool:
        """Whether both sides are labels or whole numbers, which are read as truth values."""
        several = self.classes.stop > 1
        return all(
            not values.is_floating_point() or (several and values.shape[1] == 1)
            for values in (self.pred, self.truth)
        )

    def pair(self, channel: int, part: Part = WHOLE) -> MaskPair:
        """A part of one class, looked at where it counts."""
        counted, where = self.counted(part), (slice(None), slice(None), *part)
        number, several = self.classes[channel], self.classes.stop > 1
        masks = {
            name: class_mask(values[where], number, several)
            for name, values in (("y_pred", self.pred), ("y", self.truth))
        }
        if counted is not None:
            left_out = ~(counted > 0)
            masks = {name: values.masked_fill(left_out, 0) for name, values in masks.items()}
        check_probabilities(**masks, validate=self.looks)
        pred, truth = map(_unit, masks.values())
        return MaskPair(pred, truth, counted)

    def values(self, channel: int, part: Part = WHOLE) -> MaskPair:
        """The same for comparison with thresholds, where NaN that nobody looks for has no place."""
        pair = self.pair(channel, part)
        if self.looks:
            return pair
        pred, truth = (values.nan_to_num(nan=0.0) for values in pair[:2])
        return MaskPair(pred, truth, pair.counted)

    def counted(self, part: Part = WHOLE) -> Tensor | None:
        """How much each voxel of a part counts, (B, 1, *spatial), or None where all of them do."""
        where = (slice(None), slice(None), *part)
        labels, kept = self.truth[where], None
        if self.ignore_index is not None:
            kept = _not_ignored(labels, self.ignore_index)
        if self.mask is None:
            return kept
        weights = self.mask[where].to(self.device, torch.float64)
        return weights if kept is None else weights * kept

    def item(self, number: int) -> MaskBatch:
        """One of the items, as a batch."""
        where = slice(number, number + 1)
        mask = None if self.mask is None else self.mask[where]
        return replace(self, pred=self.pred[where], truth=self.truth[where], mask=mask)

    def slabs(self) -> Iterator[Part]:
        """The parts of all items, cut along the axis in which memory is in one piece."""
        yield from slabs(self.pred)


def mask_batch(
    y_pred: Tensor,
    y: Tensor,
    mask: Tensor | None,
    *,
    include_background: bool,
    num_classes: int | None,
    ignore_index: int | None,
    looks: bool,
) -> MaskBatch:
    """A batch whose shapes and labels belong together; values are looked at as they are read."""
    check_rank(3, "(B, C, *spatial)", y_pred=y_pred, y=y)
    check_tensors(y_pred=y_pred, y=y)
    pred, truth = plain(y_pred).detach(), plain(y).detach()
    classes = pred.shape[1] if num_classes is None else num_classes
    if pred.shape[1] not in (1, classes):
        raise ValueError(
            f"y_pred must have 1 or num_classes={classes} channels, got {pred.shape[1]}"
        )
    if ignore_index is not None and looks and 0 <= ignore_index < truth.shape[1]:
        check_probabilities(y=truth[:, ignore_index], validate=truth.shape[1] > 1)
    widened = {}
    for name, values in (("y_pred", pred), ("y", truth)):
        if looks and values.shape[1] == 1 and classes > 1:
            check_labels(values, classes, ignore_index, name)
        widened[name] = _widened(values, classes)
    check_same_shape(**widened)
    first = int(not include_background and classes > 1)
    return MaskBatch(
        pred, truth, checked_mask(mask, pred), range(first, classes), ignore_index, looks
    )


def class_mask(values: Tensor, number: int, several: bool) -> Tensor:
    """One class as a mask (B, 1, *spatial): a channel, or the voxels of one channel's label."""
    if values.shape[1] == 1 and several:
        return is_number(values, number)
    return values[:, number : number + 1]


def check_labels(labels: Tensor, classes: int, ignore_index: int | None, name: str) -> None:
    """All labels are those of a class, or of ignored voxels."""
    for part in slabs(labels):
        values = labels[(slice(None), slice(None), *part)]
        unknown = (values < 0) | at_least(values, classes)
        if values.is_floating_point():
            unknown |= values != values.floor()
        if ignore_index is not None:
            unknown &= ~is_number(values, ignore_index)
        if unknown.any():
            label = values[unknown][0].item()
            raise ValueError(f"{name} must hold labels from 0 to {classes - 1}, got {label:g}")


def slabs(masks: Tensor) -> Iterator[Part]:
    """Parts of about so many voxels of all items; one where there is nothing to cut."""
    at_once = VOXELS_AT_ONCE if masks.device.type == "cpu" else VOXELS_PER_LAUNCH
    spatial = masks.shape[2:]
    axis = max(range(len(spatial)), key=masks.stride()[2:].__getitem__)
    voxels = len(masks) * math.prod(spatial)
    step = max(1, at_once * spatial[axis] // max(voxels, 1))
    for start in range(0, max(spatial[axis], 1), step):
        yield (*[slice(None)] * axis, slice(start, start + step), ...)


def voxel_spacing(
    spacing: Spacing | None, *tensors: Tensor | None, items: int, ndim: int
) -> list[tuple[float, ...]]:
    """Edges of a voxel in mm for each item: as given, else as MONAI's MetaTensors say, which agree.

    Whatever has the edges as `pixdim` will do.
    """
    if spacing is not None:
        several = isinstance(spacing, Iterable) and not isinstance(spacing, str)
        edges: Any = tuple(spacing) if several else (spacing,) * ndim  # pyright: ignore
        check_number(**{f"spacing[{axis}]": edge for axis, edge in enumerate(edges)})
        if len(edges) != ndim:
            raise ValueError(f"spacing must hold {ndim} edges in mm, one an axis, got {edges}")
        return [_checked_spacing(edges, ndim)] * items
    known = [_own_spacing(tensor, items, ndim) for tensor in tensors if knows_spacing(tensor)]
    if not known:
        raise ValueError("spacing must be given in mm where no input is a MetaTensor, got None")
    for item, edges in enumerate(zip(*known, strict=True)):
        if not np.allclose(edges, edges[0], rtol=1e-3, atol=0):
            raise ValueError(
                f"y_pred and y must have one spacing, got {' and '.join(map(str, edges))} mm in "
                f"item {item}: keep the affine through inference, or give spacing"
            )
    return known[0]


def knows_spacing(tensor: object) -> bool:
    """Whether a tensor carries the edges of its voxels, as a MetaTensor does."""
    return hasattr(tensor, "pixdim")


def in_dtype(threshold: float, dtype: torch.dtype) -> float:
    """The threshold as a map of this dtype would hold it: 0.7 is at or above 0.7 in float32 too."""
    return torch.tensor(threshold, dtype=dtype).item() if dtype.is_floating_point else threshold


def reaches(values: Tensor, threshold: float) -> Tensor:
    """Where values are at or above a threshold in (0, 1], as their own precision holds it."""
    if values.dtype == torch.bool:  # a comparison would make a wide copy
        return values
    return values >= in_dtype(threshold, values.dtype)


def _own_spacing(tensor: Any, items: int, ndim: int) -> list[tuple[float, ...]]:
    own = tensor.pixdim if isinstance(tensor.pixdim, list) else [tensor.pixdim] * items
    return [_checked_spacing(tuple(edges.tolist())[:ndim], ndim) for edges in own]


def _checked_spacing(edges: tuple[float, ...], ndim: int) -> tuple[float, ...]:
    if len(edges) < ndim or not all(0 < float(edge) < float("inf") for edge in edges):
        raise ValueError(f"spacing must hold {ndim} finite edges above 0 in mm, got {edges}")
    return tuple(float(edge) for edge in edges)


def checked_mask(mask: Tensor | None, pred: Tensor) -> Tensor | None:
    """How much each voxel counts, one channel."""
    if mask is None:
        return None
    check_tensors(mask=mask)
    expected = (pred.shape[0], 1, *pred.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask must have shape {expected}, got {tuple(mask.shape)}")
    check_probabilities(mask=mask, validate=True)
    return plain(mask).detach()


def _not_ignored(labels: Tensor, ignore_index: int) -> Tensor | None:
    if labels.shape[1] == 1:
        return ~is_number(labels, ignore_index)
    return counted_voxels(labels, ignore_index)


def _widened(values: Tensor, classes: int) -> Tensor:
    """A view that has a channel a class."""
    return values.expand(-1, classes, *values.shape[2:]) if values.shape[1] == 1 else values


def _unit(mask: Tensor) -> Tensor:
    """Without what the check's slack lets pass; whole numbers become truth values."""
    if mask.dtype == torch.bool:
        return mask
    return mask.clamp(0, 1) if mask.is_floating_point() else mask > 0
