"""MONAI's reductions of scores (batch, channel), in float64 throughout, and those of the papers.

What papers call "mIoU" is one of three things; Wang et al. (Revisiting Evaluation Metrics for
Semantic Segmentation, https://arxiv.org/abs/2310.19252) tell them apart, and so do these names:

| name | their symbol | what it is |
| --- | --- | --- |
| `"dataset"` | mIoU^D | sizes are added up over all voxels of all items; the mean over classes |
| `"image"` | mIoU^I | the mean over items of each one's mean over classes (MONAI's `"mean"`) |
| `"class"` | mIoU^C | the mean over classes of each one's mean over items |

`"dataset_batch"` leaves the classes of `"dataset"` apart, as `"mean_batch"` does those of
`"class"`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap.measures import Measure

DATASET_REDUCTIONS = ("dataset", "dataset_batch")
_OURS = {"dataset": "mean", "dataset_batch": "mean_batch", "image": "mean", "class": "class"}


def checked_reduction(reduction: MetricReduction | str) -> str:
    """The reduction's name: one of MONAI's or of ours."""
    name = reduction.value if isinstance(reduction, MetricReduction) else reduction
    known = [*(mode.value for mode in MetricReduction), *_OURS]
    if name not in known:
        raise ValueError(f"reduction must be one of {known}, got {reduction!r}")
    return name


def reduction_of(measure: Measure, reduction: MetricReduction | str) -> str:
    """The reduction's name, if the measure has such a one."""
    name = checked_reduction(reduction)
    if name in DATASET_REDUCTIONS and not measure.adds_up:
        raise ValueError(
            f"reduction must not be one of {list(DATASET_REDUCTIONS)}, since this score is not "
            f"formed from sums over items, got {reduction!r}"
        )
    return name


def reduce_statistics(
    measure: Measure, statistics: Float[Tensor, "items classes width"], reduction: str
) -> tuple[Float[Tensor, "*reduced"], Float[Tensor, "*counted"]]:
    """The reduced scores of what was kept of items, and how many of them counted."""
    if reduction in DATASET_REDUCTIONS:
        statistics = statistics.sum(dim=0, keepdim=True)
    return reduce_scores(measure.score(statistics), reduction)


def reduce_scores(
    scores: Float[Tensor, "batch channel"], reduction: MetricReduction | str
) -> tuple[Float[Tensor, "*reduced"], Float[Tensor, "*counted"]]:
    """The reduced scores and how many of them counted; NaN does not count.

    The modes are MONAI's: `"mean"` is the mean over items of the mean over their channels. Two
    things differ: nothing is cast to float32, and a mean over nothing is NaN where MONAI's is 0.
    The three of the papers are there too; for `"dataset"` the scores are those of the sums.
    """
    name = checked_reduction(reduction)
    valid = ~scores.isnan()
    if name == "class":
        classes, counted = _mean(scores, valid, dim=0)
        mean, count = _mean(classes, counted > 0, dim=0)
        return mean.reshape(1), count
    mode = MetricReduction(_OURS.get(name, name))
    if mode is MetricReduction.NONE:
        return scores, valid.to(scores.dtype)
    filled = torch.where(valid, scores, 0)  # an infinite distance stays infinite
    if mode is MetricReduction.SUM:
        return filled.sum(), valid.sum().to(scores.dtype)
    if mode is MetricReduction.MEAN:
        items, counted = _mean(scores, valid, dim=1)
        mean, count = _mean(items, counted > 0, dim=0)
        return mean.reshape(1), count  # the shape that MONAI gives
    dim = 0 if mode in (MetricReduction.MEAN_BATCH, MetricReduction.SUM_BATCH) else 1
    if mode in (MetricReduction.SUM_BATCH, MetricReduction.SUM_CHANNEL):
        return filled.sum(dim=dim), valid.sum(dim=dim).to(scores.dtype)
    return _mean(scores, valid, dim=dim)


def _mean(values: Tensor, valid: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    count = valid.sum(dim=dim).to(values.dtype)
    total = torch.where(valid, values, 0).sum(dim=dim)
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan), count
