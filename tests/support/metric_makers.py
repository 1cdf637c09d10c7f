"""Every metric with its arguments and a small data set, for tests that hold for all of them."""

from __future__ import annotations

import inspect

import torch

from softoverlap import for_monai, measures as metrics
from softoverlap.for_monai import MeasureMetric
from softoverlap.measures import Measure

ITEMS, EXTRA = 5, 7
SPACING = (1.0, 1.0, 2.0)

LESIONS = {"threshold": 0.9, "connectivity": 6, "spacing": SPACING}
SURFACES = {"include_background": True, "threshold": 0.8, "spacing": SPACING}
SETTINGS = {  # of measures that need some, or see more with them
    "BestThresholdDice": {"target_threshold": 0.5},
    "RelativeVolumeBias": {"spacing": SPACING},
    "FalsePositives": LESIONS,
    "LesionRecall": LESIONS,
    "LesionwiseDice": LESIONS | {"dilation": 0, "min_mm3": 0.0},
    "PanopticQuality": LESIONS,
    "SoftTversky": {"alpha": 0.3, "beta": 0.7},
    "ThresholdedHausdorff": SURFACES | {"one_empty": 50.0},
    "ThresholdedSurfaceDice": SURFACES | {"tolerance": 1.5},
    "VolumeBias": {"spacing": SPACING},
}
REDUCTIONS = {
    "BestThresholdDice": "dataset",
    "Brier": "dataset",
    "CalibrationError": "dataset",
    "SoftIoU": "dataset",
    "SoftTversky": "class",
}


def _metric(name, measure):
    return lambda: MeasureMetric(measure(**SETTINGS.get(name, {})), REDUCTIONS.get(name, "mean"))


def _measures(*rooms):
    offered = {name: getattr(room, name) for room in rooms for name in room.__all__}
    kinds = {n: k for n, k in offered.items() if isinstance(k, type) and issubclass(k, Measure)}
    return {name: kind for name, kind in kinds.items() if not inspect.isabstract(kind)}


_MAKERS = {name: _metric(name, kind) for name, kind in _measures(metrics, for_monai).items()}
OF_RATERS = {
    name: _MAKERS.pop(name)
    for name in ("RaterOverlap", "HumanCeiling", "GeneralisedEnergyDistance")
}
OF_MASKS = {
    "soft_dice": for_monai.SoftDiceMetric,
    "soft_iou": lambda: for_monai.SoftIoUMetric(reduction="dataset"),
    "soft_tversky": lambda: for_monai.SoftTverskyMetric(alpha=0.3, beta=0.7, reduction="class"),
    "thresholded_dice": for_monai.ThresholdedDiceMetric,
    "lesionwise_dice": lambda: for_monai.LesionwiseDiceMetric(**SETTINGS["LesionwiseDice"]),
    **_MAKERS,
}
OF_BOXES = {
    "froc": for_monai.FROCMetric,
    "box_ap": lambda: for_monai.BoxAPMetric(thresholds="nndetection"),
    "box_ar": lambda: for_monai.OutcomesMetric(metrics.BoxAR()),
    "score_existence": lambda: for_monai.OutcomesMetric(metrics.ScoreExistence()),
}
METRICS = OF_MASKS | OF_RATERS | OF_BOXES


def item_of(name, number):
    """A list of one prediction and one of its target; the third scan has no lesion."""
    generator = torch.Generator().manual_seed(number)
    if name in OF_BOXES:
        return _boxes(number, generator)
    pred, truth = torch.rand(2, 2, 6, 7, 8, generator=generator, dtype=torch.float64)
    if number == 2:
        truth[:] = 0
    if name in OF_RATERS:  # two samples or one prediction, three raters
        raters = torch.stack([truth.mean(dim=0) > level for level in (0.4, 0.5, 0.6)]).double()
        return [pred if name == "GeneralisedEnergyDistance" else pred[:1]], [raters]
    return [pred], [truth]


def _boxes(number, generator):
    count = 0 if number == 2 else 3
    low = 10 * torch.rand(count, 3, generator=generator)
    box = torch.cat([low, low + 4], dim=1)
    moved = torch.cat([box + 0.5, torch.full((1, 6), 30.0) + torch.tensor([0.0] * 3 + [2.0] * 3)])
    label = torch.tensor([0, 1, 0][:count], dtype=torch.long)
    found = torch.cat([label, torch.zeros(len(moved) - count, dtype=torch.long)])
    scores = torch.rand(len(moved), generator=generator)
    prediction = {"box": moved, "label": found, "label_scores": scores}
    existence = torch.rand(count, generator=generator)
    return [prediction], [{"box": box, "label": label, "existence": existence}]
