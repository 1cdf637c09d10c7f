"""The score threshold of a trained detector, chosen on scans that it did not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from softoverlap.app.train.checkpoint import LesionDetector
from softoverlap.app.train.evaluation import Evaluation, evaluate, scan_target
from softoverlap.app.train.inference import detect
from softoverlap.app.train.scans import TrainingScan

NO_GAIN = 1.0
"""The score that stands for none: a probability above which no box lies."""


def choose_threshold(
    model: LesionDetector,
    scans: Sequence[TrainingScan],
    at: float | int | str = "f1",
    *,
    kind: str = "validation",
    progress: Callable[[str], None] | None = None,
) -> tuple[LesionDetector, Evaluation]:
    """Choose the score from which on a box is a finding.

    Args:
        model: A trained detector.
        scans: Scans with their lesions, best such that the detector never saw.
        at: `"f1"` for the highest F1, `"fp:1"` for at most one false positive a scan (or another
            number), or the threshold itself; see `operating_point`.
        kind: What the scans are, for `threshold_rule`: validation, or training if there are none.
        progress: Called with the name of each scan that is done.

    Returns:
        The detector with its `score_threshold` and `threshold_rule`, and how good it is on these
        scans. Where no score gains anything, the threshold is 1, and `threshold_rule` says so.

    Raises:
        ValueError: If there is no scan, or `at` is no rule.

    Examples:
        >>> import torch
        >>> from softoverlap.app.train import Intensity, TrainingConfig, build_detector
        >>> from softoverlap.images import Volume
        >>> model = build_detector(TrainingConfig(patch_size=16), (1.0,) * 3, Intensity("scan"))
        >>> image = Volume(torch.rand(16, 16, 16), torch.eye(4, dtype=torch.float64))
        >>> chosen, _ = choose_threshold(model, [TrainingScan("scan", image, [])], 0.4)
        >>> chosen.score_threshold, chosen.threshold_rule
        (0.4, 'given')
    """
    predictions = []
    for scan in scans:
        predictions.append(detect(model, scan.image).prediction)
        if progress is not None:
            progress(scan.name)
    result = evaluate(predictions, [scan_target(scan) for scan in scans], at=at)
    threshold, rule = result.point.threshold, result.point.rule
    words = f"{len(scans)} {kind} scan" + ("" if len(scans) == 1 else "s")
    if math.isinf(threshold):
        threshold, words = NO_GAIN, f"{words}, where no score gains anything"
    chosen = replace(
        model,
        score_threshold=threshold,
        threshold_rule="given" if rule is None else f"{rule} on {words}",
    )
    return chosen, result
