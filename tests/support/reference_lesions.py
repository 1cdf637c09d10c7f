"""Naive lesion-wise references: a loop over lesions, with a whole image for each.

Components and dilations are found by flooding, voxel by voxel, so that hard masks rely on nothing
that the package calls. Halos are those of `lesions_from_mask`, which has its own reference.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from softoverlap import lesions_from_mask


def reference_components(inside, axes):
    """Label map; neighbours differ by at most one step along at most `axes` axes."""
    labels, count = np.zeros(inside.shape, dtype=int), 0
    for start in np.argwhere(inside):
        if labels[tuple(start)]:
            continue
        count += 1
        waiting = [tuple(start)]
        labels[tuple(start)] = count
        while waiting:
            for voxel in _neighbours(waiting.pop(), inside.shape, axes):
                if inside[voxel] and not labels[voxel]:
                    labels[voxel] = count
                    waiting.append(voxel)
    return labels


def reference_dilation(inside, times, axes):
    for _ in range(times):
        grown = inside.copy()
        for voxel in np.argwhere(inside):
            for near in _neighbours(tuple(voxel), inside.shape, axes):
                grown[near] = True
        inside = grown
    return inside


def reference_lesionwise_dice(pred, truth, dilation, min_mm3, voxel_mm3=1.0):
    """BraTS 2023 on hard masks: Dice of every lesion with all components in its dilated extent."""
    ndim = truth.ndim
    found = reference_components(pred, ndim)
    extents = reference_components(reference_dilation(truth, dilation, min(2, ndim)), ndim)
    total, tp, fn, small, matched = 0.0, 0, 0, 0, set()
    for number in range(1, extents.max() + 1):
        lesion = truth & (extents == number)
        near = reference_dilation(lesion, dilation, min(2, ndim))
        partners = set(found[near].tolist()) - {0}
        matched |= partners
        if lesion.sum() * voxel_mm3 <= min_mm3:
            small += 1
            continue
        union = np.isin(found, list(partners)) if partners else np.zeros_like(lesion)
        total += 2 * (union & lesion).sum() / (union.sum() + lesion.sum())
        tp, fn = tp + bool(partners), fn + (not partners)
    fp = len(set(found.ravel().tolist()) - {0} - matched)
    lesions = tp + fp + fn
    return (total / lesions if lesions else float("nan")), tp, fp, fn, small


def reference_soft_lesions(mask, threshold=0.5, halo=0.01):
    """A whole-image soft mask for each lesion, as `lesions_from_mask` cuts and tests them."""
    kept = torch.from_numpy(np.where(mask >= halo, mask, 0))
    lesions = lesions_from_mask(kept, spacing=[1.0] * mask.ndim, threshold=threshold)
    whole = [np.zeros_like(mask) for _ in lesions]
    for image, lesion in zip(whole, lesions, strict=True):
        low = lesion.offset.tolist()
        window = tuple(slice(o, o + s) for o, s in zip(low, lesion.crop.shape, strict=True))
        image[window] = lesion.crop.numpy()
    return whole


def soft_overlaps(lesion, other):
    """Soft Dice and IoU of two whole-image masks."""
    smaller, larger = np.minimum(lesion, other).sum(), np.maximum(lesion, other).sum()
    return 2 * smaller / (lesion.sum() + other.sum()), smaller / larger


def reference_panoptic(pred, truth, threshold=0.5, halo=0.01, match=0.5):
    """Σ IoU, TP, FP and FN from every pair of soft lesions."""
    found = reference_soft_lesions(pred, threshold, halo)
    lesions = reference_soft_lesions(truth, threshold, halo)
    scores = [soft_overlaps(a, b)[1] for a, b in itertools.product(lesions, found)]
    matches = [score for score in scores if score > match + 1e-9]
    return sum(matches), len(matches), len(found) - len(matches), len(lesions) - len(matches)


def best_assignment(iou):
    """The highest total of one-to-one pairs, by trying them all."""
    if iou.shape[0] > iou.shape[1]:
        iou = iou.T
    rows = range(len(iou))
    columns = itertools.permutations(range(iou.shape[1]), len(iou))
    return max(sum(iou[row, chosen[row]] for row in rows) for chosen in columns)


def _neighbours(voxel, shape, axes):
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        if not 0 < sum(map(abs, step)) <= axes:
            continue
        near = tuple(at + by for at, by in zip(voxel, step, strict=True))
        if all(0 <= at < side for at, side in zip(near, shape, strict=True)):
            yield near
