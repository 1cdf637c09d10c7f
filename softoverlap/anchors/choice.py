"""Which candidates to take under a budget, so that each lesion has a good one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_GAIN = 1e-3
"""What a further candidate must add to the mean quality: each costs channels of the network."""

_ROUNDING = 1e-9
_ROWS_PER_BLOCK = 4096


def greedy_choice(
    quality: Float[Tensor, "lesions candidates"],
    costs: Float[Tensor, "candidates"],
    budget: float | int,
    *,
    firsts: Sequence[int] = (),
) -> list[int]:
    """Candidates whose best qualities have a high sum, and whose costs keep to a budget.

    The sum over the lesions of the best quality among the chosen is monotone and submodular: what
    a candidate adds never grows as others join. So the greedy choice, which takes what adds most
    for its cost as long as it fits, reaches 1 - 1/e = 63 % of the best choice where all cost alike
    (Nemhauser et al. 1978). Where costs differ, the better of it and of one that begins with the
    best single candidate reaches half of that (Leskovec et al. 2007). It stops where no candidate
    adds `LEAST_GAIN` to the mean. A larger budget never gives less.

    Args:
        quality: Quality of each candidate for each lesion, at least 0, shape (K, C).
        costs: Cost of each candidate, above 0, shape (C,).
        budget: Highest sum of costs.
        firsts: Candidates with which a choice may begin, beside the empty one.

    Returns:
        The candidates in the order of choice; none where none fits or adds anything.

    References:
        Nemhauser, Wolsey, Fisher, An analysis of approximations for maximizing submodular set
        functions, Mathematical Programming 14, 1978.
        Leskovec et al., Cost-effective outbreak detection in networks, KDD 2007.

    Examples:
        >>> import torch
        >>> quality = torch.tensor([[0.9, 0.0, 0.5], [0.0, 0.8, 0.5]])
        >>> greedy_choice(quality, torch.ones(3), 2)
        [2, 0]
        >>> greedy_choice(quality, torch.tensor([1.0, 1.0, 3.0]), 2)
        [0, 1]
    """
    begun = [[], *([first] for first in firsts if costs[first] <= budget + _ROUNDING)]
    choices = [_extended(quality, costs, budget, first) for first in begun]
    return max(choices, key=lambda choice: reached(quality, choice))


def reached(quality: Float[Tensor, "lesions candidates"], choice: Sequence[int]) -> float:
    """Sum of the lesions' best qualities among these candidates.

    Examples:
        >>> import torch
        >>> reached(torch.tensor([[0.5, 0.25], [0.0, 0.5]]), [0, 1])
        1.0
    """
    return float(quality[:, list(choice)].amax(dim=1).sum()) if len(choice) else 0.0


def _extended(quality: Tensor, costs: Tensor, budget: float | int, choice: list[int]) -> list[int]:
    """The choice with what adds most for its cost, again and again."""
    chosen = list(choice)
    best = quality.new_zeros(len(quality))
    if chosen:
        best = quality[:, chosen].amax(dim=1)
    left = budget + _ROUNDING - float(costs[chosen].sum())
    while True:
        gain = _gains(quality, best)
        least = LEAST_GAIN * len(quality) if chosen else 0.0
        fits = (costs <= left) & (gain > least)
        if not bool(fits.any()):
            return chosen
        pick = int((gain / costs).where(fits, -1.0).argmax())
        chosen.append(pick)
        best = torch.maximum(best, quality[:, pick])
        left -= float(costs[pick])


def _gains(quality: Tensor, best: Tensor) -> Float[Tensor, "candidates"]:
    """What each candidate adds to the sum of the best, some lesions at a time."""
    blocks = zip(quality.split(_ROWS_PER_BLOCK), best.split(_ROWS_PER_BLOCK), strict=True)
    gains = [(part - own[:, None]).clamp_(min=0).sum(dim=0) for part, own in blocks]
    return torch.stack(gains).sum(dim=0)
