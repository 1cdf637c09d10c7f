"""From one loss per channel or box to what a module returns."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_choice


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
