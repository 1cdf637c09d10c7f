"""From one loss per channel, box or element to what a module returns: power, weight, reduction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softoverlap._checks import check_choice, check_tensors, should_validate
from softoverlap._docstrings import Family
from softoverlap._types import plain


class ReducedLoss(Family, nn.Module):
    """A loss of many items, weighted and reduced in one place; use one of its subclasses.

    Args:
        reduction: `"mean"` over all (0, attached to the graph, if there is none), `"sum"` or
            `"none"`.
        validate: Look at the values too; by default on for CPU tensors.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, reduction: str = "mean", *, validate: bool | None = None) -> None:
        super().__init__()
        self.reduction = reduction_name(reduction)
        self.validate = validate

    def reduced(
        self, loss: Float[Tensor, "items"], weight: Tensor | None
    ) -> Float[Tensor, "*reduced"]:
        """The loss of each item times its weight, reduced."""
        if weight is not None:
            loss = loss * checked_weight(weight, len(loss), self.validate)
        return reduce(loss, self.reduction)


def reduction_name(reduction: object) -> str:
    """`"none"`, `"mean"` or `"sum"`, also of MONAI's `LossReduction`."""
    name = getattr(reduction, "value", reduction)
    check_choice("reduction", name, ("none", "mean", "sum"))
    return str(name)


def reduce(loss: Float[Tensor, "*items"], reduction: str) -> Float[Tensor, "*reduced"]:
    """The reduced loss; the mean over nothing is 0 and stays attached to the graph."""
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / max(1, loss.numel())


def power(values: Float[Tensor, "*items"], exponent: float) -> Float[Tensor, "*items"]:
    """values^exponent; flat at 0, where an exponent below 1 has no finite gradient."""
    if exponent == 1:
        return values
    if exponent == 0:
        return torch.ones_like(values)
    positive = ~(values <= 0)  # so for NaN
    return torch.where(positive, torch.where(positive, values, 1) ** exponent, 0)


def checked_weight(weight: Tensor, count: int, validate: bool | None) -> Tensor:
    """The weight, if it has one value a box, none of them negative or NaN."""
    check_tensors(weight=weight)
    if tuple(weight.shape) != (count,):
        raise ValueError(f"weight must have shape ({count},), one a box, got {tuple(weight.shape)}")
    weight = plain(weight)
    if should_validate(validate, weight) and not bool((weight >= 0).all()):
        raise ValueError(f"weight must be at least 0, got {weight.min().item():g}")
    return weight
