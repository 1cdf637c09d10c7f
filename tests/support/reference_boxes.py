"""Naive float64 references for the formats: one box, plain loops, no code of the package."""

from __future__ import annotations

import itertools

import numpy as np


def world_corners(box, affine, frame="RAS"):
    """Corners of one box (mins, maxs) in mm; voxel centres lie at the affine's integers."""
    signs = np.array([1, 1, 1] if frame == "RAS" else [-1, -1, 1], dtype=float)
    corners = []
    for which in itertools.product((0, 1), repeat=3):
        index = np.array([box[3 * end + axis] for axis, end in enumerate(which)]) - 0.5
        corners.append(signs * (np.asarray(affine)[:3, :3] @ index + np.asarray(affine)[:3, 3]))
    return np.array(corners)


def monai_box(box, affine, frame="RAS"):
    """One box as MONAI's cccwhd."""
    corners = world_corners(box, affine, frame)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [*((low + high) / 2), *(high - low)]


def nndetection_box(mask):
    """The box of a mask of a NIfTI's axes, as nnDetection makes it of SimpleITK's array."""
    array = np.transpose(mask)  # SimpleITK's axes are the reverse
    places = np.argwhere(array)
    low, high = places.min(axis=0) - 1, places.max(axis=0) + 1
    return [low[0], low[1], high[0], high[1], low[2], high[2]]


def coco_box(box, *, x_is_last):
    """One box as x, y, (z,) w, h, (d)."""
    ndim = len(box) // 2
    axes = range(ndim)[::-1] if x_is_last else range(ndim)
    return [*(box[axis] for axis in axes), *(box[axis + ndim] - box[axis] for axis in axes)]
