"""Stacks of masks (several samples, several raters) on their way to a metric.

A stack is looked at one item and class at a time, and there as a table: a row a mask, a column a
voxel. Columns that do not count are left out, and where only sums are formed also those where all
masks are zero: a lesion takes the time of its own voxels, whatever the volume it lies in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import check_probabilities, check_rank, check_tensors
from softoverlap._types import plain
from softoverlap.masks import one_hot
from softoverlap.measures.mask_inputs import MaskInputs, checked_mask

Stack = Shaped[Tensor, "batch count channel *spatial"]
Ratio = Callable[..., Tensor]


class RaterCase(NamedTuple):
    """One class of one item; `weight` says how much each voxel counts, None if all do."""

    preds: Shaped[Tensor, "samples voxels"]
    raters: Shaped[Tensor, "raters voxels"]
    weight: Float[Tensor, "voxels"] | None


class RaterStacks(NamedTuple):
    """Predictions and raters of a batch, and how much their voxels count."""

    preds: Stack
    raters: Stack
    counted: Tensor | None
    looks: bool

    def measure(
        self,
        score: Callable[[RaterCase], Tensor],
        *,
        threshold: float | None = None,
        foreground: bool = True,
    ) -> Float[Tensor, "batch channel"]:
        """The score of each class of each item, float64; `foreground` if zeros do not matter."""
        size = (self.raters.shape[0], self.raters.shape[2])
        found = torch.full(size, torch.nan, dtype=torch.float64, device=self.raters.device)
        for item, channel in itertools.product(*map(range, size)):
            case = self._case(item, channel, threshold)
            found[item, channel] = score(_wide(_foreground(case) if foreground else case))
        return found

    def _case(self, item: int, channel: int, threshold: float | None) -> RaterCase:
        preds, raters = self.preds[item, :, channel], self.raters[item, :, channel]
        preds, raters, weight = preds.flatten(1), raters.flatten(1), None
        if self.counted is not None:
            weight = self.counted[item].flatten()
            kept = weight > 0
            preds, raters, weight = preds[:, kept], raters[:, kept], weight[kept]
        check_probabilities(y_pred=preds, y=raters, validate=self.looks)
        return RaterCase(preds, raters if threshold is None else raters >= threshold, weight)


def rater_stacks(
    inputs: MaskInputs, preds: Tensor | None, raters: Tensor, *, mask: Tensor | None
) -> RaterStacks:
    """Stacks (B, N, C, *spatial) that agree, labels one-hot, without the background if told so."""
    raters = _channels(inputs, raters, "y")
    preds = raters[:, :0] if preds is None else _channels(inputs, preds, "y_pred")
    shapes = [(len(stack), *stack.shape[2:]) for stack in (preds, raters)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "y must have the items, channels and voxels of y_pred, "
            f"{shapes[0]} without the raters, got {shapes[1]}"
        )
    counted = checked_mask(mask, raters[:, 0])
    return RaterStacks(preds, raters, counted, inputs.looks)


def with_class_axis(values: Tensor, class_axis: bool, name: str) -> Stack:
    """A stack (B, N, C, *spatial) of one that has no axis of classes, or of one that has it."""
    layout = "(B, N, C, *spatial)" if class_axis else "(B, N, *spatial)"
    check_rank(4 if class_axis else 3, f"{layout} with N masks an item", **{name: values})
    if not values.shape[1]:
        raise ValueError(
            f"{name} must hold one mask or more of each item, got shape {tuple(values.shape)}"
        )
    if not class_axis and values.ndim > 5:
        raise ValueError(
            f"{name} must have at most three spatial axes, {layout}, got {tuple(values.shape)}: "
            "with an axis of classes pass class_axis=True"
        )
    values = plain(values).detach()
    return values if class_axis else values.unsqueeze(2)


def check_background(inputs: MaskInputs, class_axis: bool) -> None:
    """There is a background to leave out, if it shall be."""
    if not inputs.include_background and not class_axis and inputs.num_classes in (None, 1):
        raise ValueError(
            "include_background=False needs an axis of classes, pass class_axis=True, or labels, "
            "pass num_classes"
        )


def tells_classes(y_pred: Tensor, y: Tensor) -> bool:
    """Whether the raters have an axis of classes: they have one axis more than the prediction."""
    check_rank(3, "(B, C, *spatial)", y_pred=y_pred)
    check_tensors(y=y)
    if y.ndim - y_pred.ndim not in (0, 1):
        raise ValueError(
            "y must have shape (B, R, *spatial) or (B, R, C, *spatial) where y_pred has "
            f"{tuple(y_pred.shape)}, got {tuple(y.shape)}"
        )
    return y.ndim > y_pred.ndim


def overlap_matrix(
    ratio: Ratio, first: Tensor, second: Tensor, weight: Tensor | None, empty: float
) -> Float[Tensor, "first second"]:
    """The overlap of each mask with each, pair by pair: a volume is large, pairs are few."""
    if weight is not None:
        first, second = first * weight, second * weight
    pairs = [torch.minimum(a, b).sum() for a, b in itertools.product(first, second)]
    shared = torch.stack(pairs).reshape(len(first), len(second))
    return ratio(shared, _sizes(first)[:, None], _sizes(second)[None], empty=empty)


def _sizes(masks: Tensor) -> Tensor:
    """Summed as the pairs are, row by row, so that a mask is its own equal to the last digit."""
    return torch.stack([row.sum() for row in masks])


def _channels(inputs: MaskInputs, stack: Tensor, name: str) -> Stack:
    channels = stack.shape[2]
    classes = channels if inputs.num_classes is None else inputs.num_classes
    if channels not in (1, classes):
        raise ValueError(f"{name} must have 1 or num_classes={classes} channels, got {channels}")
    if classes > channels:
        labels = stack.flatten(0, 1)
        stack = one_hot(labels, classes, None, inputs.looks, name=name).unflatten(
            0, stack.shape[:2]
        )
    return stack if inputs.include_background or classes == 1 else stack[:, :, 1:]


def _foreground(case: RaterCase) -> RaterCase:
    """Without the voxels that are zero in all masks."""
    seen = (case.preds > 0).any(dim=0) | (case.raters > 0).any(dim=0)
    weight = None if case.weight is None else case.weight[seen]
    return RaterCase(case.preds[:, seen], case.raters[:, seen], weight)


def _wide(case: RaterCase) -> RaterCase:
    """Probabilities in float64, without what the check's slack let pass."""
    preds, raters = (stack.double().clamp(0, 1) for stack in (case.preds, case.raters))
    return RaterCase(preds, raters, case.weight)
