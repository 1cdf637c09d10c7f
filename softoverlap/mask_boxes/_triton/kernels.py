"""The kernels: scores, their gradient to the boxes, and their gradient to the tables."""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from softoverlap.mask_boxes._triton.places import (
    all_crops,
    all_faces,
    edge,
    touching_boxes,
    volume_of,
)
from softoverlap.mask_boxes._triton.ratios import ratio_of, ratio_slopes
from softoverlap.mask_boxes._triton.reads import at_faces, mass_of, pick, slopes_along, values_along


@triton.jit
def write_scores(
    table,
    sizes,
    boxes,
    starts,
    offsets,
    shapes,
    masks,
    count,
    masks_each,
    scores,
    FORM: tl.constexpr,
    EMPTY: tl.constexpr,
    ALPHA: tl.constexpr,
    BETA: tl.constexpr,
    AXES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    columns = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = columns < count
    faces = all_faces(boxes, columns, valid, AXES)
    volume = volume_of(faces[0], faces[1], faces[2], AXES)
    first = tl.program_id(1) * masks_each
    nothing = tl.full([BLOCK], 0, tl.float64)
    row = scores + first.to(tl.int64) * count + columns
    for mask in range(first, tl.minimum(first + masks_each, masks)):
        crops = all_crops(offsets, shapes, mask, AXES)
        size = tl.load(sizes + mask) + nothing
        touching = touching_boxes(faces, crops, valid, AXES)
        counted = touching | ((size > 0) == 0)  # a mask without mass, or with NaN, has its score
        score = nothing
        if tl.max(counted.to(tl.int32), axis=0) > 0:
            nodes = table + tl.load(starts + mask)
            a = values_along(faces[0], crops[0])
            b = values_along(faces[1], crops[1])
            c = values_along(faces[2], crops[2])
            mass = mass_of(nodes, a, b, c, touching, size, nothing, AXES)
            score = ratio_of(mass, volume, size, FORM, EMPTY, ALPHA, BETA)
            score = tl.where(counted, score, 0)
        if scores.dtype.element_ty != tl.float64:
            score = score.to(tl.float32)  # as PyTorch does on the way to half precision
        tl.store(row, score.to(scores.dtype.element_ty), mask=valid)
        row += count


@triton.jit
def write_to_boxes(
    table,
    sizes,
    boxes,
    starts,
    offsets,
    shapes,
    masks,
    count,
    masks_each,
    upstream,
    upstream_mask,
    upstream_box,
    to_boxes,
    FORM: tl.constexpr,
    EMPTY: tl.constexpr,
    ALPHA: tl.constexpr,
    BETA: tl.constexpr,
    AXES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    columns = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = columns < count
    faces = all_faces(boxes, columns, valid, AXES)
    volume = volume_of(faces[0], faces[1], faces[2], AXES)
    nothing = tl.full([BLOCK], 0, tl.float64)
    low_a, low_b, low_c, high_a, high_b, high_c = (
        nothing,
        nothing,
        nothing,
        nothing,
        nothing,
        nothing,
    )
    of_volume = nothing
    first = tl.program_id(1) * masks_each
    row = upstream + first.to(tl.int64) * upstream_mask + columns * upstream_box
    for mask in range(first, tl.minimum(first + masks_each, masks)):
        crops = all_crops(offsets, shapes, mask, AXES)
        touching = touching_boxes(faces, crops, valid, AXES)
        if tl.max(touching.to(tl.int32), axis=0) > 0:
            size = tl.load(sizes + mask) + nothing
            nodes = table + tl.load(starts + mask)
            a = values_along(faces[0], crops[0])
            b = values_along(faces[1], crops[1])
            c = values_along(faces[2], crops[2])
            mass = mass_of(nodes, a, b, c, touching, size, nothing, AXES)
            derivatives = ratio_slopes(mass, volume, size, FORM, EMPTY, ALPHA, BETA)
            grad = tl.load(row, mask=touching, other=0).to(tl.float64)
            of_volume += tl.where(touching, grad * derivatives[1], 0)
            grad = tl.where(touching, grad * derivatives[0], 0)
            if AXES == 3:
                slopes = slopes_along(faces[1], crops[1])
                lower, upper = at_faces(nodes, slopes, a, c, touching, nothing, 2)
                low_b -= grad * lower
                high_b += grad * upper
            if AXES > 1:
                slopes = slopes_along(faces[2], crops[2])
                lower, upper = at_faces(nodes, slopes, b, a, touching, nothing, AXES - 1)
                low_c -= grad * lower
                high_c += grad * upper
            slopes = slopes_along(faces[0], crops[0])
            lower, upper = at_faces(nodes, slopes, b, c, touching, nothing, AXES - 1)
            low_a -= grad * lower
            high_a += grad * upper
        row += upstream_mask
    to_boxes += tl.program_id(1).to(tl.int64) * count * (2 * AXES) + columns * (2 * AXES)
    others = of_volume
    if AXES == 3:
        others = of_volume * edge(faces[0]) * edge(faces[2])
        tl.store(to_boxes + 1, low_b - others, mask=valid)
        tl.store(to_boxes + 4, high_b + others, mask=valid)
        others = of_volume * edge(faces[1])
    if AXES > 1:
        of_c = others * edge(faces[0])
        tl.store(to_boxes + (AXES - 1), low_c - of_c, mask=valid)
        tl.store(to_boxes + (2 * AXES - 1), high_c + of_c, mask=valid)
        others = others * edge(faces[2])
    tl.store(to_boxes, low_a - others, mask=valid)
    tl.store(to_boxes + AXES, high_a + others, mask=valid)


@triton.jit
def add_to_tables(
    table,
    sizes,
    boxes,
    starts,
    offsets,
    shapes,
    masks,
    count,
    masks_each,
    upstream,
    upstream_mask,
    upstream_box,
    to_table,
    to_sizes,
    FORM: tl.constexpr,
    EMPTY: tl.constexpr,
    ALPHA: tl.constexpr,
    BETA: tl.constexpr,
    AXES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    columns = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = columns < count
    faces = all_faces(boxes, columns, valid, AXES)
    volume = volume_of(faces[0], faces[1], faces[2], AXES)
    first = tl.program_id(1) * masks_each
    nothing = tl.full([BLOCK], 0, tl.float64)
    row = upstream + first.to(tl.int64) * upstream_mask + columns * upstream_box
    for mask in range(first, tl.minimum(first + masks_each, masks)):
        crops = all_crops(offsets, shapes, mask, AXES)
        touching = touching_boxes(faces, crops, valid, AXES)
        if tl.max(touching.to(tl.int32), axis=0) > 0:
            size = tl.load(sizes + mask) + nothing
            start = tl.load(starts + mask)
            a = values_along(faces[0], crops[0])
            b = values_along(faces[1], crops[1])
            c = values_along(faces[2], crops[2])
            mass = mass_of(table + start, a, b, c, touching, size, nothing, AXES)
            derivatives = ratio_slopes(mass, volume, size, FORM, EMPTY, ALPHA, BETA)
            grad = tl.load(row, mask=touching, other=0).to(tl.float64)
            of_size = tl.where(touching, grad * derivatives[2], 0)
            tl.atomic_add(to_sizes + mask, tl.sum(of_size, axis=0), sem="relaxed")
            add_to_table(to_table + start, grad * derivatives[0], a, b, c, touching, AXES)
        row += upstream_mask


@triton.jit
def add_to_table(nodes, grad, a, b, c, read, AXES: tl.constexpr):
    """Each node gains its weight times the gradient."""
    for number in range(4):
        weight = pick(number, -a[4], -a[5], a[6], a[7])
        add_across(
            nodes + pick(number, a[0], a[1], a[2], a[3]), grad * weight, b, c, read, AXES - 1
        )


@triton.jit
def add_across(nodes, grad, b, c, read, OTHERS: tl.constexpr):
    if OTHERS == 0:
        tl.atomic_add(nodes, grad, mask=read, sem="relaxed")
    for k in tl.static_range(4 if OTHERS else 0):
        of_c = grad * (c[4 + k] if k > 1 else -c[4 + k])
        if OTHERS == 1:
            tl.atomic_add(nodes + c[k], of_c, mask=read, sem="relaxed")
        for j in tl.static_range(4 if OTHERS == 2 else 0):
            of_b = of_c * (b[4 + j] if j > 1 else -b[4 + j])
            tl.atomic_add(nodes + c[k] + b[j], of_b, mask=read, sem="relaxed")
