"""What all kinds of suppression ask of their arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from softoverlap._checks import check_tensors, should_validate
from softoverlap._types import plain


def one_a_box(boxes: Tensor, validate: bool | None, **values: Tensor) -> None:
    """Each tensor has one value a box, and none is NaN."""
    for name, value in values.items():
        if value.shape != boxes.shape[:1]:
            raise ValueError(
                f"{name} must have shape ({len(boxes)},), one a box, got {tuple(value.shape)}"
            )
        if should_validate(validate, value) and value.isnan().any():
            raise ValueError(f"{name} must be numbers, got NaN")


def not_negative(validate: bool | None, **values: Tensor) -> None:
    """No value is below 0 (logits were passed?) or infinite."""
    for name, value in values.items():
        if not should_validate(validate, value) or not value.numel():
            continue
        low, high = (bound.item() for bound in torch.aminmax(plain(value.detach())))
        if low < 0 or high == float("inf"):
            raise ValueError(
                f"{name} must be at least 0 and finite, got values in [{low:g}, {high:g}]"
            )


def classes(boxes: Tensor, labels: Tensor | None, validate: bool | None) -> Tensor | None:
    """The labels where the boxes are, one a box; None: all boxes are of one class."""
    if labels is None:
        return None
    check_tensors(labels=labels)
    one_a_box(boxes, validate, labels=labels)
    return plain(labels).to(boxes.device)
