"""The best overlap that any box can reach with a soft crop.

Dice, IoU and Tversky are one ratio `m / ((1 - α - β)·m + α·V + β·S)` of a box's mass m, its
volume V and the mask's size S. Moving one face within a voxel changes m and V linearly, so the
ratio is monotone there and an optimum has all its faces on voxel edges. Dinkelbach's iteration
replaces the ratio by a sum over the box's voxels, whose largest value is a maximum-sum box: found
by looking at all cross-sections of a small crop, by branch and bound in a larger one.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_rank
from softoverlap._types import plain
from softoverlap.anchors._branch_and_bound import Box, best_interval, best_sums, highest_box
from softoverlap.lesion import Lesion
from softoverlap.overlaps import MaskBoxOverlap, mask_box_dice, overlap_named

EXACT_SUMS = 400_000
"""Up to this cost all cross-sections are looked at: intervals of the two short axes times the long
axis, of the voxels that matter in a crop. A cube of 17 voxels costs 397,953."""

NODES = 1_000_000
"""Nodes of the branch and bound after which a crop is given up, and its gap reported."""

_ELEMENTS_PER_BLOCK = 1 << 20
_MOST_STEPS = 1 << 12  # along the longest of several axes, one after the other
_THRESHOLDS = 8
_CACHED_CROPS = 8192
_cache: OrderedDict[tuple[object, ...], tuple[Box, float, float]] = OrderedDict()
_lock = threading.Lock()


class BestBox(NamedTuple):
    """The best box that was found, its score, and what no box exceeds.

    Args:
        box: In voxels of the crop, all minima then all maxima, float64, shape (2 * ndim,).
        score: Overlap of the box, in [0, 1].
        bound: Proven upper bound of the overlap of any box, in [0, 1]: the score itself unless
            the search was given up.

    Examples:
        >>> import torch
        >>> best = best_box(torch.tensor([0.0, 0.2, 1.0, 0.9, 0.1]))
        >>> best.bound - best.score
        0.0
    """

    box: Float[Tensor, "coords"]
    score: float
    bound: float


def best_box(
    crop: Shaped[Tensor, "*crop"], *, overlap: MaskBoxOverlap | str = mask_box_dice
) -> BestBox:
    """The box with the highest overlap with a soft crop, that overlap, and a proven upper bound.

    Boxes that reach beyond the crop gain no mass there, so they are never better. The search is a
    coordinate ascent from the best of several tight boxes, then an exact one from where that ends:
    over all cross-sections up to a cost of `EXACT_SUMS`, above that by branch and bound. That is
    given up after `NODES` nodes, which takes a crop that is mostly noise: then the score is a lower
    bound of the best, and `bound - score` is the gap. Otherwise the two are equal, and no box is
    better by more than rounding (1e-12). Results are kept by the crop's content; threads may share
    them.

    Args:
        crop: Probabilities, 1 to 3 spatial axes, shape (*crop).
        overlap: Of mask and box, or its name: one that is a Tversky index, such as
            `mask_box_iou` or `mask_box_tversky.with_(alpha=0.3, beta=0.7)`.

    Returns:
        The record (box, score, bound): the box in voxels of the crop, all minima then all maxima,
        float64, shape (2 * ndim,), score and bound in [0, 1]. A crop without mass has the box of
        zeros and the score 0.

    Raises:
        TypeError: If `overlap` is neither an overlap nor a name.
        ValueError: If the crop has no axis or more than 3, holds NaN or negative values, or
            `overlap` is no Tversky index.

    References:
        Dinkelbach, On nonlinear fractional programming, Management Science 13, 1967.
        Lampert et al., Efficient subwindow search, TPAMI 31, 2009 (branch and bound of boxes).
        Bentley, Programming pearls: algorithm design techniques, CACM 27, 1984 (maximum sum).

    Examples:
        >>> import torch
        >>> best = best_box(torch.tensor([0.0, 0.2, 1.0, 0.9, 0.1]))
        >>> best.box
        tensor([2., 4.], dtype=torch.float64)
        >>> round(best.score, 4)
        0.9048
    """
    alpha, beta = _weights(overlap)
    check_rank(1, "(*crop)", crop=crop)
    if crop.ndim > 3:
        raise ValueError(f"crop must have 1 to 3 axes, got shape {tuple(crop.shape)}")
    values = plain(crop).detach().cpu().to(torch.float64).contiguous()
    digest = hashlib.blake2b(values.numpy().tobytes(), digest_size=16).digest()
    key = (digest, tuple(values.shape), alpha, beta)
    with _lock:
        found = _cache.get(key)
    if found is None:
        found = _search(values, alpha, beta)
        with _lock:
            _cache[key] = found
            if len(_cache) > _CACHED_CROPS:
                _cache.popitem(last=False)
    box, score, bound = found
    edges = [low for low, _ in box] + [high for _, high in box]
    return BestBox(torch.tensor(edges, dtype=torch.float64), score, bound)


def best_box_in_image(
    lesion: Lesion, *, overlap: MaskBoxOverlap = mask_box_dice
) -> Float[Tensor, "coords"]:
    """The best box of a lesion's crop, in voxels of the image, float64, on the CPU."""
    found = best_box(lesion.crop, overlap=overlap)
    return found.box + lesion.offset.cpu().repeat(2)


def _weights(overlap: MaskBoxOverlap | str) -> tuple[float, float]:
    """(α, β) of the overlap's Tversky form: Dice is (1/2, 1/2), IoU is (1, 1)."""
    overlap = overlap_named(overlap, MaskBoxOverlap)
    if overlap.tversky_weights is None:
        raise ValueError(f"overlap must be a Tversky index, which has a best box, got {overlap!r}")
    return overlap.tversky_weights


def maximum_sum_box(values: Float[Tensor, "*crop"], least: float = -math.inf) -> Box | None:
    """The box, not empty, with the largest sum of values, exact; None if none exceeds `least`."""
    ndim = values.ndim
    if ndim == 1:
        start, stop = best_interval(values.tolist())
        return ((start, stop),) if float(values[start:stop].sum()) > least else None
    order = sorted(range(ndim), key=lambda axis: values.shape[axis])
    volume = values.permute(order).reshape([1] * (3 - ndim) + [values.shape[a] for a in order])
    found = _maximum_sum_box_3d(volume, least)
    if found is None:
        return None
    found = found[3 - ndim :]
    return tuple(found[order.index(axis)] for axis in range(ndim))


def _search(values: Tensor, alpha: float, beta: float) -> tuple[Box, float, float]:
    """From the best tight box to where the ascent ends, and from there to the best of all."""
    if values.numel():
        low, high = (bound.item() for bound in torch.aminmax(values))
        if not 0 <= low <= high <= 1 + 1e-3:
            raise ValueError("crop must hold finite probabilities in [0, 1], got others")
    size = values.sum()
    if size <= 0:
        return ((0, 0),) * values.ndim, 0.0, 0.0
    tight = _tight_boxes(values)
    score, place = _scores(values, tight, size, alpha, beta).max(0)
    box, score = _raise(values, size, alpha, beta, tight[int(place)], float(score), _ascend)
    window = _window(_profiles(_gain(values, score, alpha, beta)))
    if window is None:
        return box, score, score
    sides = [high - low for low, high in window]
    if _cost(sides) > EXACT_SUMS or (len(sides) > 1 and max(sides) > _MOST_STEPS):
        return _bounded(values, size, alpha, beta, box, score, window)
    box, score = _raise(values, size, alpha, beta, box, score, _exact)
    return box, score, score


def _gain(values: Tensor, score: float, alpha: float, beta: float) -> Tensor:
    """What each voxel adds to the surplus of a box over this score; that of the mask is its β·S."""
    return (1 - score * (1 - alpha - beta)) * values - score * alpha


def _bounded(
    values: Tensor,
    size: Tensor,
    alpha: float,
    beta: float,
    box: Box,
    score: float,
    window: Box,
) -> tuple[Box, float, float]:
    """Branch and bound within the window of voxels that can gain; it shrinks as scores rise."""
    inside = values[tuple(slice(*axis) for axis in window)]

    def moved(found: Box) -> Box:
        return tuple((w[0] + f[0], w[0] + f[1]) for w, f in zip(window, found, strict=True))

    found, score, surplus = highest_box(
        gain_of=lambda level: _gain(inside, level, alpha, beta),
        score_of=lambda candidate: _score(values, moved(candidate), size, alpha, beta),
        threshold_of=lambda level: level * beta * float(size),
        score=score,
        budget=NODES,
    )
    box = box if found is None else moved(found)
    return box, score, _upper_bound(score, surplus, float(size), beta)


def _upper_bound(score: float, surplus: float, size: float, beta: float) -> float:
    """The highest score of a box whose mass exceeds score · denominator by this surplus at most.

    The denominator is at least β·S + (1 - β)·m, and only masses m above score · denominator matter.
    """
    if surplus <= 0:
        return score
    least = beta * size / (1 - (1 - beta) * score) if beta <= 1 else size
    return min(1.0, score + surplus / least) if least > 0 else 1.0


def _raise(
    values: Tensor,
    size: Tensor,
    alpha: float,
    beta: float,
    box: Box,
    score: float,
    improve: Callable[[Tensor, Box], Box],
) -> tuple[Box, float]:
    """Raise the score by a better box for the present score, until none is found."""
    while True:
        better = improve(_gain(values, score, alpha, beta), box)
        if better == box:
            return box, score
        better_score = _score(values, better, size, alpha, beta)
        if better_score <= score:
            return box, score
        box, score = better, better_score


def _exact(gain: Tensor, box: Box) -> Box:
    """The box with the largest gain; this one if no other gains more."""
    window = _window(_profiles(gain))
    if window is None:
        return box
    present = float(gain[tuple(slice(*axis) for axis in box)].sum())
    found = maximum_sum_box(gain[tuple(slice(*axis) for axis in window)], present)
    if found is None:
        return box
    return tuple((w[0] + f[0], w[0] + f[1]) for w, f in zip(window, found, strict=True))


def _cost(shape: Sequence[int]) -> int:
    """Sums that the exact search looks at."""
    *short, long = sorted(shape)
    return long * math.prod(side * (side + 1) // 2 for side in short)


def _ascend(gain: Tensor, box: Box) -> Box:
    """One round of choosing the best interval on each axis while the others stand still."""
    for axis in range(gain.ndim):
        window = [slice(*edges) for edges in box]
        window[axis] = slice(None)
        others = [a for a in range(gain.ndim) if a != axis]
        line = gain[tuple(window)].sum(dim=others) if others else gain
        box = (*box[:axis], best_interval(line.tolist()), *box[axis + 1 :])
    return box


def _tight_boxes(values: Tensor) -> list[Box]:
    """Tight boxes around the voxels at or above some share of the maximum."""
    profiles = _profiles(values)
    top = max(profiles[0])
    levels = [top * (step / _THRESHOLDS) for step in range(1, _THRESHOLDS + 1)]
    found = [[_extent([v >= level for v in profile]) for profile in profiles] for level in levels]
    return list(dict.fromkeys(map(tuple, found)))  # each once


def _profiles(values: Tensor) -> list[list[float]]:
    """For each axis the largest value of every layer across it."""
    axes = range(values.ndim)
    if values.ndim == 1:
        return [values.tolist()]
    return [values.amax(dim=[a for a in axes if a != axis]).tolist() for axis in axes]


def _window(profiles: list[list[float]]) -> Box | None:
    """The tight box around all voxels above 0, or None if there is none."""
    if not max(profiles[0]) > 0:
        return None
    return tuple(_extent([value > 0 for value in profile]) for profile in profiles)


def _extent(filled: list[bool]) -> tuple[int, int]:
    """From the first to behind the last that is true."""
    return filled.index(True), len(filled) - filled[::-1].index(True)


def _score(values: Tensor, box: Box, size: Tensor, alpha: float, beta: float) -> float:
    inside = values[tuple(slice(*axis) for axis in box)]
    return scores.tversky_of_numbers(
        float(inside.sum()), inside.numel(), float(size), alpha=alpha, beta=beta, empty=0.0
    )


def _scores(
    values: Tensor, boxes: list[Box], size: Tensor, alpha: float, beta: float
) -> Float[Tensor, "boxes"]:
    inside = [values[tuple(slice(*axis) for axis in box)] for box in boxes]
    mass = torch.stack([part.sum() for part in inside])
    volume = mass.new_tensor([part.numel() for part in inside])
    return scores.tversky(mass, volume, size, alpha=alpha, beta=beta, empty=0.0)


def _maximum_sum_box_3d(values: Float[Tensor, "a b c"], least: float) -> Box | None:
    """Intervals of the two short axes against Kadane's scan of the long one, in blocks.

    An interval of the first axis whose layers, added up, cannot exceed `least` is left out.
    """
    prefix = F.pad(values.permute(1, 2, 0), (1, 0)).cumsum(2)
    first, last = _intervals(values.shape[0])
    slabs = prefix.index_select(2, last).sub_(prefix.index_select(2, first))
    bound = best_sums(best_sums(slabs.transpose(0, 1)))
    kept = (bound > least).nonzero()[:, 0]
    slabs = F.pad(slabs.index_select(2, kept), (0, 0, 0, 0, 1, 0)).cumsum(0)
    left, right = _intervals(values.shape[1])
    best, place = least, None
    columns = max(1, _ELEMENTS_PER_BLOCK // (len(left) * values.shape[2]))
    for start in range(0, len(kept), columns):
        part = slabs[..., start : start + columns]
        lines = part.index_select(0, right).sub_(part.index_select(0, left))
        top, index = best_sums(lines.transpose(0, 1)).flatten().max(0)
        if top > best:
            row, column = divmod(int(index), lines.shape[2])
            best, place = float(top), (int(kept[start + column]), row)
    if place is None:
        return None
    rows_found = (int(first[place[0]]), int(last[place[0]]))
    columns_found = (int(left[place[1]]), int(right[place[1]]))
    line = values[slice(*rows_found), slice(*columns_found)].sum((0, 1))
    return rows_found, columns_found, best_interval(line.tolist())


def _intervals(length: int) -> tuple[Tensor, Tensor]:
    """Starts and stops of all intervals of at least one voxel."""
    return tuple(torch.triu_indices(length + 1, length + 1, offset=1))  # pyright: ignore
