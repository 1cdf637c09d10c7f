"""Calls as they were when their values were frozen, made out of today's parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import softoverlap
from softoverlap.for_monai import MeasureMetric, OutcomesMetric, reduce_scores
from softoverlap.measures import BoxAR, ExpectedBounds, ScoreExistence


@dataclass(frozen=True)
class OldCall:
    """A call of old; what it `uses` are the public names of today that it calls."""

    uses: tuple[str, ...]
    call: Callable[..., Any]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.call(*arguments, **options)


class _OldMetric(MeasureMetric):
    """With the methods that the class of each measure had."""

    measure: Any

    reliability = bland_altman = MeasureMetric.details
    one_empty_counts = per_scan = qualities = MeasureMetric.details
    volumes = MeasureMetric.statistics

    def bounds(self) -> ExpectedBounds:
        bounds = self.measure.bounds(self.statistics())
        return ExpectedBounds(*(reduce_scores(bound, self.reduction)[0] for bound in bounds))

    def best_threshold(self) -> Any:
        return self.measure.best(self.statistics().sum(dim=0))

    def by_size(self) -> dict[str, Any]:
        names = self.measure.size_names
        return {
            label: {name: sizes[name] for name in names} for label, sizes in self.details().items()
        }

    def overall(self) -> dict[str, Any]:
        return {label: sizes["all sizes"] for label, sizes in self.details().items()}


def _function(name: str, read: str | None = None, **always: Any) -> OldCall:
    """The function that a measure was; `read` is the method that reads its statistics."""

    def call(*inputs: Any, **options: Any) -> Any:
        beside = {key: options.pop(key) for key in ("mask", "raters") if key in options}
        measure = getattr(softoverlap, name)(**always, **_renamed(name, options))
        if read is None:
            return measure(*inputs, **beside)
        if read == "matches":
            return measure.matches(*inputs, **beside)
        return getattr(measure, read)(measure.statistics(*inputs, **beside))

    return OldCall((name,), call)


def _metric(name: str, reduction: str = "mean") -> OldCall:
    """The class of MONAI's kind that a measure had."""

    def call(**options: Any) -> _OldMetric:
        return _OldMetric(getattr(softoverlap, name)(**_renamed(name, options)), reduction)

    return OldCall((name, "MeasureMetric"), call)


def _renamed(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options under the names of today."""
    today = {
        "FalsePositives": {"measure": "measured_in"},
        "PanopticQuality": {"match_iou_threshold": "match_iou"},
        "ThresholdedSurfaceDice": {"class_thresholds": "tolerance"},
    }.get(name, {})
    return {today.get(key, key): value for key, value in options.items()}


def _match_scan(*arguments: Any, **options: Any) -> tuple[Any, Any]:
    outcomes = softoverlap.match_scan(*arguments, **options)
    return outcomes.outcome.flatten(), outcomes.lesion.flatten()


_MEASURES = {
    "brier": "Brier",
    "calibration_error": "CalibrationError",
    "expected_dice": "ExpectedDice",
    "expected_iou": "ExpectedIoU",
    "false_positives": "FalsePositives",
    "generalised_energy_distance": "GeneralisedEnergyDistance",
    "human_ceiling": "HumanCeiling",
    "panoptic_quality": "PanopticQuality",
    "rater_overlap": "RaterOverlap",
    "relative_volume_bias": "RelativeVolumeBias",
    "soft_tversky": "SoftTversky",
    "thresholded_dice": "ThresholdedDice",
    "thresholded_hausdorff": "ThresholdedHausdorff",
    "thresholded_iou": "ThresholdedIoU",
    "thresholded_surface_dice": "ThresholdedSurfaceDice",
    "volume_bias": "VolumeBias",
}
_HISTOGRAM = {"read": "bounds", "method": "histogram"}
_KEPT_CLASSES = ("SoftTversky", "ThresholdedDice")

OLD_CALLS = {
    **{f"compute_{old}": _function(name) for old, name in _MEASURES.items()},
    **{
        f"{name}Metric": _metric(name)
        for name in _MEASURES.values()
        if name not in (*_KEPT_CLASSES, "FalsePositives")
    },
    "compute_best_threshold_dice": _function("BestThresholdDice", "best", thresholds=None),
    "compute_dice_at_thresholds": _function("ThresholdedDice", "curve"),
    "compute_iou_at_thresholds": _function("ThresholdedIoU", "curve"),
    "compute_expected_dice_bounds": _function("ExpectedDice", **_HISTOGRAM),
    "compute_expected_iou_bounds": _function("ExpectedIoU", **_HISTOGRAM),
    "compute_lesion_overlaps": _function("LesionRecall", "matches"),
    "compute_lesion_recall": _function("LesionRecall", "by_size"),
    "BestThresholdDiceMetric": _metric("BestThresholdDice", "dataset"),
    "FalsePositiveMetric": _metric("FalsePositives"),
    "LesionRecallMetric": _metric("LesionRecall"),
    "BoxARMetric": OldCall((), lambda: OutcomesMetric(BoxAR())),
    "ScoreExistenceMetric": OldCall((), lambda: OutcomesMetric(ScoreExistence())),
    "match_scan": OldCall(("match_scan",), _match_scan),
}
"""Frozen name -> the call."""
