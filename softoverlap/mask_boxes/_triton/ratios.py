"""The ratios of `softoverlap.scores` and their derivatives, for kernels that form them on the way.

A bare number would be of float32 in an expression by itself, so parameters multiply a float64 one.
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def fraction(
    mass,
    volume,
    size,
    FORM: tl.constexpr,
    EMPTY: tl.constexpr,
    ALPHA: tl.constexpr,
    BETA: tl.constexpr,
):
    """The ratio before it is clamped, its denominator, and where it is one at all."""
    one = tl.full(mass.shape, 1, tl.float64)  # a bare number would be of float32
    total = volume + size
    bottom = one
    top = mass
    if FORM == "dice":
        bottom = total
        top = 2 * mass
    elif FORM == "iou":
        bottom = total - mass
    elif FORM == "tversky":
        outside_mask = tl.where(volume < mass, 0, volume - mass)
        outside_box = tl.where(size < mass, 0, size - mass)
        bottom = mass + (ALPHA * outside_mask + BETA * outside_box)
    nothing = bottom <= 0
    ratio = tl.where(nothing, EMPTY * one, top / tl.where(nothing, 1, bottom))
    if FORM == "tversky":
        ratio = tl.where(nothing, 0, ratio)
        ratio = tl.where(total <= 0, EMPTY * one, ratio)
        nothing = nothing | (total <= 0)
    return ratio, bottom, nothing


@triton.jit
def ratio_of(
    mass,
    volume,
    size,
    FORM: tl.constexpr,
    EMPTY: tl.constexpr,
    ALPHA: tl.constexpr,
    BETA: tl.constexpr,
):
    ratio, _, _ = fraction(mass, volume, size, FORM, EMPTY, ALPHA, BETA)
    if FORM != "mass":
        ratio = tl.where(ratio < 0, 0, tl.where(ratio > 1, 1, ratio))
    return ratio


@triton.jit
def ratio_slopes(
    mass,
    volume,
    size,
    FORM: tl.constexpr,
    EMPTY: tl.constexpr,
    ALPHA: tl.constexpr,
    BETA: tl.constexpr,
):
    """Derivatives of the ratio by the mass, by the volume and by the size."""
    one = tl.full(mass.shape, 1, tl.float64)
    to_mass = one
    to_volume = 0 * one
    to_size = 0 * one
    if FORM != "mass":
        ratio, bottom, nothing = fraction(mass, volume, size, FORM, EMPTY, ALPHA, BETA)
        counts = (nothing == 0) & (ratio >= 0) & (ratio <= 1)
        share = tl.where(counts, 1 / tl.where(counts, bottom, 1), 0)
        if FORM == "dice":
            to_mass = 2 * share
            to_volume = -ratio * share
            to_size = to_volume
        elif FORM == "iou":
            to_mass = (1 + ratio) * share
            to_volume = -ratio * share
            to_size = to_volume
        else:
            alpha = tl.where(volume < mass, 0, ALPHA * one)
            beta = tl.where(size < mass, 0, BETA * one)
            to_mass = (1 - ratio * (1 - alpha - beta)) * share
            to_volume = -ratio * alpha * share
            to_size = -ratio * beta * share
    return to_mass, to_volume, to_size
