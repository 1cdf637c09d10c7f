"""Non-maximum suppression: of boxes that find the same thing, keep the most confident."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap import rotated, scores as ratios
from softoverlap._checks import check_boxes, check_rotated_boxes, check_tensors, check_within
from softoverlap._periodic import Period, check_arcs
from softoverlap._types import accumulation_dtype, plain
from softoverlap.overlaps import BoxOverlap, Form, RotatedBoxOverlap, box_iou, rotated_box_iou
from softoverlap.suppression._greedy import Clash, MeetingClash, PairwiseScore, clash_of, suppress
from softoverlap.suppression._inputs import classes, one_a_box

_SLACK = 1 + 1e-9  # rounding never makes the bound of an overlap too low


def box_nms(
    boxes: Shaped[Tensor, "boxes coords"],
    scores: Float[Tensor, "boxes"],
    iou_threshold: float,
    labels: Int[Tensor, "boxes"] | None = None,
    *,
    overlap: PairwiseScore = box_iou,
    period: Period = None,
    validate: bool | None = None,
) -> Int[Tensor, "kept"]:
    """Greedy non-maximum suppression in any number of dimensions, exact.

    Boxes are visited by falling score (equal scores in the order given); a box is dropped if its
    overlap with a box already kept is above the threshold. Boxes meet in blocks, so that memory
    does not grow with N²; overlaps of this package other than NWD are formed only where boxes
    meet, if the threshold is at least 0. On a GPU every block waits for the device.

    Args:
        boxes: Boxes in any one unit, shape (N, 2 * ndim).
        scores: Confidence, shape (N,).
        iou_threshold: Highest overlap that two kept boxes may have, in the overlap's range: [0, 1]
            for IoU, [-1, 1] for GIoU, up to 1 for a function of your own.
        labels: Classes; boxes of different classes never drop each other. Shape (N,).
        overlap: Pairwise overlap of kept boxes (first) and candidates, for instance `box_giou`,
            `box_ciou.with_(gate=0.5)`, or `box_iof` to drop boxes that cover a kept one; or a
            function of your own.
        period: After which length each axis comes round, one number for all, or one an axis, None
            where it never does; short for `overlap=box_iou.with_(period=...)`. All pairs of boxes
            are then scored.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Indices of the boxes that are kept, by falling score, int64, shape (K,).

    Raises:
        TypeError: If an argument is not a tensor, or `overlap` no function.
        ValueError: If the shapes do not fit, a box is inverted, a score is NaN, or the threshold
            is out of range.

    References:
        Felzenszwalb et al., Object detection with discriminatively trained part-based models,
        TPAMI 32, 2010.

    Examples:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 10.0], [1.0, 11.0], [20.0, 30.0]])
        >>> box_nms(boxes, torch.tensor([0.6, 0.9, 0.5]), 0.5)
        tensor([1, 2])
    """
    check_tensors(boxes=boxes, scores=scores)
    check_boxes(boxes=boxes, validate=validate)
    if not callable(overlap):
        raise TypeError(f"overlap must be a function such as box_giou, got {overlap!r}")
    if isinstance(overlap, Form) and not isinstance(overlap, BoxOverlap):
        raise ValueError(f"overlap must be one of boxes such as box_giou, got {overlap!r}")
    if period is not None:
        if not isinstance(overlap, BoxOverlap):
            raise ValueError(f"period must be None for a function of your own, got {period}")
        overlap = overlap.with_(period=period)
    if isinstance(overlap, BoxOverlap):
        check_arcs(overlap.period, validate, boxes=boxes)
    low, high = overlap.range if isinstance(overlap, BoxOverlap) else (-float("inf"), 1.0)
    check_within(low, high, iou_threshold=iou_threshold)
    labels = classes(boxes, labels, validate)
    one_a_box(boxes, validate, scores=scores)
    wide = plain(boxes).detach().to(accumulation_dtype(boxes))
    return suppress(plain(scores).detach(), clash_of(wide, labels, overlap, iou_threshold))


def rotated_nms(
    boxes: Shaped[Tensor, "boxes parameters"],
    scores: Float[Tensor, "boxes"],
    iou_threshold: float,
    labels: Int[Tensor, "boxes"] | None = None,
    *,
    overlap: RotatedBoxOverlap = rotated_box_iou,
    validate: bool | None = None,
) -> Int[Tensor, "kept"]:
    """Greedy non-maximum suppression of oriented boxes, exact.

    Only pairs whose overlap can exceed the threshold, by the axis-aligned boxes around them and by
    their volumes, are clipped; all pairs if the threshold is below 0.

    Args:
        boxes: `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians counter-clockwise
            from axis 0 to axis 1, shape (N, 5) or (N, 7).
        scores: Confidence, shape (N,).
        iou_threshold: Highest overlap that two kept boxes may have, in the overlap's range: [0, 1]
            for IoU, [-1, 1] for GIoU.
        labels: Classes; boxes of different classes never drop each other. Shape (N,).
        overlap: Of kept boxes (first) and candidates, such as `rotated_box_diou`.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Indices of the boxes that are kept, by falling score, int64, shape (K,).

    Raises:
        TypeError: If an argument is not a tensor, or `overlap` none of oriented boxes.
        ValueError: If the shapes do not fit, an edge is negative, a score is NaN, or the threshold
            is out of range.

    Examples:
        Two cars parked at right angles both stay: they share a quarter of each.

        >>> import torch
        >>> cars = torch.tensor([[0.0, 0.0, 4.0, 1.0, 0.0], [0.0, 0.0, 4.0, 1.0, torch.pi / 2]])
        >>> rotated_nms(cars, torch.tensor([0.6, 0.9]), 0.5)
        tensor([1, 0])
    """
    check_tensors(boxes=boxes, scores=scores)
    check_rotated_boxes(boxes=boxes, validate=validate)
    if not isinstance(overlap, RotatedBoxOverlap):
        raise TypeError(
            f"overlap must be one of oriented boxes such as rotated_box_giou, got {overlap!r}"
        )
    check_within(*overlap.range, iou_threshold=iou_threshold)
    labels = classes(boxes, labels, validate)
    one_a_box(boxes, validate, scores=scores)
    wide = plain(boxes).detach().to(torch.float64)
    return suppress(plain(scores).detach(), _rotated_clash(wide, labels, overlap, iou_threshold))


def _rotated_clash(
    boxes: Tensor, labels: Tensor | None, overlap: RotatedBoxOverlap, threshold: float
) -> Clash:
    """Oriented boxes clash where their overlap is above the threshold."""
    if overlap.least_iou is None or threshold < 0:
        return clash_of(boxes, labels, overlap, threshold)
    least_iou = overlap.least_iou(threshold)
    ndim = rotated.spatial_dims(boxes)
    centres, volumes = boxes[:, :ndim], rotated.volume(boxes)
    centred = torch.cat([torch.zeros_like(centres), boxes[:, ndim:]], dim=1)
    reach = rotated.circumscribed(centred)[:, ndim:]  # half of the box around, free of the place

    def exceeds(i: Tensor, j: Tensor) -> Tensor:
        around = _shared_around(centres[i], reach[i], centres[j], reach[j])
        shared = torch.minimum(torch.minimum(volumes[i], volumes[j]), around)
        found = ~(ratios.iou(shared * _SLACK, volumes[i], volumes[j]) <= least_iou)  # NaN: volumes
        found[found.clone()] = overlap.score(boxes[i[found]], boxes[j[found]]) > threshold
        return found

    # rounding keeps the order, so boxes around that meet do not come apart
    around = torch.cat([centres - reach * _SLACK, centres + reach * _SLACK], dim=1)
    return MeetingClash(around, labels, exceeds)


def _shared_around(centre_a: Tensor, reach_a: Tensor, centre_b: Tensor, reach_b: Tensor) -> Tensor:
    """Volume that the axis-aligned boxes around oriented ones share."""
    apart = (centre_a - centre_b).abs()
    edges = torch.minimum(2 * torch.minimum(reach_a, reach_b), reach_a + reach_b - apart)
    return edges.clamp(min=0).prod(dim=1)
