"""Measures of masks and raters: the function of each, and its class over a few batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.frozen.inputs import DTYPES, blobs, label_maps, mask_pairs, uniform
from tests.frozen.names import api

Entries = dict[str, Callable[[], Any]]
Options = dict[str, Any]

SPACING = (1.0, 1.5, 2.0)
_SURFACE = {"include_background": True, "threshold": 0.5}

_OF_VOXELS: dict[str, Options] = {
    "compute_soft_dice": {},
    "compute_soft_iou": {},
    "compute_soft_tversky": {"alpha": 0.3, "beta": 0.7},
    "compute_thresholded_dice": {},
    "compute_thresholded_iou": {"thresholds": (0.25, 0.5)},
    "compute_dice_at_thresholds": {"thresholds": (0.25, 0.5)},
    "compute_iou_at_thresholds": {"thresholds": (0.25, 0.5)},
    "compute_expected_dice": {},
    "compute_expected_iou": {},
    "compute_expected_dice_bounds": {"bins": 16},
    "compute_expected_iou_bounds": {"bins": 16},
    "compute_best_threshold_dice": {"target_threshold": 0.5},
    "compute_brier": {"margin": None},
    "compute_calibration_error": {"margin": None, "num_bins": 10},
    "compute_volume_bias": {"spacing": 1.5},
    "compute_relative_volume_bias": {},
}
_WITHOUT_EMPTY = ("compute_brier", "compute_calibration_error", "compute_volume_bias")
_WITHOUT_EMPTY += ("compute_relative_volume_bias",)
_WITH_SPACING = ("compute_lesion_overlaps", "compute_thresholded_surface_dice")
_WITH_SPACING += ("compute_thresholded_hausdorff", "compute_lesion_recall")

_OF_LESIONS: dict[str, Options] = {
    "compute_lesionwise_dice": {"dilation": 1, "min_mm3": 0.0},
    "compute_lesion_recall": {"edges": (10.0, 40.0)},
    "compute_lesion_overlaps": {},
    "compute_false_positives": {},
    "compute_panoptic_quality": {"match_iou_threshold": 0.5},
    "compute_thresholded_surface_dice": {**_SURFACE, "class_thresholds": 1.5},
    "compute_thresholded_hausdorff": {**_SURFACE, "one_empty": 50.0},
}
_VARIANTS: dict[str, dict[str, Options]] = {
    "compute_lesionwise_dice": {
        "hard": {"soft": False},
        "no_dilation": {"dilation": 0},
        "large": {"min_mm3": 20.0},
    },
    "compute_lesion_recall": {
        "one_to_one": {"matching": "one_to_one", "hit": "iou", "hit_threshold": 0.4},
    },
    "compute_lesion_overlaps": {
        "one_to_one": {"matching": "one_to_one", "hit": "dice", "min_mm3": 5.0},
        "halo": {"halo": 0.3, "target_threshold": 0.6},
    },
    "compute_false_positives": {"ml": {"measure": "ml"}, "mm3": {"measure": "mm3"}},
    "compute_panoptic_quality": {"sq": {"metric_name": "sq"}, "rq": {"metric_name": "rq"}},
    "compute_thresholded_surface_dice": {"subvoxels": {"use_subvoxels": True}},
    "compute_thresholded_hausdorff": {"directed": {"directed": True, "percentile": None}},
    "compute_calibration_error": {
        "max": {"calibration_reduction": "maximum"},
        "near": {"margin": 2.0},
    },
    "compute_brier": {"near": {"margin": 2.0}, "near_mm": {"margin_mm": 2.0, "spacing": 1.5}},
    "compute_expected_dice": {"bins": {"method": "histogram", "bins": 16}},
    "compute_expected_iou": {"bins": {"method": "histogram", "bins": 16}},
    "compute_volume_bias": {"spacing": {"spacing": 2.0}},
}

_CLASSES: dict[str, tuple[Options, str]] = {
    "SoftDiceMetric": ({}, ""),
    "SoftIoUMetric": ({}, ""),
    "SoftTverskyMetric": ({"alpha": 0.3, "beta": 0.7}, ""),
    "ThresholdedDiceMetric": ({}, ""),
    "ThresholdedIoUMetric": ({}, ""),
    "ExpectedDiceMetric": ({"method": "histogram", "bins": 64}, "bounds"),
    "ExpectedIoUMetric": ({"method": "histogram", "bins": 64}, "bounds"),
    "BestThresholdDiceMetric": ({"target_threshold": 0.5}, "best_threshold"),
    "BrierMetric": ({"margin": 2.0}, ""),
    "CalibrationErrorMetric": ({"num_bins": 8}, "reliability"),
    "VolumeBiasMetric": ({"spacing": SPACING}, "volumes bland_altman"),
    "RelativeVolumeBiasMetric": ({"spacing": SPACING}, ""),
    "ThresholdedSurfaceDiceMetric": ({**_SURFACE, "class_thresholds": 1.5, "spacing": SPACING}, ""),
    "ThresholdedHausdorffMetric": (
        {**_SURFACE, "one_empty": 50.0, "spacing": SPACING},
        "one_empty_counts",
    ),
    "LesionwiseDiceMetric": ({"dilation": 1, "spacing": SPACING}, "counts"),
    "LesionRecallMetric": ({"edges": (20.0, 80.0), "spacing": SPACING}, "by_size overall"),
    "FalsePositiveMetric": ({"measure": "ml", "spacing": SPACING}, "per_scan"),
    "PanopticQualityMetric": ({"match_iou_threshold": 0.5}, "qualities"),
}
_REDUCTIONS = ("mean", "sum", "mean_batch", "mean_channel", "none", "image", "class", "dataset")


def entries() -> Entries:
    """Functions by number of axes and type, on label maps, on raters; and classes."""
    made: Entries = {}
    for name, dtype in DTYPES.items():
        for measure in _OF_VOXELS:
            for ndim in (1, 2, 3):
                made[f"{measure}/{ndim}d/{name}"] = partial(_of_voxels, measure, ndim, dtype)
        for measure in _OF_LESIONS:
            for ndim in (2, 3):
                made[f"{measure}/{ndim}d/{name}"] = partial(_of_lesions, measure, ndim, dtype)
        for measure in ("compute_rater_overlap", "compute_human_ceiling"):
            made[f"{measure}/{name}"] = partial(_of_raters, measure, dtype)
        made[f"compute_generalised_energy_distance/{name}"] = partial(_energy, dtype)
    return {**made, **_more_entries()}


def _more_entries() -> Entries:
    made: Entries = {}
    for measure in [*_OF_VOXELS, *_OF_LESIONS]:
        made[f"{measure}/labels"] = partial(_of_labels, measure)
    made.update({f"{name}/class": partial(_class, name) for name in _CLASSES})
    for name in ("RaterOverlapMetric", "HumanCeilingMetric", "GeneralisedEnergyDistanceMetric"):
        made[f"{name}/class"] = partial(_rater_class, name)
    made["compute_bland_altman/pairs"] = lambda: {
        str(count): api.compute_bland_altman(uniform(1, count), uniform(2, count))
        for count in (1, 2, 9)
    }
    return made


def _both(measure: str, *pair: Tensor, **options: Any) -> dict[str, Any]:
    """As by default, and with empty targets scored."""
    function = partial(api[measure], *pair, **options)
    if measure in _OF_VOXELS and measure not in _WITHOUT_EMPTY:
        return {"default": function(), "empty": function(ignore_empty=False, empty=0.5)}
    return {"default": function()}


def _of_voxels(measure: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    options, pairs = _OF_VOXELS[measure], mask_pairs(ndim)
    made: dict[str, Any] = {
        kind: _both(measure, *(mask.to(dtype) for mask in pair), **options)
        for kind, pair in pairs.items()
    }
    soft = [mask.to(dtype) for mask in pairs["soft"]]
    counted = uniform(5, 2, 1, *soft[0].shape[2:]).to(dtype)
    made["mask"] = api[measure](*soft, include_background=False, mask=counted, **options)
    for kind, more in _VARIANTS.get(measure, {}).items():
        made[kind] = api[measure](*soft, **{**options, **more})
    return made


def _of_lesions(measure: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    pred, target = (mask.to(dtype) for mask in blobs(ndim))
    options = {**_OF_LESIONS[measure], "spacing": SPACING[:ndim]}
    pairs = {
        "soft": (pred, target),
        "hard": ((pred >= 0.5).to(dtype), (target >= 0.5).to(dtype)),
        "empty_target": (pred, 0 * target),
        "both_empty": (0 * pred, 0 * target),
    }
    made: dict[str, Any] = {kind: api[measure](*pair, **options) for kind, pair in pairs.items()}
    for kind, more in _VARIANTS.get(measure, {}).items():
        made[kind] = api[measure](pred, target, **{**options, **more})
    if measure in ("compute_lesion_overlaps", "compute_lesion_recall", "compute_false_positives"):
        raters = torch.stack([target > level for level in (0.2, 0.5, 0.9)], dim=1)
        made["raters"] = api[measure](pred, target, raters=raters.to(dtype), **options)
    if measure == "compute_lesion_recall":
        options["weight_by"] = "existence"
        made["existence"] = api[measure](pred, target, raters=raters.to(dtype), **options)
    return made


def _of_labels(measure: str) -> dict[str, Any]:
    """Integer label maps of four classes, with and without background, one class left out."""
    options = dict({**_OF_VOXELS, **_OF_LESIONS}[measure])
    if measure in _WITH_SPACING:
        options["spacing"] = 1.5
    made: dict[str, Any] = {}
    for ndim in (2, 3):
        pair = label_maps(ndim)
        call = partial(api[measure], *pair, num_classes=4, **options)
        made[f"{ndim}d"] = call()
        made[f"{ndim}d_foreground"] = call(include_background=False)
        if measure not in ("compute_lesion_overlaps",):
            made[f"{ndim}d_ignored"] = call(ignore_index=2)
    return made


def _panel(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Predictions (3, 1, ...) and four raters (3, 4, ...), of whom one is empty; one item is."""
    pred, target = blobs(3, seed=5, batch=3)
    raters = torch.stack([target[:, 0] > level for level in (0.1, 0.5, 0.8, 2.0)], dim=1)
    raters[2] = False
    return pred.to(dtype), raters.to(dtype)


def _of_raters(measure: str, dtype: torch.dtype) -> dict[str, Any]:
    pred, raters = _panel(dtype)
    inputs = (pred, raters) if measure == "compute_rater_overlap" else (raters,)
    made: dict[str, Any] = {
        f"{against}_{overlap}": api[measure](*inputs, against=against, overlap=overlap)
        for against in ("each", "mean", "majority", "staple")
        for overlap in ("dice", "iou")
    }
    made["empty"] = api[measure](*inputs, ignore_empty=False, empty=0.5)
    return made


def _energy(dtype: torch.dtype) -> dict[str, Any]:
    pred, raters = _panel(dtype)
    samples = torch.cat([pred, pred.square(), 0 * pred], dim=1)
    distance = api.compute_generalised_energy_distance
    return {"default": distance(samples, raters), "empty": distance(samples, raters, empty=0.0)}


def _batches() -> list[tuple[Tensor, Tensor]]:
    """Two batches of two items and two classes; a target of the last item is empty."""
    batches = [blobs(3, seed=seed, channels=2) for seed in (1, 2)]
    batches[1][1][1, 0] = 0
    return batches


def _filled(metric: Any, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """What each batch gives, every reduction, the summary."""
    made: dict[str, Any] = {f"batch_{n}": metric(*pair) for n, pair in enumerate(batches)}
    for reduction in _REDUCTIONS:
        try:
            made[reduction] = metric.aggregate(reduction)
        except ValueError:
            made[reduction] = "refused"
    return {**made, "aggregate": metric.aggregate(), "summary": metric.summary()}


def _class(name: str) -> dict[str, Any]:
    options, more = _CLASSES[name]
    metric = api[name](**options)
    made = _filled(metric, _batches())
    return {**made, **{method: getattr(metric, method)() for method in more.split()}}


def _rater_class(name: str) -> dict[str, Any]:
    pred, raters = _panel(torch.float64)
    if name == "GeneralisedEnergyDistanceMetric":
        pred = torch.cat([pred, pred.square()], dim=1)
    return _filled(api[name](), [(pred[:2], raters[:2]), (pred[2:], raters[2:])])
