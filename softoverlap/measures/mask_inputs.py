"""What a metric's arguments do to prediction and target before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from softoverlap._checks import (
    check_number,
    check_probabilities,
    check_rank,
    check_same_shape,
    check_tensors,
)
from softoverlap._types import plain
from softoverlap.masks import counted_masks, counted_voxels, one_hot

Spacing = Sequence[float] | float
"""Edges of a voxel in mm, or one for all."""


class MaskPair(NamedTuple):
    """Probabilities of one shape (B, C, *spatial), zero in voxels that do not count.

    `counted` says how much each voxel counts, (B, 1, *spatial), or is None where all of them do.
    """

    pred: Tensor
    truth: Tensor
    counted: Tensor | None


@dataclass(frozen=True)
class MaskInputs:
    """Labels to one-hot, background and ignored voxels, with MONAI's names."""

    include_background: bool = True
    num_classes: int | None = None
    ignore_index: int | None = None
    validate: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.include_background, bool):
            raise TypeError(
                f"include_background must be True or False, got {self.include_background!r}"
            )
        for name in ("num_classes", "ignore_index"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
                raise TypeError(f"{name} must be an integer or None, got {value!r}")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")

    def __call__(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> MaskPair:
        """The pair in float64, looked at where it counts; sums of it keep full precision."""
        pred, truth, counted = self._chosen(y_pred, y, mask)
        pair = counted_masks(counted, torch.float64, self.looks, y_pred=pred, y=truth)
        # what the check's slack let pass; in place where a cast has made a copy
        pred, truth = (
            wide.clamp(0, 1) if wide is given else wide.clamp_(0, 1)
            for wide, given in zip(pair, (pred, truth), strict=True)
        )
        return MaskPair(pred, truth, counted)

    def values(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> MaskPair:
        """The pair for who compares its values: each in its own precision, labels in float32.

        It is zero in voxels that do not count, and not scaled where they count in part.
        """
        pred, truth, counted = self._chosen(y_pred, y, mask)
        kept = None if counted is None else counted > 0
        (first,) = counted_masks(kept, _own_dtype(pred), self.looks, y_pred=pred)
        (second,) = counted_masks(kept, _own_dtype(truth), self.looks, y=truth)
        if not self.looks:  # NaN that nobody looks for has no place among thresholds
            first, second = first.nan_to_num(nan=0.0), second.nan_to_num(nan=0.0)
        return MaskPair(first.clamp(0, 1), second.clamp(0, 1), counted)

    def _chosen(self, y_pred: Tensor, y: Tensor, mask: Tensor | None) -> MaskPair:
        """Channels that are measured, and how much voxels count, before any value is looked at."""
        check_rank(3, "(B, C, *spatial)", y_pred=y_pred, y=y)
        labels = plain(y).detach()
        pred = plain(y_pred).detach()
        classes = pred.shape[1] if self.num_classes is None else self.num_classes
        if pred.shape[1] not in (1, classes):
            raise ValueError(
                f"y_pred must have 1 or num_classes={classes} channels, got {pred.shape[1]}"
            )
        if (
            self.ignore_index is not None
            and self.looks
            and 0 <= self.ignore_index < labels.shape[1]
        ):
            check_probabilities(y=labels[:, self.ignore_index], validate=labels.shape[1] > 1)
        pred, truth = self._channels(pred, classes, "y_pred"), self._channels(labels, classes, "y")
        check_same_shape(y_pred=pred, y=truth)
        counted = _both(counted_voxels(labels, self.ignore_index), checked_mask(mask, pred))
        if not self.include_background and classes > 1:
            pred, truth = pred[:, 1:], truth[:, 1:]
        return MaskPair(pred, truth, counted)

    @property
    def looks(self) -> bool:
        """A metric may wait for the device: it looks at the values unless told not to."""
        return self.validate is not False

    def _channels(self, values: Tensor, classes: int, name: str) -> Tensor:
        if values.shape[1] == 1 and classes > 1:
            return one_hot(values, classes, self.ignore_index, self.looks, name=name)
        return values


def voxel_spacing(
    spacing: Spacing | None, *tensors: Tensor | None, items: int, ndim: int
) -> list[tuple[float, ...]]:
    """Edges of a voxel in mm for each item: as told, else as the MetaTensors say, which agree."""
    if spacing is not None:
        several = isinstance(spacing, Iterable) and not isinstance(spacing, str)
        edges: Any = tuple(spacing) if several else (spacing,) * ndim  # pyright: ignore
        check_number(**{f"spacing[{axis}]": edge for axis, edge in enumerate(edges)})
        if len(edges) != ndim:
            raise ValueError(f"spacing must hold {ndim} edges in mm, one an axis, got {edges}")
        return [_checked_spacing(edges, ndim)] * items
    known = [_own_spacing(one, items, ndim) for one in tensors if isinstance(one, MetaTensor)]
    if not known:
        raise ValueError("spacing must be given in mm where no input is a MetaTensor, got None")
    for item, edges in enumerate(zip(*known, strict=True)):
        if not np.allclose(edges, edges[0], rtol=1e-3, atol=0):
            raise ValueError(
                f"y_pred and y must have one spacing, got {' and '.join(map(str, edges))} mm in "
                f"item {item}: keep the affine through inference, or give spacing"
            )
    return known[0]


def _own_spacing(tensor: MetaTensor, items: int, ndim: int) -> list[tuple[float, ...]]:
    own = tensor.pixdim if isinstance(tensor.pixdim, list) else [tensor.pixdim] * items
    return [_checked_spacing(tuple(edges.tolist())[:ndim], ndim) for edges in own]


def _checked_spacing(edges: tuple[float, ...], ndim: int) -> tuple[float, ...]:
    if len(edges) < ndim or not all(0 < float(edge) < float("inf") for edge in edges):
        raise ValueError(f"spacing must hold {ndim} finite edges above 0 in mm, got {edges}")
    return tuple(float(edge) for edge in edges)


def _own_dtype(values: Tensor) -> torch.dtype:
    return values.dtype if values.is_floating_point() else torch.float32


def checked_mask(mask: Tensor | None, pred: Tensor) -> Tensor | None:
    """How much each voxel counts, one channel."""
    if mask is None:
        return None
    check_tensors(mask=mask)
    expected = (pred.shape[0], 1, *pred.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask must have shape {expected}, got {tuple(mask.shape)}")
    check_probabilities(mask=mask, validate=True)
    return plain(mask).detach().to(pred.device, torch.float64)


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first * second
