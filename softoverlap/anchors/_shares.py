"""How the positives of an image, or of one lesion, share a sum of weights."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def scaled_to_count(weight: Float[Tensor, "positives"]) -> Float[Tensor, "positives"]:
    """Weights scaled so that their mean is 1; all are 1 if all were 0."""
    total = weight.sum()
    safe_total = torch.where(total > 0, total, 1)
    return torch.where(total > 0, weight * (len(weight) / safe_total), 1.0)


def equal_sums(
    weight: Float[Tensor, "positives"], lesion: Int[Tensor, "positives"]
) -> Float[Tensor, "positives"]:
    """Weights scaled so that every lesion has the same sum; the total stays."""
    _, group, members = lesion.unique(return_inverse=True, return_counts=True)
    sums = weight.new_zeros(len(members)).index_add(0, group, weight)[group]
    safe_sums = torch.where(sums > 0, sums, 1)
    within = torch.where(sums > 0, weight / safe_sums, 1 / members[group].to(weight.dtype))
    return within * (weight.sum() / max(1, len(members)))


def rank_weights(
    quality: Float[Tensor, "positives"], lesion: Int[Tensor, "positives"]
) -> Float[Tensor, "positives"]:
    """2 (n - r) / (n + 1) for rank r among the n positives of a lesion; equals share a rank."""
    pairs = torch.stack([lesion.to(torch.float64), -quality.to(torch.float64)], dim=1)
    _, place, equals = pairs.unique(dim=0, return_inverse=True, return_counts=True)
    _, group, members = lesion.unique(return_inverse=True, return_counts=True)
    before = (equals.cumsum(0) - equals)[place] - (members.cumsum(0) - members)[group]
    rank = before + (equals[place] - 1) / 2
    count = members[group]
    return (2 * (count - rank) / (count + 1)).to(quality.dtype)
