"""Weighted box clustering: boxes of many patches or models that mean the same thing, averaged."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors, check_within
from softoverlap._periodic import Period, check_arcs, unwrapped
from softoverlap._types import accumulation_dtype, plain
from softoverlap.overlaps import box_iou
from softoverlap.suppression._greedy import clash_of, owners, suppress
from softoverlap.suppression._inputs import classes, not_negative, one_a_box


def weighted_box_clustering(
    boxes: Shaped[Tensor, "boxes coords"],
    scores: Float[Tensor, "boxes"],
    iou_threshold: float,
    labels: Int[Tensor, "boxes"] | None = None,
    *,
    weights: Float[Tensor, "boxes"] | None = None,
    expected: Shaped[Tensor, "boxes"] | None = None,
    period: Period = None,
    validate: bool | None = None,
) -> tuple[Float[Tensor, "clusters coords"], Float[Tensor, "clusters"], Int[Tensor, "clusters"]]:
    """Average the boxes that patches, flips or models found for the same thing.

    The clusters are those of non-maximum suppression: a box that stays is the head of those that
    it drops. A member i with score s, coordinates c and weight p counts `w = IoU(head, i) · p`, and
    with n members where m were expected

    - coordinates: `Σ w s c / Σ w s`
    - score: `Σ w s / (Σ w + max(0, m - n) · mean w)`

    so that a find that most views missed loses score. A cluster in which nothing counts has its
    head's box and the score 0. No gradient passes.

    Args:
        boxes: Boxes in any one unit, shape (N, 2 * ndim).
        scores: Confidence, at least 0, shape (N,).
        iou_threshold: IoU with the head above which a box joins its cluster, in [0, 1].
        labels: Classes; boxes of different classes are never joined. Shape (N,).
        weights: Trust in each box, at least 0, shape (N,); by default 1. Retina U-Net's is
            `box_volume(boxes)` times a factor that falls from the centre of the patch.
        expected: How many views see the place of each box: the m of a cluster is the mean of its
            members'. Shape (N,); by default no view is missed.
        period: After which length each axis comes round, as in `box_iou`; the members of a cluster
            are averaged where they lie nearest to its head.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Boxes, shape (K, 2 * ndim), in float32 or wider; their scores, shape (K,), falling; and the
        indices of the heads, int64, shape (K,), so that the labels are `labels[heads]`.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If the shapes do not fit, a box is inverted, a number is NaN, or the threshold
            lies outside [0, 1].

    References:
        Jaeger et al., Retina U-Net, https://arxiv.org/abs/1811.08661, section 2
        Baumgartner et al., nnDetection, https://arxiv.org/abs/2106.00817

    Examples:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 10.0], [0.0, 12.0], [20.0, 30.0]])
        >>> found, score, heads = weighted_box_clustering(
        ...     boxes, torch.tensor([0.8, 0.6, 0.5]), 0.5, expected=torch.tensor([2, 2, 2])
        ... )
        >>> found
        tensor([[ 0.0000, 10.7692],
                [20.0000, 30.0000]])
        >>> score, heads
        (tensor([0.7091, 0.2500]), tensor([0, 2]))
    """
    check_tensors(boxes=boxes, scores=scores)
    check_boxes(boxes=boxes, validate=validate)
    check_arcs(period, validate, boxes=boxes)
    check_within(0, 1, iou_threshold=iou_threshold)
    labels = classes(boxes, labels, validate)
    weights = torch.ones_like(scores) if weights is None else weights
    expected = torch.zeros_like(scores) if expected is None else expected
    check_tensors(weights=weights, expected=expected)
    one_a_box(boxes, validate, scores=scores, weights=weights, expected=expected)
    not_negative(validate, scores=scores, weights=weights, expected=expected)
    scores = scores if scores.is_floating_point() else scores.float()
    wide, strength, trust, views = (
        plain(tensor).detach().to(torch.float64) for tensor in (boxes, scores, weights, expected)
    )
    overlap = box_iou.with_(period=period)
    clash = clash_of(wide, labels, overlap, iou_threshold)
    heads = suppress(strength, clash)
    owner = owners(heads, len(wide), clash)
    head = wide[heads][owner]
    trust = trust * overlap.pairs(head, wide, validate=False)
    if period is not None:
        wide = unwrapped(wide, head, period)
    found = _mean_boxes(wide, trust * strength, owner, heads)
    score = _scores(strength, trust, views, owner, len(heads))
    order = score.argsort(descending=True, stable=True)
    dtype = accumulation_dtype(boxes)
    return found[order].to(dtype), score[order].to(scores.dtype), heads[order]


def _mean_boxes(boxes: Tensor, counts: Tensor, owner: Tensor, heads: Tensor) -> Tensor:
    """Mean coordinates of each cluster; the head's where nothing counts."""
    total = _sums(counts, owner, len(heads))[:, None]
    weighted = _sums(counts[:, None] * boxes, owner, len(heads))
    return torch.where(total > 0, weighted / torch.where(total > 0, total, 1), boxes[heads])


def _scores(scores: Tensor, trust: Tensor, views: Tensor, owner: Tensor, count: int) -> Tensor:
    """Mean score of each cluster, where a missing member counts as one of score 0."""
    members = _sums(torch.ones_like(scores), owner, count)
    missing = (_sums(views, owner, count) / members - members).clamp(min=0)
    total = _sums(trust, owner, count) * (1 + missing / members)
    weighted = _sums(trust * scores, owner, count)
    return torch.where(total > 0, weighted / torch.where(total > 0, total, 1), 0)


def _sums(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """The sum of each cluster."""
    return values.new_zeros((count, *values.shape[1:])).index_add_(0, owner, values)
