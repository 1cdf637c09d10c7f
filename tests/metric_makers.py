"""Every metric with its arguments and a small data set, for tests that hold for all of them."""

from __future__ import annotations

import torch

from softoverlap.metrics import (
    BoxAPMetric,
    FROCMetric,
    SoftDiceMetric,
    SoftIoUMetric,
    SoftTverskyMetric,
)

ITEMS = 5

OF_MASKS = {
    "soft_dice": SoftDiceMetric,
    "soft_iou": lambda: SoftIoUMetric(reduction="dataset"),
    "soft_tversky": lambda: SoftTverskyMetric(alpha=0.3, beta=0.7, reduction="class"),
}
OF_BOXES = {
    "froc": FROCMetric,
    "box_ap": BoxAPMetric,
}
METRICS = OF_MASKS | OF_BOXES


def item_of(name, number):
    """A list of one prediction and one of its target; the third scan has no lesion."""
    generator = torch.Generator().manual_seed(number)
    if name in OF_BOXES:
        return _boxes(number, generator)
    pred, truth = torch.rand(2, 2, 6, 7, 8, generator=generator, dtype=torch.float64)
    if number == 2:
        truth[:] = 0
    return [pred], [truth]


def _boxes(number, generator):
    count = 0 if number == 2 else 3
    low = 10 * torch.rand(count, 3, generator=generator)
    box = torch.cat([low, low + 4], dim=1)
    moved = torch.cat([box + 0.5, box[:1] + 20])
    label = torch.tensor([0, 1, 0][:count])
    found = torch.cat([label, torch.zeros(len(moved) - count, dtype=torch.long)])
    scores = torch.rand(len(moved), generator=generator)
    prediction = {"box": moved, "label": found, "label_scores": scores}
    return [prediction], [{"box": box, "label": label}]
