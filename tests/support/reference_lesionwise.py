"""Naive float64 references of losses lesion by lesion, from the papers' definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np

SMOOTH = 1e-5


def reference_lesions(mask, threshold=0.5):
    """Sets of voxels at or above the threshold that touch by face, edge or corner, in order."""
    left = {
        place for place in itertools.product(*map(range, mask.shape)) if mask[place] >= threshold
    }
    lesions = []
    for place in sorted(left):
        if place not in left:
            continue
        left.discard(place)
        lesion, edge = {place}, [place]
        while edge:
            here = edge.pop()
            for step in itertools.product((-1, 0, 1), repeat=len(here)):
                there = tuple(a + b for a, b in zip(here, step, strict=True))
                if there in left:
                    left.discard(there)
                    lesion.add(there)
                    edge.append(there)
        lesions.append(lesion)
    return lesions


def reference_cells(mask, reach=math.inf, edges=None):
    """For each voxel the number of the nearest lesion within reach, the first of equally near."""
    edges = edges or [1.0] * mask.ndim
    lesions, cells = reference_lesions(mask), np.zeros(mask.shape, dtype=int)
    for place in itertools.product(*map(range, mask.shape)):
        away = [min(_distance(place, other, edges) for other in lesion) for lesion in lesions]
        if away and min(away) <= reach:
            cells[place] = 1 + away.index(min(away))
    return cells


def _distance(place, other, edges):
    return math.dist(*([a * e for a, e in zip(p, edges, strict=True)] for p in (place, other)))


def reference_dice_loss(probability, target):
    """Soft Dice loss with the sum of minima, over a list of voxels."""
    shared = 2 * sum(min(p, t) for p, t in zip(probability, target, strict=True))
    return 1 - (shared + SMOOTH) / (sum(probability) + sum(target) + SMOOTH)


def reference_dice_ce(logits, target):
    """Soft Dice loss and mean binary cross entropy, over a list of voxels."""
    probability = [1 / (1 + math.exp(-z)) for z in logits]
    entropy = [
        -t * math.log(p) - (1 - t) * math.log(1 - p)
        for p, t in zip(probability, target, strict=True)
    ]
    return reference_dice_loss(probability, target) + sum(entropy) / len(entropy)


def reference_cc_dice_ce(logits, target):
    """Mean over Voronoi cells of DiceCE in the cell, and DiceCE of the image; mean over items."""
    losses = []
    for z, t in zip(logits, target, strict=True):
        cells = reference_cells(t)
        parts = [reference_dice_ce(z[cells == k], t[cells == k]) for k in range(1, cells.max() + 1)]
        losses.append(sum(parts) / len(parts) + reference_dice_ce(z.ravel(), t.ravel()))
    return sum(losses) / len(losses)


def reference_blob_loss(probability, target, alpha, beta):
    """α · Dice loss of the image + β · mean over lesions, with the others masked out."""
    losses = []
    for p, t in zip(probability, target, strict=True):
        parts = []
        for lesion in reference_lesions(t):
            kept = np.ones(t.shape, dtype=bool)
            own = np.zeros(t.shape)
            for place in zip(*np.nonzero(t >= 0.5), strict=True):
                kept[place] = tuple(map(int, place)) in lesion
                own[place] = kept[place]
            parts.append(reference_dice_loss((p * kept).ravel(), own.ravel()))
        whole = reference_dice_loss(p.ravel(), t.ravel())
        losses.append(alpha * whole + beta * sum(parts) / len(parts))
    return sum(losses) / len(losses)


def reference_soft_calibration(pred, target, bins):
    """Mean over bins of |mean prediction - mean target|; a voxel counts in two bins by nearness."""
    gaps = []
    for number in range(bins):
        shares = [_share(p, number, bins) for p in pred]
        if sum(shares) > 0.01:
            means = (np.average(values, weights=shares) for values in (pred, target))
            gaps.append(abs(next(means) - next(means)))
    return sum(gaps) / len(gaps)


def _share(p, number, bins):
    """How much of a voxel belongs to a bin, whose centre is at (number + 1/2) / bins."""
    first, last = 0.5 / bins, 1 - 0.5 / bins
    away = abs(min(max(p, first), last) - (number + 0.5) / bins) * bins
    return max(0.0, 1 - away)
