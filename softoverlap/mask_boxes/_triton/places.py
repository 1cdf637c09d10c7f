"""Where the boxes of a block lie, and which of them touch the crop of a mask.

The axes are a, b and c, c the last; of two axes they are a and c, of one it is a. The faces of
boxes along an axis are a tuple (minima, maxima), a crop is (first voxel, voxels, step in table).
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

FARTHEST = tl.constexpr(2.0**300)  # as in the plain path: squares of products stay finite


@triton.jit
def faces_along(boxes, columns, valid, axis: tl.constexpr, AXES: tl.constexpr):
    """Minima and maxima of a block of boxes along an axis."""
    places = boxes + columns * (2 * AXES) + axis
    low = tl.load(places, mask=valid, other=0).to(tl.float64)
    high = tl.load(places + AXES, mask=valid, other=0).to(tl.float64)
    return low, high


@triton.jit
def all_faces(boxes, columns, valid, AXES: tl.constexpr):
    """Those of all axes; an axis that is not there repeats the first."""
    a = faces_along(boxes, columns, valid, 0, AXES)
    b = a
    c = a
    if AXES == 3:
        b = faces_along(boxes, columns, valid, 1, AXES)
    if AXES > 1:
        c = faces_along(boxes, columns, valid, AXES - 1, AXES)
    return a, b, c


@triton.jit
def edge(faces):
    low = tl.where(faces[0] < -FARTHEST, -FARTHEST, faces[0])
    high = tl.where(faces[1] < -FARTHEST, -FARTHEST, faces[1])
    low = tl.where(low > FARTHEST, FARTHEST, low)
    high = tl.where(high > FARTHEST, FARTHEST, high)
    return high - low


@triton.jit
def volume_of(a, b, c, AXES: tl.constexpr):
    volume = edge(a)
    if AXES == 3:
        volume *= edge(b)
    if AXES > 1:
        volume *= edge(c)
    return volume


@triton.jit
def crop_along(offsets, shapes, mask, axis: tl.constexpr, AXES: tl.constexpr):
    step = tl.full([], 1, tl.int64)
    for inner in tl.static_range(axis + 1, AXES):
        step *= tl.load(shapes + mask * AXES + inner) + 1
    return tl.load(offsets + mask * AXES + axis), tl.load(shapes + mask * AXES + axis), step


@triton.jit
def all_crops(offsets, shapes, mask, AXES: tl.constexpr):
    a = crop_along(offsets, shapes, mask, 0, AXES)
    b = a
    c = a
    if AXES == 3:
        b = crop_along(offsets, shapes, mask, 1, AXES)
    if AXES > 1:
        c = crop_along(offsets, shapes, mask, AXES - 1, AXES)
    return a, b, c


@triton.jit
def is_apart(faces, crop):
    """Nowhere for NaN, which shall come out as NaN."""
    return (faces[0] > crop[0] + crop[1]) | (faces[1] < crop[0])


@triton.jit
def touching_boxes(faces, crops, valid, AXES: tl.constexpr):
    """Which boxes of the block meet or touch the crop."""
    apart = is_apart(faces[0], crops[0])
    if AXES == 3:
        apart = apart | is_apart(faces[1], crops[1])
    if AXES > 1:
        apart = apart | is_apart(faces[2], crops[2])
    return valid & (apart == 0)
