"""The score at each of a list of thresholds, from sizes, and the checks of that list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_number
from softoverlap.measures.measure import Ratio

Curve = Float[Tensor, "*shape levels"]

QUBIQ_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def rising(thresholds: Sequence[float]) -> tuple[float, ...]:
    """The thresholds from low to high.

    Raises:
        TypeError: If they are not a list of numbers.
        ValueError: If there is none, one lies outside (0, 1] or one is there twice.
    """
    if not isinstance(thresholds, Iterable) or isinstance(thresholds, str):
        raise TypeError(f"thresholds must be a list of numbers, got {thresholds!r}")
    levels = [level.item() if isinstance(level, Tensor) else level for level in thresholds]
    check_number(**{f"thresholds[{place}]": level for place, level in enumerate(levels)})
    ordered = tuple(sorted(float(level) for level in levels))
    if not ordered or not all(0 < level <= 1 for level in ordered):
        raise ValueError(f"thresholds must be one or more numbers in (0, 1], got {list(ordered)}")
    if len(set(ordered)) < len(ordered):
        raise ValueError(f"thresholds must differ, got {list(ordered)}")
    return ordered


def curve(
    ratio: Ratio, sizes: Float[Tensor, "*shape width"], *, ignore_empty: bool, empty: float
) -> Curve:
    """The score at each threshold, from sizes (..., 3 · thresholds).

    NaN at all of them where the target is empty at all of them, and that is to be ignored.
    """
    shared, pred, truth = sizes.unflatten(-1, (3, -1)).unbind(-2)
    score = ratio(shared, pred, truth, empty=empty)
    if not ignore_empty:
        return score
    return torch.where((truth > 0).any(dim=-1, keepdim=True), score, torch.nan)
