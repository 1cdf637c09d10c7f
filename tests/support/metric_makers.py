"""Every metric with its arguments and a small data set, for tests that hold for all of them."""

from __future__ import annotations

import torch

from softoverlap import measures as metrics

ITEMS, EXTRA = 5, 7
SPACING = (1.0, 1.0, 2.0)

OF_MASKS = {
    "soft_dice": metrics.SoftDiceMetric,
    "soft_iou": lambda: metrics.SoftIoUMetric(reduction="dataset"),
    "soft_tversky": lambda: metrics.SoftTverskyMetric(alpha=0.3, beta=0.7, reduction="class"),
    "thresholded_dice": metrics.ThresholdedDiceMetric,
    "thresholded_iou": metrics.ThresholdedIoUMetric,
    "expected_dice": metrics.ExpectedDiceMetric,
    "expected_iou": metrics.ExpectedIoUMetric,
    "best_threshold_dice": lambda: metrics.BestThresholdDiceMetric(target_threshold=0.5),
    "brier": lambda: metrics.BrierMetric(reduction="dataset"),
    "calibration_error": lambda: metrics.CalibrationErrorMetric(metric_reduction="dataset"),
    "volume_bias": lambda: metrics.VolumeBiasMetric(spacing=SPACING),
    "relative_volume_bias": lambda: metrics.RelativeVolumeBiasMetric(spacing=SPACING),
    "surface_dice": lambda: metrics.ThresholdedSurfaceDiceMetric(
        1.5, include_background=True, threshold=0.8, spacing=SPACING
    ),
    "hausdorff": lambda: metrics.ThresholdedHausdorffMetric(
        include_background=True, threshold=0.8, spacing=SPACING, one_empty=50.0
    ),
    "lesionwise_dice": lambda: metrics.LesionwiseDiceMetric(
        threshold=0.9, dilation=0, connectivity=6, min_mm3=0.0, spacing=SPACING
    ),
    "lesion_recall": lambda: metrics.LesionRecallMetric(
        threshold=0.9, connectivity=6, spacing=SPACING
    ),
    "false_positives": lambda: metrics.FalsePositiveMetric(
        threshold=0.9, connectivity=6, spacing=SPACING
    ),
    "panoptic_quality": lambda: metrics.PanopticQualityMetric(threshold=0.9, connectivity=6),
}
OF_RATERS = {
    "rater_overlap": metrics.RaterOverlapMetric,
    "human_ceiling": metrics.HumanCeilingMetric,
    "energy_distance": metrics.GeneralisedEnergyDistanceMetric,
}
OF_BOXES = {
    "froc": metrics.FROCMetric,
    "box_ap": lambda: metrics.BoxAPMetric(thresholds="nndetection"),
    "box_ar": lambda: metrics.OutcomesMetric(metrics.BoxAR()),
    "score_existence": lambda: metrics.OutcomesMetric(metrics.ScoreExistence()),
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
        return [pred if name == "energy_distance" else pred[:1]], [raters]
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
