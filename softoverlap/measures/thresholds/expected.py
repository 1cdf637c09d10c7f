"""Dice and IoU expected over a uniform threshold, exact by one sort or bounded by a histogram.

With m the larger maximum of both maps, the expected Dice is ∫ Dice(p >= t, y >= t) dt / m over t in
(0, m]: thresholds above both maps, where nothing is left to compare, are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_choice
from softoverlap._types import Masks, Targets, VoxelWeights, accumulation_dtype
from softoverlap.measures.mask_inputs import MaskInputs, MaskPair
from softoverlap.measures.thresholds import voxels
from softoverlap.measures.thresholds.curve import Ratio

Scores = Float[Tensor, "batch classes"]

METHODS = ("exact", "histogram")
BINS = 4096


class ExpectedBounds(NamedTuple):
    """Proven bounds of an expected score: the exact one lies between them.

    Args:
        lower: At most the exact score, float64.
        upper: At least the exact score, same shape.

    Examples:
        >>> import torch
        >>> bounds = ExpectedBounds(torch.tensor([0.70]), torch.tensor([0.71]))
        >>> (bounds.upper - bounds.lower).item() < 0.02
        True
    """

    lower: Tensor
    upper: Tensor


def compute_expected_dice(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    method: str = "exact",
    bins: int = BINS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Expected Dice of both maps cut at a threshold drawn from (0, larger maximum of both].

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, for instance the mean of raters, or labels
            (B, 1, *spatial) where there are several classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty; else an empty target scores 0, or `empty`
            where the prediction is empty as well.
        num_classes: Number of classes of single-channel labels, background included.
        method: "exact" sorts the voxels above 0; "histogram" counts them in `bins` cells, in a
            small part of the time, and `compute_expected_dice_bounds` says how far off it can be.
        bins: Cells of the histogram up to the next power of two above the maximum; a power of two,
            so that no value is rounded across an edge.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], `method` is unknown or
            `bins` is no power of two.

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.25]]])
        >>> compute_expected_dice(pred, target)
        tensor([[0.9167]], dtype=torch.float64)
    """
    check_method(method, bins)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    pair = inputs.values(y_pred, y, mask=mask)
    chosen = bins if method == "histogram" else None
    return expected(scores.dice, pair, chosen, ignore_empty, empty)[..., 0]


def compute_expected_iou(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    method: str = "exact",
    bins: int = BINS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Expected IoU of both maps cut at a threshold drawn from (0, larger maximum of both].

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, for instance the mean of raters, or labels
            (B, 1, *spatial) where there are several classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty; else an empty target scores 0, or `empty`
            where the prediction is empty as well.
        num_classes: Number of classes of single-channel labels, background included.
        method: "exact" sorts the voxels above 0; "histogram" counts them in `bins` cells, in a
            small part of the time, and `compute_expected_iou_bounds` says how far off it can be.
        bins: Cells of the histogram up to the next power of two above the maximum; a power of two,
            so that no value is rounded across an edge.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1], `method` is unknown or
            `bins` is no power of two.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.25]]])
        >>> compute_expected_iou(pred, target)
        tensor([[0.8750]], dtype=torch.float64)
    """
    check_method(method, bins)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    pair = inputs.values(y_pred, y, mask=mask)
    chosen = bins if method == "histogram" else None
    return expected(scores.iou, pair, chosen, ignore_empty, empty)[..., 0]


def compute_expected_dice_bounds(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    bins: int = BINS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> ExpectedBounds:
    """Bounds of the expected Dice from a histogram: the exact score lies between them.

    Within a cell of thresholds the sizes of intersection and union fall from those of the cell's
    lower edge to those of its upper edge, and the score rises with the first and falls with the
    second. What `method="histogram"` gives lies between the bounds too, so its error is at most
    their distance.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, for instance the mean of raters, or labels
            (B, 1, *spatial) where there are several classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty; else an empty target scores 0, or `empty`
            where the prediction is empty as well.
        num_classes: Number of classes of single-channel labels, background included.
        bins: Cells of the histogram up to the next power of two above the maximum; a power of two.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Lower and upper bound in [0, 1] or NaN, float64, each of shape (B, C).

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1] or `bins` is no power of
            two.

    References:
        Wang et al., Dice Semimetric Losses, https://arxiv.org/abs/2303.16296

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.3]]])
        >>> lower, upper = compute_expected_dice_bounds(pred, target)
        >>> bool(lower < compute_expected_dice(pred, target) < upper)
        True
    """
    check_method("histogram", bins)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    pair = inputs.values(y_pred, y, mask=mask)
    found = expected(scores.dice, pair, bins, ignore_empty, empty)
    return ExpectedBounds(found[..., 1], found[..., 2])


def compute_expected_iou_bounds(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    bins: int = BINS,
    ignore_index: int | None = None,
    mask: VoxelWeights | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> ExpectedBounds:
    """Bounds of the expected IoU from a histogram: the exact score lies between them.

    Within a cell of thresholds the sizes of intersection and union fall from those of the cell's
    lower edge to those of its upper edge, and the score rises with the first and falls with the
    second. What `method="histogram"` gives lies between the bounds too, so its error is at most
    their distance.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, for instance the mean of raters, or labels
            (B, 1, *spatial) where there are several classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where the target is empty; else an empty target scores 0, or `empty`
            where the prediction is empty as well.
        num_classes: Number of classes of single-channel labels, background included.
        bins: Cells of the histogram up to the next power of two above the maximum; a power of two.
        ignore_index: Voxels with this label do not count.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Lower and upper bound in [0, 1] or NaN, float64, each of shape (B, C).

    Raises:
        ValueError: If the shapes differ, a probability lies outside [0, 1] or `bins` is no power of
            two.

    References:
        Wang et al., Jaccard Metric Losses, https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.3]]])
        >>> lower, upper = compute_expected_iou_bounds(pred, target)
        >>> bool(lower < compute_expected_iou(pred, target) < upper)
        True
    """
    check_method("histogram", bins)
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    pair = inputs.values(y_pred, y, mask=mask)
    found = expected(scores.iou, pair, bins, ignore_empty, empty)
    return ExpectedBounds(found[..., 1], found[..., 2])


def check_method(method: str, bins: int) -> None:
    """The method is known, and bins are a power of two that a histogram can hold."""
    check_choice("method", method, METHODS)
    if not isinstance(bins, int) or not 2 <= bins <= 1 << 20 or bins & (bins - 1):
        raise ValueError(f"bins must be a power of two from 2 to 2**20, got {bins}")


def expected(
    ratio: Ratio, pair: MaskPair, bins: int | None, ignore_empty: bool, empty: float
) -> Float[Tensor, "batch channel 3"]:
    """The expected score and its bounds, by a histogram of `bins` cells, or exact without any."""
    dtype = accumulation_dtype(pair.pred, pair.truth)
    maps = voxels.voxels_of(pair.pred.to(dtype), pair.truth.to(dtype), pair.counted)
    found = torch.zeros(*pair.pred.shape[:2], 3, device=pair.pred.device, dtype=torch.float64)
    for row, (pred, truth, weights) in zip(found.flatten(0, 1), maps, strict=True):
        filled = (bool((truth > 0).any()), bool((pred > 0).any()))
        if not filled[0] and (ignore_empty or not filled[1]):
            row[:] = torch.nan if ignore_empty else empty
        elif bins is None:
            row[:] = _exact(ratio, pred, truth, weights)
        else:
            row[:] = from_cells(ratio, voxels.cells_between(pred, truth, bins, weights))
    return found


def _exact(ratio: Ratio, pred: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
    """The integral over the pieces on which both cut maps stay the same.

    The voxelwise minimum and maximum of two maps have their intersection and union, and the same
    sizes in total: they stand in for the maps.
    """
    total = width = torch.zeros((), device=pred.device, dtype=torch.float64)
    for part, shared, joint in voxels.pieces(pred, truth, weights):
        total = total + (part * ratio(shared, shared, joint, empty=0.0)).sum()
        width = width + part.sum()
    return (total / width).clamp(0, 1)


def from_cells(ratio: Ratio, cells: voxels.Cells) -> Tensor:
    """The score from the middle sizes of each cell, and from those that are worst and best."""
    low, high = cells.shared_low, cells.shared_high
    middle = (low + high) / 2
    sizes = (
        (middle, (cells.joint_low + cells.joint_high) / 2),
        (low, cells.joint_high),
        (high, torch.maximum(cells.joint_low, high)),  # no intersection is above the union
    )
    found = [ratio(shared, shared, joint, empty=1.0) for shared, joint in sizes]
    share = cells.width / cells.width.sum()
    return torch.stack([(share * score).sum() for score in found]).clamp(0, 1)
