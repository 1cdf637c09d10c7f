"""Reads of a table: the mass inside the boxes of a block, and the masses on their faces.

What is read along an axis is a tuple of four nodes, two for the lower and two for the upper faces
of the boxes, and their four weights. For a value, the nodes are those around a face, and the
weights interpolate. For a slope they are those left and right of it, two voxels apart where a face
is a node, which gives the mean of the one-sided derivatives.
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def node_below(face, limit):
    """The node below a face, and the share of a voxel beyond it; NaN stays in the share."""
    inside = tl.where(face < 0, 0, tl.where(face > limit, limit, face))
    below = tl.where(inside < limit, inside, limit - 1)
    below = tl.where(below > 0, below, 0).to(tl.int64)
    return below, inside - below


@triton.jit
def values_along(faces, crop):
    """Reads of values; an axis without voxels has one node."""
    low, of_low = node_below(faces[0] - crop[0], crop[1])
    high, of_high = node_below(faces[1] - crop[0], crop[1])
    step = tl.minimum(crop[1], 1)
    return (
        low * crop[2],
        (low + step) * crop[2],
        high * crop[2],
        (high + step) * crop[2],
        1 - of_low,
        of_low,
        1 - of_high,
        of_high,
    )


@triton.jit
def nodes_beside(face, limit):
    """The nodes left and right of a face, and one over the voxels between them."""
    near = tl.where(face < -1, -1, tl.where(face > limit + 1, limit + 1, face))
    left = tl.ceil(near) - 1
    right = tl.floor(near) + 1
    share = 1 / (right - left)
    left = tl.where(left > 0, tl.where(left < limit, left, limit), 0)
    right = tl.where(right > 0, tl.where(right < limit, right, limit), 0)
    return left.to(tl.int64), right.to(tl.int64), share


@triton.jit
def slopes_along(faces, crop):
    """Reads of slopes."""
    left, right, share = nodes_beside(faces[0] - crop[0], crop[1])
    next_left, next_right, next_share = nodes_beside(faces[1] - crop[0], crop[1])
    return (
        left * crop[2],
        right * crop[2],
        next_left * crop[2],
        next_right * crop[2],
        -share,
        share,
        -next_share,
        next_share,
    )


@triton.jit
def difference(low, after_low, high, after_high, axis):
    """What is at the upper faces less what is at the lower ones."""
    return (axis[6] * high + axis[7] * after_high) - (axis[4] * low + axis[5] * after_low)


@triton.jit
def line(nodes, c, read):
    return difference(
        tl.load(nodes + c[0], mask=read, other=0),
        tl.load(nodes + c[1], mask=read, other=0),
        tl.load(nodes + c[2], mask=read, other=0),
        tl.load(nodes + c[3], mask=read, other=0),
        c,
    )


@triton.jit
def across(nodes, b, c, read, OTHERS: tl.constexpr):
    """What lies between the faces of two axes, of one (c) or, without any, at the nodes."""
    if OTHERS == 2:
        found = difference(
            line(nodes + b[0], c, read),
            line(nodes + b[1], c, read),
            line(nodes + b[2], c, read),
            line(nodes + b[3], c, read),
            b,
        )
    elif OTHERS == 1:
        found = line(nodes, c, read)
    else:
        found = tl.load(nodes, mask=read, other=0)
    return found


@triton.jit
def pick(number, first, second, third, fourth):
    after = tl.where(number == 2, third, fourth)
    return tl.where(number == 0, first, tl.where(number == 1, second, after))


@triton.jit
def at_faces(nodes, a, b, c, read, nothing, OTHERS: tl.constexpr):
    """What is at the lower and at the upper faces of an axis; b and c are the others.

    The loop is one in the compiled kernel, too: of all reads in a row, compilation takes a minute.
    """
    lower = nothing
    upper = nothing
    for number in range(4):
        place = nodes + pick(number, a[0], a[1], a[2], a[3])
        part = across(place, b, c, read, OTHERS) * pick(number, a[4], a[5], a[6], a[7])
        lower += tl.where(number < 2, part, 0)
        upper += tl.where(number < 2, 0, part)
    return lower, upper


@triton.jit
def mass_of(nodes, a, b, c, read, size, nothing, AXES: tl.constexpr):
    """Never beyond its range by rounding."""
    lower, upper = at_faces(nodes, a, b, c, read, nothing, AXES - 1)
    mass = upper - lower
    mass = tl.where(mass < 0, 0, mass)
    return tl.where((mass > size) | (size != size), size, mass)
