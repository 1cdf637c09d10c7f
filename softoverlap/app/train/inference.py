"""Lesions found by one detector, or by several together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.app.train.checkpoint import LesionDetector
from softoverlap.app.train.detections import Detections, check_channels, detect_alone, scan_of
from softoverlap.images import Volume
from softoverlap.suppression import weighted_box_clustering

_FLIPS = tuple(axes for count in range(4) for axes in combinations(range(3), count))
"""Every choice of axes of a scan."""

_ALIKE = ("in_channels", "num_classes", "channel_names", "class_names", "class_values")
"""Settings that detectors must share to be joined."""


def detect(
    model: LesionDetector | Sequence[LesionDetector], image: Volume | Tensor, *, tta: bool = False
) -> Detections:
    """Find lesions in a scan, window by window.

    The scan is brought to the axes, spacing and intensities of the training, and boxes and heat map
    come back on its own grid. The network runs once: the heat map is read from the same maps as the
    boxes, the highest score of any anchor and class at each place. It is interpolated between
    places, so its peaks are a little lower than the best box's score.

    What several detectors find, such as those of the folds of a data set, is joined: boxes by
    `weighted_box_clustering`, where a box that only k of n detectors found has k of n shares of
    their mean score; heat maps and score thresholds by their mean. What is found in flips of the
    scan is joined in the same way.

    Args:
        model: A trained detector, or several of the same channels and classes.
        image: The scan: a volume, or a `MetaTensor` of shape (C, D, H, W) with its affine.
        tta: Test-time augmentation: each detector also looks at the scan flipped along any of its
            axes, eight times in all.

    Returns:
        Boxes in voxels of the scan, scores, labels and heat map, on the CPU.

    Raises:
        TypeError: If the image has no affine.
        ValueError: If the image has other channels than the scans of the training, or an intensity
            is not finite, or the detectors cannot be joined.

    Examples:
        >>> from softoverlap.app.train import fresh_detector
        >>> model = fresh_detector({"patch_size": [16, 16, 16]})
        >>> scan = Volume(torch.rand(20, 20, 10), torch.eye(4, dtype=torch.float64))
        >>> detect(model, scan).heat_map.shape
        torch.Size([20, 20, 10])
    """
    models, scan = together(model), scan_of(image)
    check_channels(scan, models[0])
    if not bool(torch.isfinite(scan.data).all()):
        raise ValueError("image must hold finite intensities, got NaN or infinity")
    flips = _FLIPS if tta else ((),)
    return _joined(models, [_flipped(one, scan, axes) for one in models for axes in flips])


def _flipped(model: LesionDetector, scan: Volume, axes: Sequence[int]) -> Detections:
    """What a detector finds in the scan flipped along these axes, brought back."""
    if not axes:
        return detect_alone(model, scan)
    found = detect_alone(model, Volume(scan.data.flip([axis - 3 for axis in axes]), scan.affine))
    box = found.box.clone()
    for axis in axes:
        box[:, axis] = scan.grid[axis] - found.box[:, axis + 3]
        box[:, axis + 3] = scan.grid[axis] - found.box[:, axis]
    return replace(found, box=box, heat_map=found.heat_map.flip(list(axes)))


def together(model: LesionDetector | Sequence[LesionDetector]) -> list[LesionDetector]:
    """One or several detectors as a list, if they have channels and classes in common."""
    models = list(model) if isinstance(model, Sequence) else [model]
    if not models:
        raise refusal("model", "must be a detector, or several, got none")
    for name in _ALIKE:
        first, *others = (one.settings[name] for one in models)
        for other in others:
            if other != first:
                raise refusal(
                    "model", f"must be detectors with the same {name}, got {first} and {other}"
                )
    return models


def threshold_of(models: Sequence[LesionDetector]) -> tuple[float | int | None, str | None]:
    """The mean of the score thresholds with its rule in words; None if a detector has none."""
    if len(models) == 1:
        return models[0].score_threshold, models[0].threshold_rule
    levels = [one.score_threshold for one in models if one.score_threshold is not None]
    if len(levels) < len(models):
        return None, None
    rules = dict.fromkeys(one.threshold_rule or "given" for one in models)
    return sum(levels) / len(levels), f"mean of {len(models)} detectors: {'; '.join(rules)}"


def _joined(models: Sequence[LesionDetector], found: Sequence[Detections]) -> Detections:
    if len(found) == 1:
        return found[0]
    selectors = [one.detector.box_selector for one in models]
    scores, labels = torch.cat([one.scores for one in found]), torch.cat([o.label for o in found])
    boxes, scores, heads = weighted_box_clustering(
        torch.cat([one.box for one in found]), scores,
        max(each.nms_thresh for each in selectors),  # so that boxes of one detector stay apart
        labels, expected=torch.full_like(scores, len(found)),
    )  # fmt: skip
    kept = (scores > min(each.score_thresh for each in selectors)).nonzero()[:, 0]
    kept = kept[: max(each.detections_per_img for each in selectors)]
    threshold, rule = threshold_of(models)
    anchors = [one.smallest_anchor for one in found if one.smallest_anchor is not None]
    return Detections(
        box=boxes[kept].float(),
        label=labels[heads[kept]],
        scores=scores[kept].float(),
        heat_map=torch.stack([one.heat_map for one in found]).mean(dim=0),
        score_threshold=threshold,
        threshold_rule=rule,
        smallest_anchor=tuple(map(min, zip(*anchors, strict=True))),
        class_values=found[0].class_values,
    )
