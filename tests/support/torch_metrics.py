"""The metrics of `metric_makers` as torchmetrics has them."""

from __future__ import annotations

import torch

from softoverlap.for_torchmetrics import MeasureMetric, OutcomesMetric
from tests.support.metric_makers import METRICS, OF_BOXES, item_of


def metric_of(name):
    ours = METRICS[name]()
    if name in OF_BOXES:
        return OutcomesMetric(ours.measure)
    return MeasureMetric(ours.measure, ours.reduction)


def batch_of(name, number):
    """A batch of one scan: tensors, or lists of dicts."""
    item = item_of(name, number)
    return item if name in OF_BOXES else [torch.stack(masks) for masks in item]
