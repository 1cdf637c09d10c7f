"""Naive float64 references: written to be obviously right, not fast, and sharing no code."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np


def reference_dice(a, b, empty=1.0):
    total = sum(map(float, np.ravel(a))) + sum(map(float, np.ravel(b)))
    return 2 * _minima(a, b) / total if total else empty


def reference_iou(a, b, empty=1.0):
    larger = sum(max(float(x), float(y)) for x, y in zip(np.ravel(a), np.ravel(b), strict=True))
    return _minima(a, b) / larger if larger else empty


def reference_tversky(pred, target, alpha, beta, empty=1.0):
    only_pred = sum(map(float, np.ravel(pred))) - _minima(pred, target)
    only_target = sum(map(float, np.ravel(target))) - _minima(pred, target)
    shared = _minima(pred, target)
    if not shared + only_pred + only_target:
        return empty
    weighted = shared + alpha * only_pred + beta * only_target
    return shared / weighted if shared else 0.0


def reference_mass(mask, box):
    """Every voxel's probability times the volume that it shares with the box."""
    ndim = mask.ndim
    total = 0.0
    for index in itertools.product(*map(range, mask.shape)):
        covered = 1.0
        for axis, voxel in enumerate(index):
            low, high = float(box[axis]), float(box[axis + ndim])
            covered *= max(0.0, min(high, voxel + 1) - max(low, voxel))
        total += float(mask[index]) * covered
    return total


def reference_box_volume(box):
    box = [Fraction(float(value)) for value in box]
    ndim = len(box) // 2
    volume = Fraction(1)
    for axis in range(ndim):
        volume *= box[axis + ndim] - box[axis]
    return volume


def reference_box_intersection(a, b):
    ndim = len(a) // 2
    low = [max(float(a[axis]), float(b[axis])) for axis in range(ndim)]
    high = [min(float(a[axis + ndim]), float(b[axis + ndim])) for axis in range(ndim)]
    if any(x > y for x, y in zip(low, high, strict=True)):
        return Fraction(0)
    return reference_box_volume([*low, *high])


def reference_box_iou(a, b):
    """Exact: in rational numbers."""
    shared = reference_box_intersection(a, b)
    union = reference_box_volume(a) + reference_box_volume(b) - shared
    return float(shared / union) if union else float(list(a) == list(b))


def reference_box_dice(a, b):
    total = reference_box_volume(a) + reference_box_volume(b)
    shared = reference_box_intersection(a, b)
    return float(2 * shared / total) if total else float(list(a) == list(b))


def reference_box_giou(a, b):
    ndim = len(a) // 2
    hull = [min(float(x), float(y)) for x, y in zip(a[:ndim], b[:ndim], strict=True)]
    hull += [max(float(x), float(y)) for x, y in zip(a[ndim:], b[ndim:], strict=True)]
    enclosing = reference_box_volume(hull)
    union = reference_box_volume(a) + reference_box_volume(b) - reference_box_intersection(a, b)
    penalty = (enclosing - union) / enclosing if enclosing else 0
    return reference_box_iou(a, b) - float(penalty)


def _minima(a, b):
    return sum(min(float(x), float(y)) for x, y in zip(np.ravel(a), np.ravel(b), strict=True))
