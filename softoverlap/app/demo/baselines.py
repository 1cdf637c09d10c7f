"""What the trained detector is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softoverlap.app.train import (
    Evaluation,
    LesionDetector,
    detect,
    evaluate,
    fresh_detector,
    scan_target,
)
from softoverlap.images import LoadedCase, Volume
from softoverlap.lesions import threshold_boxes

Finder = Callable[[LoadedCase], dict[str, Tensor]]
"""Boxes, labels and scores of a scan, as `compute_froc` takes them."""


@dataclass(frozen=True)
class Threshold:
    """The plain baseline: bright voxels joined to components, ranked by `score`."""

    level: float
    score: str

    def boxes(self, scan: LoadedCase) -> dict[str, Tensor]:
        """Boxes and scores of a scan, as `compute_froc` takes them."""
        return threshold_boxes(scan.image, self.level, spacing=scan.spacing, score=self.score)


def fit_threshold(scans: Sequence[LoadedCase]) -> Threshold:
    """The intensity with the highest CPM on these scans, and then the better ranking."""

    def cpm(one: Threshold) -> float:
        return judge(one.boxes, scans).summary["cpm"] or 0.0

    pooled = torch.cat([scan.image.flatten()[::16] for scan in scans])
    levels = torch.quantile(pooled, torch.tensor([0.95, 0.97, 0.98, 0.99, 0.995])).tolist()
    level = max(levels, key=lambda level: cpm(Threshold(level, "mean")))
    return max((Threshold(level, score) for score in ("mean", "volume")), key=cpm)


def untrained(model: LesionDetector, seed: int) -> Finder:
    """The network before its first step; its scores start near 0.01, so none is cut."""
    settings = {**model.settings, "lowest_score": 0.0}
    fresh = fresh_detector(settings, seed=seed, device=model.device)
    return lambda scan: detect(fresh, Volume(scan.image, scan.affine)).prediction


def judge(find: Finder, scans: Sequence[LoadedCase], at: float | str = "f1") -> Evaluation:
    """How good it is on these scans, at a score threshold or at the best one."""
    targets = [scan_target(scan) for scan in scans]
    return evaluate([find(scan) for scan in scans], targets, at=at)
