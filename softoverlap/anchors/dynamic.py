"""Which anchor serves which lesion, by what the network predicts there.

Both matchers weigh overlap against the predicted probability, and both work without predictions, on
overlap alone: in the first steps of a training, where predictions say nothing yet, leave them out.
They go through the lesions in blocks, so they need little memory beside the quality itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_positive, check_weight
from softoverlap._types import accumulation_dtype
from softoverlap.anchors.matches import Matcher, Scene, resolve_claims
from softoverlap.overlaps import box_iou

_ELEMENTS_PER_BLOCK = 1 << 21
_WORST_SCORE = 100.0
"""Highest cost of a score, as in PyTorch's binary cross-entropy: a score of 0 costs no infinity."""


class TaskAlignedMatcher(Matcher):
    """Task-aligned assignment: anchors where the network both scores and locates a lesion well.

    The alignment of an anchor with a lesion is `t = s^alpha * u^beta`: s is the predicted
    probability of the lesion's class, u the box IoU of the predicted box with the lesion's box.
    The `topk` anchors of highest alignment are the lesion's positives; one that several lesions
    claim goes to the one of highest overlap u. Only anchors that meet the lesion are candidates. A
    lesion that comes away empty is given an anchor, as by all matchers.

    Without `pred_boxes`, u is the anchor's quality; without `pred_scores`, s is 1. Without both,
    the positives are the `topk` anchors of highest quality.

    Args:
        topk: Positives of each lesion, at most; at least 1.
        alpha: Power of the score, at least 0.
        beta: Power of the overlap, at least 0.
        center_in_gt: Only anchors whose centre lies in the lesion's box are candidates; off by
            default, since it leaves most small lesions without any.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Feng et al., TOOD: task-aligned one-stage object detection, https://arxiv.org/abs/2108.07755

    Examples:
        >>> import torch
        >>> anchors = torch.tensor([[0.0, 4.0], [2.0, 6.0], [4.0, 8.0]])
        >>> matcher = TaskAlignedMatcher(topk=1)
        >>> case = dict(num_locations_per_level=[3], num_anchors_per_loc=1)
        >>> quality, boxes = torch.tensor([[0.6, 0.5, 0.0]]), torch.tensor([[1.0, 5.0]])
        >>> matcher(quality, boxes, anchors, **case).index
        tensor([ 0, -1, -1])
        >>> scores = torch.tensor([[0.1, 0.9, 0.9]])
        >>> matcher(quality, boxes, anchors, pred_scores=scores, **case).index
        tensor([-1,  0, -1])
    """

    def __init__(
        self,
        topk: int = 13,
        alpha: float = 1.0,
        beta: float = 6.0,
        *,
        center_in_gt: bool = False,
    ) -> None:
        if topk < 1:
            raise ValueError(f"topk must be at least 1, got {topk}")
        check_weight(alpha=alpha, beta=beta)
        self.topk = topk
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.center_in_gt = center_in_gt

    def _index(self, scene: Scene) -> Int[Tensor, "anchors"]:
        centres = geometry.centres(scene.anchors)
        ndim, top = centres.shape[1], min(self.topk, len(centres))
        found = []
        for rows, overlap, score in _blocks(scene):
            aligned = torch.xlogy(self.alpha, score) + self.beta * overlap.log()  # log t
            allowed = overlap > 0
            if self.center_in_gt:
                box = scene.boxes[rows]
                half = (box[:, None, ndim:] - box[:, None, :ndim]) / 2
                allowed &= _near(centres, geometry.centres(box), half)
            value, anchor = _or_never(aligned, allowed).topk(top, dim=1)
            found.append((anchor, overlap.gather(1, anchor), value > -torch.inf))
        return _resolved(found, len(centres))


class SimOTAMatcher(Matcher):
    """Simplified optimal transport: each lesion says how many anchors it can use, and which.

    A lesion's number of positives is the sum of its `candidates` highest overlaps, rounded down
    and at least 1. It gets the anchors of lowest cost `-log s - overlap_weight * log u`, plus
    `penalty` for an anchor whose centre is further than `center_radius` places from the lesion's
    on any axis. An anchor that several lesions claim serves the one of lowest cost. s and u are
    the predicted probability and the box IoU of the predicted box, as in `TaskAlignedMatcher`, with
    the same stand-ins: without `pred_boxes`, u is the anchor's quality; without `pred_scores`, the
    score costs nothing. Only anchors that meet the lesion are candidates, and a lesion that comes
    away empty is given an anchor, as by all matchers.

    The distance of neighbouring places is read from the anchors, level by level and axis by axis;
    where a level has one place on an axis, that axis sets no limit.

    Args:
        candidates: Highest overlaps that are summed up, and most positives of a lesion; at
            least 1.
        center_radius: Half width of the region without penalty, in places of each level, above 0.
        overlap_weight: Weight of the overlap's cost, at least 0.
        penalty: Added outside the region, at least 0; by default more than all other costs.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Ge et al., YOLOX: exceeding YOLO series in 2021, https://arxiv.org/abs/2107.08430

    Examples:
        >>> import torch
        >>> anchors = torch.tensor([[0.0, 4.0], [1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
        >>> quality, boxes = torch.tensor([[0.9, 0.8, 0.6, 0.4]]), torch.tensor([[0.0, 5.0]])
        >>> SimOTAMatcher()(  # the sum of the overlaps is 2.7
        ...     quality, boxes, anchors, num_locations_per_level=[4], num_anchors_per_loc=1
        ... ).index
        tensor([ 0,  0, -1, -1])
    """

    def __init__(
        self,
        candidates: int = 10,
        center_radius: float = 2.5,
        *,
        overlap_weight: float = 3.0,
        penalty: float = 1000.0,
    ) -> None:
        if candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        check_positive(center_radius=center_radius)
        check_weight(overlap_weight=overlap_weight, penalty=penalty)
        self.candidates = candidates
        self.center_radius = center_radius
        self.overlap_weight = overlap_weight
        self.penalty = penalty

    def _index(self, scene: Scene) -> Int[Tensor, "anchors"]:
        centres = geometry.centres(scene.anchors)
        reach = self.center_radius * place_distance(centres, scene.levels)
        top, found = min(self.candidates, len(centres)), []
        for rows, overlap, score in _blocks(scene):
            near = _near(centres, geometry.centres(scene.boxes[rows]), reach[None])
            cost = -score.log().clamp(min=-_WORST_SCORE) - self.overlap_weight * overlap.log()
            cost = cost.where(near, cost + self.penalty)
            value, anchor = _or_never(-cost, overlap > 0).topk(top, dim=1)
            wanted = overlap.topk(top, dim=1).values.clamp(min=0).double().sum(dim=1).floor()
            rank = torch.arange(top, device=anchor.device)
            claimed = rank < wanted.clamp(min=1)[:, None]
            found.append((anchor, value, claimed & (value > -torch.inf)))
        return _resolved(found, len(centres))


def place_distance(
    centres: Float[Tensor, "anchors ndim"], levels: Sequence[int]
) -> Float[Tensor, "anchors ndim"]:
    """Distance of neighbouring places on the level of each anchor, infinite where there is one."""
    rows = []
    for level in centres.split(list(levels)):
        ordered = level.sort(dim=0).values
        extent = ordered[-1:] - ordered[:1] if len(level) else level
        steps = (ordered.diff(dim=0) > 1e-4 * extent).sum(dim=0, keepdim=True)
        distance = (extent / steps.clamp(min=1)).where(steps > 0, torch.inf)
        rows.append(distance.expand_as(level))
    return torch.cat(rows)


def _blocks(scene: Scene) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some lesions at a time: which, their overlap with all anchors (0 for a miss), the scores."""
    count, step = len(scene.boxes), max(1, _ELEMENTS_PER_BLOCK // len(scene.anchors))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        quality = scene.quality[rows].detach().to(accumulation_dtype(scene.quality))
        overlap = quality
        if scene.pred_boxes is not None:
            overlap = box_iou(scene.boxes[rows], scene.pred_boxes, validate=False).to(quality)
        overlap = overlap.where(quality > 0, 0.0)
        scores = scene.pred_scores
        yield rows, overlap, quality.new_ones(1) if scores is None else scores[rows].to(quality)


def _near(
    points: Float[Tensor, "anchors ndim"],
    centres: Float[Tensor, "lesions ndim"],
    reach: Shaped[Tensor, "#lesions #anchors ndim"],
) -> Bool[Tensor, "lesions anchors"]:
    """Whether each point lies within reach of each centre on every axis, one axis at a time."""
    axes = range(points.shape[1])
    inside = [(points[:, n] - centres[:, n, None]).abs() < reach[..., n] for n in axes]
    return reduce(torch.logical_and, inside)


def _resolved(
    found: Sequence[tuple[Tensor, Tensor, Tensor]], num_anchors: int
) -> Int[Tensor, "anchors"]:
    candidates, value, claimed = (torch.cat(part) for part in zip(*found, strict=True))
    return resolve_claims(candidates, value, claimed, num_anchors)


def _or_never(value: Tensor, allowed: Tensor) -> Tensor:
    """The value where it is allowed and a number, elsewhere -∞."""
    return value.where(allowed & (value > -torch.inf), -torch.inf)
