"""The only place where an overlap ratio is formed.

Every division is guarded: a denominator of zero is replaced before dividing, so that neither a
value nor a gradient becomes NaN, and no smoothing constant hides in a score. Who knows that no
denominator is zero says so by `empty=None`, and is spared the guard. NaN that comes in goes out.
Rounding can lift a ratio of equal sums over one; `clamp` takes that back and passes the gradient at
one itself.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softoverlap._autograd import in_graph
from softoverlap._checks import may_look


def dice(
    intersection: Float[Tensor, "*#shape"],
    size_a: Float[Tensor, "*#shape"],
    size_b: Float[Tensor, "*#shape"],
    *,
    empty: float | Tensor | None = 1.0,
) -> Float[Tensor, "*#shape"]:
    """Dice score `2 |A & B| / (|A| + |B|)`, and `empty` where both sizes are zero."""
    return _unit(_ratio(2 * intersection, size_a + size_b, empty))


def iou(
    intersection: Float[Tensor, "*#shape"],
    size_a: Float[Tensor, "*#shape"],
    size_b: Float[Tensor, "*#shape"],
    *,
    empty: float | Tensor | None = 1.0,
) -> Float[Tensor, "*#shape"]:
    """Intersection over union, and `empty` where both sizes are zero."""
    return _unit(_ratio(intersection, size_a + size_b - intersection, empty))


def tversky(
    intersection: Float[Tensor, "*#shape"],
    size_pred: Float[Tensor, "*#shape"],
    size_target: Float[Tensor, "*#shape"],
    *,
    alpha: float,
    beta: float,
    empty: float | Tensor = 1.0,
) -> Float[Tensor, "*#shape"]:
    """Tversky index: `alpha` weighs the prediction outside the target, `beta` the reverse."""
    outside_target = (size_pred - intersection).clamp(min=0)
    outside_pred = (size_target - intersection).clamp(min=0)
    outside = alpha * outside_target + beta * outside_pred  # first: else rounding tells sides apart
    weighted = intersection + outside
    nothing = (size_pred + size_target) <= 0
    return torch.where(nothing, empty, _ratio(intersection, weighted, 0.0)).clamp(0, 1)


def tversky_of_numbers(
    intersection: float | int,
    size_pred: float | int,
    size_target: float | int,
    *,
    alpha: float | int,
    beta: float | int,
    empty: float | int = 1.0,
) -> float | int:
    """The same to the bit of single numbers, where each operation on a tensor has its price."""
    if size_pred + size_target <= 0:
        return empty
    outside_target, outside_pred = (max(s - intersection, 0.0) for s in (size_pred, size_target))
    weighted = intersection + (alpha * outside_target + beta * outside_pred)
    return min(max(intersection / weighted, 0.0), 1.0) if weighted > 0 else 0.0


def hull_penalty(
    union: Float[Tensor, "*#shape"],
    enclosing: Float[Tensor, "*#shape"],
    *,
    empty: float | None = 0.0,
) -> Float[Tensor, "*#shape"]:
    """GIoU's penalty: the share of the enclosing box that is not union, in [0, 1]."""
    return _unit(_ratio(enclosing - union, enclosing, empty))


def smoothed_dice(
    intersection: Float[Tensor, "*#shape"],
    size_a: Float[Tensor, "*#shape"],
    size_b: Float[Tensor, "*#shape"],
    *,
    smooth_nr: float,
    smooth_dr: float,
) -> Float[Tensor, "*#shape"]:
    """Dice score with MONAI's smoothing: `(2 |A & B| + smooth_nr) / (|A| + |B| + smooth_dr)`."""
    return _smoothed_ratio(2 * intersection + smooth_nr, size_a + size_b + smooth_dr)


def smoothed_iou(
    intersection: Float[Tensor, "*#shape"],
    size_a: Float[Tensor, "*#shape"],
    size_b: Float[Tensor, "*#shape"],
    *,
    smooth_nr: float,
    smooth_dr: float,
) -> Float[Tensor, "*#shape"]:
    """IoU with MONAI's smoothing: `(2 |A & B| + smooth_nr) / (2 |A or B| + smooth_dr)`."""
    union = size_a + size_b - intersection
    return _smoothed_ratio(2 * intersection + smooth_nr, 2 * union + smooth_dr)


def smoothed_tversky(
    intersection: Float[Tensor, "*#shape"],
    size_pred: Float[Tensor, "*#shape"],
    size_target: Float[Tensor, "*#shape"],
    *,
    alpha: float,
    beta: float,
    smooth_nr: float,
    smooth_dr: float,
) -> Float[Tensor, "*#shape"]:
    """Tversky index with MONAI's smoothing, one constant above and one below the line."""
    outside = alpha * (size_pred - intersection) + beta * (size_target - intersection)
    return _smoothed_ratio(intersection + smooth_nr, intersection + outside + smooth_dr)


def _smoothed_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and 1 where nothing was left to divide by: two empty masks, no smoothing."""
    if may_look(denominator) and bool(denominator.all()):
        return numerator / denominator
    nothing: Bool[Tensor, "*shape"] = denominator == 0
    return torch.where(nothing, 1, numerator / torch.where(nothing, 1, denominator))


def iof(
    intersection: Float[Tensor, "*#shape"],
    size_first: Float[Tensor, "*#shape"],
    *,
    empty: float | Tensor | None = 1.0,
) -> Float[Tensor, "*#shape"]:
    """Intersection over the first size, and `empty` where that is zero."""
    return _unit(_ratio(intersection, size_first, empty))


def distance_penalty(
    squared_distance: Float[Tensor, "*#shape"], squared_reference: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*#shape"]:
    """Squared distance over a squared reference length, 0 where the reference is zero."""
    return _ratio(squared_distance, squared_reference, 0.0).clamp(max=1)


def aspect_penalty(
    iou_score: Float[Tensor, "*#shape"],
    difference: Float[Tensor, "*#shape"],
    *,
    gate: float | None = None,
) -> Float[Tensor, "*#shape"]:
    """CIoU's `alpha · v` for a difference v of aspects; alpha is detached, 0 up to the gate."""
    alpha = _ratio(difference, 1 - iou_score + difference, 0.0).detach()
    if gate is not None:
        alpha = torch.where(iou_score.detach() > gate, alpha, 0)
    return alpha * difference


def nwd(squared_distance: Float[Tensor, "*#shape"], *, constant: float) -> Float[Tensor, "*#shape"]:
    """Normalised Wasserstein similarity `exp(-distance / constant)`; flat at distance 0."""
    apart = ~(squared_distance <= 0)  # so for NaN
    distance = torch.where(apart, squared_distance, 1).sqrt()
    return torch.exp(-torch.where(apart, distance, 0) / constant)


def nearness(relative_distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 at distance 0, falling evenly to 1/2 at distance 1, and 0 from there on."""
    near = ~(relative_distance >= 1)  # so for NaN
    return torch.where(near, 1 - torch.where(near, relative_distance, 0) / 2, 0)


def _unit(ratio: Tensor) -> Tensor:
    """Clamped to [0, 1], in place where no gradient asks for what was there before."""
    return ratio.clamp(0, 1) if in_graph() else ratio.clamp_(0, 1)


def _ratio(numerator: Tensor, denominator: Tensor, empty: float | Tensor | None) -> Tensor:
    """The quotient, and `empty` where the denominator is zero; None says that it never is."""
    if empty is None:
        return numerator / denominator
    nothing: Bool[Tensor, "*shape"] = denominator <= 0  # not so for NaN
    return torch.where(nothing, empty, numerator / torch.where(nothing, 1, denominator))
