"""Naive float64 references for raters: written to be obviously right, and sharing no code."""

from __future__ import annotations

import math

import numpy as np


def reference_staple(masks, iterations=1000):
    """Warfield's expectation and maximisation, voxel by voxel; prior: the share marked."""
    masks = [list(map(int, np.ravel(mask))) for mask in masks]
    voxels = range(len(masks[0]))
    share = [sum(mask[v] for mask in masks) / len(masks) for v in voxels]
    prior = sum(share) / len(share)
    found = share
    for _ in range(iterations):
        total = math.fsum(found)
        sensitivity = [math.fsum(found[v] for v in voxels if m[v]) / total for m in masks]
        rest = len(share) - total
        specificity = [math.fsum(1 - found[v] for v in voxels if not m[v]) / rest for m in masks]
        found = []
        for v in voxels:
            inside, outside = prior, 1 - prior
            for mask, p, q in zip(masks, sensitivity, specificity, strict=True):
                inside *= p if mask[v] else 1 - p
                outside *= 1 - q if mask[v] else q
            found.append(inside / (inside + outside))
    return found, sensitivity, specificity


def reference_overlap(a, b, overlap, empty=1.0):
    """Dice or IoU of two soft masks."""
    a, b = (list(map(float, np.ravel(mask))) for mask in (a, b))
    shared, either = math.fsum(map(min, a, b)), math.fsum(map(max, a, b))
    if not either:
        return empty
    return shared / either if overlap == "iou" else 2 * shared / (math.fsum(a) + math.fsum(b))


def reference_rater_overlap(pred, raters, against, overlap, ignore_empty=True, empty=1.0):
    """Mean over the targets that the reading makes of the raters."""
    raters = [np.asarray(rater, dtype=np.float64) for rater in raters]
    if against == "mean":
        targets = [sum(raters) / len(raters)]
    elif against == "majority":
        targets = [np.where(sum(raters) > len(raters) / 2, 1.0, 0.0)]
    else:
        targets = raters
    if ignore_empty:
        targets = [target for target in targets if np.any(target)]
    values = [reference_overlap(pred, target, overlap, empty) for target in targets]
    return sum(values) / len(values) if values else math.nan


def reference_ceiling(raters, against, overlap, **options):
    """Each rater in the place of the prediction, scored by the others."""
    values = []
    for number, rater in enumerate(raters):
        others = [*raters[:number], *raters[number + 1 :]]
        if others:
            values.append(reference_rater_overlap(rater, others, against, overlap, **options))
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def reference_ged(samples, raters, empty=1.0):
    """2 E d(S, Y) - E d(S, S') - E d(Y, Y') with d = 1 - IoU, over all pairs."""

    def mean_distance(first, second):
        pairs = [(a, b) for a in first for b in second]
        return math.fsum(1 - reference_overlap(a, b, "iou", empty) for a, b in pairs) / len(pairs)

    within = mean_distance(samples, samples) + mean_distance(raters, raters)
    return 2 * mean_distance(samples, raters) - within
