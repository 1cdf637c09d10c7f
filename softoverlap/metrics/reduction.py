"""MONAI's reductions of scores (batch, channel), in float64 throughout."""

from __future__ import annotations

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor


def reduce_scores(
    scores: Float[Tensor, "batch channel"], reduction: MetricReduction | str
) -> tuple[Float[Tensor, "*reduced"], Float[Tensor, "*counted"]]:
    """The reduced scores and how many of them counted; NaN does not count.

    The modes are MONAI's: `"mean"` is the mean over items of the mean over their channels. Two
    things differ: nothing is cast to float32, and a mean over nothing is NaN where MONAI's is 0.
    """
    mode = MetricReduction(reduction)
    valid = ~scores.isnan()
    if mode is MetricReduction.NONE:
        return scores, valid.to(scores.dtype)
    filled = scores.nan_to_num(nan=0.0)
    if mode is MetricReduction.SUM:
        return filled.sum(), valid.sum().to(scores.dtype)
    if mode is MetricReduction.MEAN:
        items, counted = _mean(filled, valid, dim=1)
        mean, count = _mean(items.nan_to_num(nan=0.0), counted > 0, dim=0)
        return mean.reshape(1), count  # the shape that MONAI gives
    dim = 0 if mode in (MetricReduction.MEAN_BATCH, MetricReduction.SUM_BATCH) else 1
    if mode in (MetricReduction.SUM_BATCH, MetricReduction.SUM_CHANNEL):
        return filled.sum(dim=dim), valid.sum(dim=dim).to(scores.dtype)
    return _mean(filled, valid, dim=dim)


def _mean(values: Tensor, valid: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    count = valid.sum(dim=dim).to(values.dtype)
    total = torch.where(valid, values, 0).sum(dim=dim)
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan), count
