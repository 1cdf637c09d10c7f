"""Non-maximum suppression: of boxes that find the same thing, keep the most confident."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors, should_validate
from softoverlap._types import plain
from softoverlap.overlaps import box_iou

_BOXES_PER_BLOCK = 1024


def box_nms(
    boxes: Shaped[Tensor, "boxes coords"],
    scores: Float[Tensor, "boxes"],
    iou_threshold: float,
    labels: Int[Tensor, "boxes"] | None = None,
    *,
    validate: bool | None = None,
) -> Int[Tensor, "kept"]:
    """Greedy non-maximum suppression in any number of dimensions, exact.

    Boxes are visited by falling score (equal scores in the order given); a box is dropped if its
    IoU with a box already kept is above the threshold. Memory grows with 1024 · N, not with N².

    Args:
        boxes: Boxes in any one unit, shape (N, 2 * ndim).
        scores: Confidence, shape (N,).
        iou_threshold: Highest IoU that two kept boxes may have, in [0, 1].
        labels: Classes; boxes of different classes never drop each other. Shape (N,).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Indices of the boxes that are kept, by falling score, int64, shape (K,).

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If the shapes do not fit, a box is inverted, a score is NaN, or the threshold
            lies outside [0, 1].

    References:
        Felzenszwalb et al., Object detection with discriminatively trained part-based models,
        TPAMI 32, 2010.

    Examples:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 10.0], [1.0, 11.0], [20.0, 30.0]])
        >>> box_nms(boxes, torch.tensor([0.6, 0.9, 0.5]), 0.5)
        tensor([1, 2])
    """
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else labels
    labels = labels.to(boxes.device)
    _check(boxes, scores, iou_threshold, labels, validate)
    boxes, scores, labels = plain(boxes).detach(), plain(scores).detach(), plain(labels)
    order = scores.argsort(descending=True, stable=True)
    kept = order[:0]
    for block in order.split(_BOXES_PER_BLOCK):
        for part in kept.split(_BOXES_PER_BLOCK):
            clash = _clash(boxes, labels, part, block, iou_threshold)
            block = block[~clash.any(dim=0)]
        clash = _clash(boxes, labels, block, block, iou_threshold)
        kept = torch.cat([kept, block[_greedy(clash.triu(1))]])
    return kept


def _clash(
    boxes: Tensor, labels: Tensor, rows: Tensor, columns: Tensor, threshold: float
) -> Bool[Tensor, "rows columns"]:
    overlap = box_iou(boxes[rows], boxes[columns], validate=False)
    return (overlap > threshold) & (labels[rows, None] == labels[None, columns])


def _greedy(clash: Bool[Tensor, "boxes boxes"]) -> Bool[Tensor, "boxes"]:
    """Which boxes stay. Row i drops column j > i if row i stays.

    Starting from all, each round settles at least one more box for good, so the fixed point is
    the greedy result; the rounds are as many as the longest chain of drops, usually a few.
    """
    stays = torch.ones(len(clash), dtype=torch.bool, device=clash.device)
    while True:
        following = ~(clash & stays[:, None]).any(dim=0)
        if torch.equal(following, stays):
            return stays
        stays = following


def _check(
    boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor, validate: bool | None
) -> None:
    check_tensors(boxes=boxes, scores=scores, labels=labels)
    check_boxes(boxes=boxes, validate=validate)
    for name, values in (("scores", scores), ("labels", labels)):
        if values.shape != boxes.shape[:1]:
            raise ValueError(
                f"{name} must have shape ({len(boxes)},), one a box, got {tuple(values.shape)}"
            )
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must lie in [0, 1], got {iou_threshold}")
    if should_validate(validate, scores) and scores.isnan().any():
        raise ValueError("scores must be numbers, got NaN")
