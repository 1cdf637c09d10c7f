"""Naive float64 references of lesions' scores and of their calibration, by their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.support.reference_lesions import reference_components


def reference_lesion_scores(image, spacing, threshold, reach_mm):
    """Of each component its maximum, mean, mass above background and soft Dice with its halo."""
    labels = reference_components(image >= threshold, image.ndim)
    voxel, scores = math.prod(spacing), []
    for number in range(1, labels.max() + 1):
        own = [tuple(place) for place in np.argwhere(labels == number)]
        inside = [float(image[place]) for place in own]
        around = [
            float(image[place])
            for place in itertools.product(*map(range, image.shape))
            if labels[place] == 0 and min(_mm(place, o, spacing) for o in own) <= reach_mm + 1e-9
        ]
        ground = sum(around) / len(around) if around else 0.0
        mass = sum(max(p - ground, 0.0) for p in inside) * voxel
        dice = 2 * sum(inside) / (len(inside) + sum(inside) + sum(around))
        scores.append([max(inside), sum(inside) / len(inside), mass, dice])
    return scores


def _mm(place, other, spacing):
    return math.dist(
        *([axis * e for axis, e in zip(p, spacing, strict=True)] for p in (place, other))
    )


def reference_loss(weights, bias, features, hits):
    """Regularised logistic loss of a calibration, candidate by candidate."""
    columns = [[math.copysign(math.log1p(abs(x)), x) for x in row] for row in features]
    loss = 0.0
    for row, hit in zip(columns, hits, strict=True):
        logit = bias + sum(w * x for w, x in zip(weights, row, strict=True))
        loss += math.log1p(math.exp(-logit if hit else logit))
    for weight, column in zip(weights, zip(*columns, strict=True), strict=True):
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        loss += 0.5 * (weight**2) * variance
    return loss


def reference_calibration_error(probabilities, hits, bins=10):
    """Of distinct probabilities: ten runs of neighbours, as equal in number as can be."""
    pairs, total = sorted(zip(probabilities, hits, strict=True)), 0.0
    for number in range(bins):
        long = len(pairs) % bins
        start = number * (len(pairs) // bins) + min(number, long)
        part = pairs[start : start + len(pairs) // bins + (number < long)]
        total += abs(sum(p for p, _ in part) - sum(hit for _, hit in part))
    return total / len(pairs)
