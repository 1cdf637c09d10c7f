"""What the trained detector is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softoverlap.app.train import (
    Evaluation,
    LesionDetector,
    TrainingScan,
    build_detector,
    detect,
    evaluate,
    scan_target,
)
from softoverlap.lesions import threshold_boxes

Finder = Callable[[TrainingScan], dict[str, Tensor]]
"""Boxes, labels and scores of a scan, as `compute_froc` takes them."""


@dataclass(frozen=True)
class Threshold:
    """The plain baseline: bright voxels joined to components, ranked by `score`."""

    level: float
    score: str

    def boxes(self, scan: TrainingScan) -> dict[str, Tensor]:
        """Boxes and scores of a scan, as `compute_froc` takes them."""
        image = scan.image
        return threshold_boxes(image.data, self.level, spacing=image.spacing, score=self.score)


def fit_threshold(scans: Sequence[TrainingScan]) -> Threshold:
    """The intensity and the ranking with the highest CPM on these scans."""
    pooled = torch.cat([scan.image.data.flatten()[::16] for scan in scans])
    levels = torch.quantile(pooled, torch.tensor([0.95, 0.97, 0.98, 0.99, 0.995])).tolist()
    candidates = [Threshold(level, score) for level in levels for score in ("mean", "volume")]
    return max(candidates, key=lambda one: judge(one.boxes, scans).summary["cpm"] or 0.0)


def untrained(model: LesionDetector) -> Finder:
    """The network before its first step; its scores start near 0.01, so none is cut."""
    config = replace(model.config, score_threshold=0.0)
    fresh = build_detector(config, model.spacing, model.intensity)
    fresh.detector.to(model.device)
    return lambda scan: detect(fresh, scan.image).prediction


def judge(find: Finder, scans: Sequence[TrainingScan], at: float | str = "f1") -> Evaluation:
    """How good it is on these scans, at a score threshold or at the best one."""
    targets = [scan_target(scan) for scan in scans]
    return evaluate([find(scan) for scan in scans], targets, at=at)
