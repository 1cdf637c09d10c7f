"""Soft-NMS: a box that finds what a better one has found loses score, not its place."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap._checks import (
    check_boxes,
    check_choice,
    check_positive,
    check_tensors,
    check_weight,
    check_within,
)
from softoverlap._periodic import Period, check_arcs
from softoverlap._types import accumulation_dtype, plain
from softoverlap.overlaps import box_iou
from softoverlap.suppression._inputs import classes, not_negative, one_a_box


def soft_nms(
    boxes: Shaped[Tensor, "boxes coords"],
    scores: Float[Tensor, "boxes"],
    labels: Int[Tensor, "boxes"] | None = None,
    *,
    decay: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    score_threshold: float = 0.001,
    period: Period = None,
    validate: bool | None = None,
) -> tuple[Int[Tensor, "kept"], Float[Tensor, "kept"]]:
    """Soft non-maximum suppression in any number of dimensions.

    Again and again the box with the highest score is taken (the first of equals), and the scores
    of the others of its class decay by their IoU with it: times `exp(-IoU² / sigma)` (gaussian),
    or times `1 - IoU` where the IoU is above `iou_threshold` (linear). One step a box, so for
    thousands of boxes pick the best before. No gradient passes.

    Args:
        boxes: Boxes in any one unit, shape (N, 2 * ndim).
        scores: Confidence, at least 0, shape (N,).
        labels: Classes; boxes of different classes leave each other alone. Shape (N,).
        decay: `"gaussian"` or `"linear"`.
        sigma: Width of the Gaussian decay, above 0.
        iou_threshold: IoU up to which the linear decay leaves a box alone, in [0, 1].
        score_threshold: Boxes whose score does not stay above this are dropped, at least 0.
        period: After which length each axis comes round, as in `box_iou`.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Indices of the boxes that are left, by falling decayed score, int64, shape (K,), and their
        decayed scores, shape (K,).

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If the shapes do not fit, a box is inverted, a score is NaN, or an option is
            out of range.

    References:
        Bodla et al., Soft-NMS, https://arxiv.org/abs/1704.04503

    Examples:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 10.0], [0.0, 5.0], [20.0, 30.0]])
        >>> soft_nms(boxes, torch.tensor([0.8, 0.6, 0.5]), decay="linear")
        (tensor([0, 2, 1]), tensor([0.8000, 0.5000, 0.3000]))
    """
    check_tensors(boxes=boxes, scores=scores)
    check_boxes(boxes=boxes, validate=validate)
    check_arcs(period, validate, boxes=boxes)
    check_choice("decay", decay, ("gaussian", "linear"))
    check_positive(sigma=sigma)
    check_weight(score_threshold=score_threshold)
    check_within(0, 1, iou_threshold=iou_threshold)
    labels = classes(boxes, labels, validate)
    one_a_box(boxes, validate, scores=scores)
    not_negative(validate, scores=scores)
    scores = scores if scores.is_floating_point() else scores.float()
    boxes = plain(boxes).detach().to(accumulation_dtype(boxes))
    pair_score = box_iou.with_(period=period)
    left = plain(scores).detach().to(accumulation_dtype(scores), copy=True)
    taken: list[tuple[Tensor, Tensor]] = []
    for _ in range(len(boxes)):
        best = left.argmax()
        if not left[best] > score_threshold:
            break
        taken.append((best, left[best].clone()))
        overlap = pair_score(boxes[best][None], boxes, validate=False)[0]
        factor = _factor(overlap, decay, sigma, iou_threshold)
        if labels is not None:
            factor = torch.where(labels == labels[best], factor, 1)
        left *= factor
        left[best] = -1  # taken
    if not taken:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device), scores.detach()[:0]
    indices, values = (torch.stack(column) for column in zip(*taken, strict=True))
    return indices, values.to(scores.dtype)


def _factor(overlap: Tensor, decay: str, sigma: float, iou_threshold: float) -> Tensor:
    """What is left of a score, by the overlap with the box that was taken."""
    if decay == "gaussian":
        return torch.exp(-(overlap**2) / sigma)
    return torch.where(overlap > iou_threshold, 1 - overlap, 1)
