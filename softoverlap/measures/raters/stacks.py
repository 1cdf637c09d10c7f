"""Stacks of masks (several samples, several raters) on their way to a measure.

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
from softoverlap.measures.inputs import check_labels, checked_mask, class_mask
from softoverlap.measures.measure import Measure, Ratio

Stack = Shaped[Tensor, "batch count channel *spatial"]


class RaterCase(NamedTuple):
    """One class of one item; `weight` says how much each voxel counts, None if all do."""

    preds: Shaped[Tensor, "samples voxels"]
    raters: Shaped[Tensor, "raters voxels"]
    weight: Float[Tensor, "voxels"] | None


class RaterStacks(NamedTuple):
    """Predictions and raters of a batch as they came, and which classes and voxels count."""

    preds: Stack
    raters: Stack
    mask: Tensor | None
    classes: range
    looks: bool

    def measure(
        self,
        score: Callable[[RaterCase], Tensor],
        *,
        rater_threshold: float | None = None,
        foreground: bool = True,
    ) -> Float[Tensor, "batch channel 1"]:
        """The score of each class of each item, float64; `foreground` if zeros do not matter."""
        size = (len(self.raters), len(self.classes))
        scores = torch.full(size, torch.nan, dtype=torch.float64, device=self.raters.device)
        for item, channel in itertools.product(*map(range, size)):
            case = self._case(item, channel, rater_threshold)
            scores[item, channel] = score(_wide(_foreground(case) if foreground else case))
        return scores[..., None]

    def _case(self, item: int, channel: int, rater_threshold: float | None) -> RaterCase:
        number, several = self.classes[channel], self.classes.stop > 1
        preds, raters = (
            class_mask(stack[item], number, several).flatten(1)
            for stack in (self.preds, self.raters)
        )
        weight = None
        if self.mask is not None:
            weight = self.mask[item].flatten().to(raters.device, torch.float64)
            kept = weight > 0
            preds, raters, weight = preds[:, kept], raters[:, kept], weight[kept]
        check_probabilities(y_pred=preds, y=raters, validate=self.looks)
        if rater_threshold is not None and raters.dtype != torch.bool:
            raters = raters >= rater_threshold
        return RaterCase(preds, raters, weight)


def rater_stacks(
    measure: Measure, preds: Tensor | None, raters: Tensor, *, mask: Tensor | None
) -> RaterStacks:
    """Stacks (B, N, C, *spatial) that agree, and their classes."""
    classes = _classes(measure, raters, "y")
    preds = raters[:, :0] if preds is None else preds
    shapes = [
        (len(stack), len(_classes(measure, stack, name)), *stack.shape[3:])
        for name, stack in (("y_pred", preds), ("y", raters))
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "y must have the items, channels and voxels of y_pred, "
            f"{shapes[0]} without the raters, got {shapes[1]}"
        )
    kept = checked_mask(mask, raters[:, 0])
    return RaterStacks(preds, raters, kept, classes, measure.looks)


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


def check_background(measure: Measure, class_axis: bool) -> None:
    """There is a background to leave out, if it shall be."""
    if not measure.include_background and not class_axis and measure.num_classes in (None, 1):
        raise ValueError(
            "include_background=False needs an axis of classes, pass class_axis=True, or labels, "
            "pass num_classes"
        )


def have_class_axis(y_pred: Tensor, y: Tensor) -> bool:
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


def _classes(measure: Measure, stack: Tensor, name: str) -> range:
    """The classes of a stack that count, whose labels are looked at."""
    channels = stack.shape[2]
    classes = channels if measure.num_classes is None else measure.num_classes
    if channels not in (1, classes):
        raise ValueError(f"{name} must have 1 or num_classes={classes} channels, got {channels}")
    if classes > channels and measure.looks:
        for masks in stack.unbind(1):
            check_labels(masks, classes, None, name)
    return range(int(not measure.include_background and classes > 1), classes)


def _foreground(case: RaterCase) -> RaterCase:
    """Without the voxels that are zero in all masks."""
    seen = torch.zeros_like(case.raters[0], dtype=torch.bool)
    for mask in (*case.preds, *case.raters):
        seen |= mask if mask.dtype == torch.bool else mask > 0  # a comparison makes a wide copy
    weight = None if case.weight is None else case.weight[seen]
    return RaterCase(case.preds[:, seen], case.raters[:, seen], weight)


def _wide(case: RaterCase) -> RaterCase:
    """Probabilities in float64, without what the check's slack let pass."""
    preds, raters = (stack.double().clamp(0, 1) for stack in (case.preds, case.raters))
    return RaterCase(preds, raters, case.weight)
