"""Naive float64 references of the threshold metrics: one pass a threshold, sharing no code."""

from __future__ import annotations

import itertools
import math

import numpy as np


def reference_at_threshold(a, b, threshold, kind, empty=1.0, weights=None):
    """Dice or IoU of both maps, each cut at the threshold."""
    first = [float(value) >= threshold for value in np.ravel(a)]
    second = [float(value) >= threshold for value in np.ravel(b)]
    return _overlap(first, second, kind, empty, weights)


def reference_thresholded(a, b, thresholds, kind, empty=1.0, weights=None):
    found = [reference_at_threshold(a, b, t, kind, empty, weights) for t in thresholds]
    known = [value for value in found if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def reference_expected(a, b, kind, empty=1.0, weights=None):
    """The score is the same at all thresholds between two neighbouring values: sum it over them."""
    values = sorted({0.0, *map(float, np.ravel(a)), *map(float, np.ravel(b))})
    total = 0.0
    for low, high in itertools.pairwise(values):
        total += (high - low) * reference_at_threshold(a, b, high, kind, empty, weights)
    return total / values[-1] if values[-1] else empty


def reference_best_dice(pred, target, thresholds=None):
    """The best Dice and all thresholds that reach it within rounding; the target is as it is."""
    if thresholds is None:
        thresholds = sorted({float(value) for value in np.ravel(pred) if value > 0})
    scores = []
    for threshold in thresholds:
        kept = [1.0 if float(value) >= threshold else 0.0 for value in np.ravel(pred)]
        scores.append(_overlap(kept, [float(value) for value in np.ravel(target)], "dice", 1.0))
    best = max(scores)
    return best, [t for t, score in zip(thresholds, scores, strict=True) if score > best - 1e-12]


def _overlap(first, second, kind, empty, weights=None):
    weights = [1.0] * len(first) if weights is None else [float(w) for w in np.ravel(weights)]
    both = sum(w * min(x, y) for x, y, w in zip(first, second, weights, strict=True))
    either = sum(w * max(x, y) for x, y, w in zip(first, second, weights, strict=True))
    if not either:
        return empty
    return 2 * both / (both + either) if kind == "dice" else both / either
