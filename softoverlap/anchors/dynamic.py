"""Which anchor serves which lesion, by what the network predicts there.

Both matchers weigh overlap against the predicted probability, and both work without predictions, on
overlap alone: in the first steps of a training, where predictions say nothing yet, leave them out.
They go through the lesions in blocks, so they need little memory beside the quality itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_boolean, check_positive, check_weight
from softoverlap._types import accumulation_dtype
from softoverlap.anchors.matches import Matcher, Scene, resolve_claims
from softoverlap.overlaps import box_pair_iou

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

    uses_predictions = True

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
        check_boolean(center_in_gt=center_in_gt)
        self.topk = topk
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.center_in_gt = center_in_gt

    def _index(self, scene: Scene) -> Int[Tensor, "anchors"]:
        claims = []
        for pairs in _meeting(scene):
            if self.center_in_gt:
                pairs = pairs.where((pairs.offset < pairs.half_edges).all(dim=1))
            aligned = torch.xlogy(self.alpha, pairs.score) + torch.xlogy(self.beta, pairs.overlap)
            rank = rank_within(pairs.lesion, aligned.nan_to_num(-torch.inf), len(scene.boxes))
            taken = (rank < self.topk) & (aligned > -torch.inf)
            claims.append((pairs.lesion[taken], pairs.anchor[taken], pairs.overlap[taken]))
        return resolve_claims(claims, *scene.quality.shape)


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

    uses_predictions = True

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
        reach = self.center_radius * place_distance(geometry.centres(scene.anchors), scene.levels)
        claims = []
        for pairs in _meeting(scene):
            cost = -pairs.score.log().clamp(min=-_WORST_SCORE)
            cost = cost - self.overlap_weight * pairs.overlap.log()
            outside = (pairs.offset >= reach[pairs.anchor]).any(dim=1)
            cost = cost + self.penalty * outside
            cost = cost.nan_to_num(torch.inf)
            rank = rank_within(pairs.lesion, -cost, len(scene.boxes))
            taken = rank < self._wanted(pairs, len(scene.boxes))[pairs.lesion]
            taken &= cost < torch.inf
            claims.append((pairs.lesion[taken], pairs.anchor[taken], -cost[taken]))
        return resolve_claims(claims, *scene.quality.shape)

    def _wanted(self, pairs: _Pairs, lesions: int) -> Float[Tensor, "lesions"]:
        """How many anchors each lesion can use."""
        counted = rank_within(pairs.lesion, pairs.overlap, lesions) < self.candidates
        total = torch.zeros(lesions, dtype=torch.float64, device=counted.device)
        total = total.index_add(0, pairs.lesion[counted], pairs.overlap[counted].double())
        return total.floor().clamp(min=1)


def place_distance(
    centres: Float[Tensor, "anchors ndim"], levels: Sequence[int]
) -> Float[Tensor, "anchors ndim"]:
    """Distance of neighbouring places on the level of each anchor, infinite where there is one."""
    rows = []
    for level in centres.split([count for count in levels if count]):
        ordered = level.sort(dim=0).values
        extent = ordered[-1:] - ordered[:1]
        steps = (ordered.diff(dim=0) > 1e-4 * extent).sum(dim=0, keepdim=True)
        distance = (extent / steps.clamp(min=1)).where(steps > 0, torch.inf)
        rows.append(distance.expand_as(level))
    return torch.cat(rows)


def rank_within(
    lesion: Int[Tensor, "pairs"], value: Float[Tensor, "pairs"], lesions: int
) -> Int[Tensor, "pairs"]:
    """Rank of each value among those of its lesion, the highest first."""
    order = value.argsort(descending=True, stable=True)
    order = order[lesion[order].argsort(stable=True)]
    count = torch.bincount(lesion, minlength=lesions)
    place = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[lesion[order]]
    return torch.empty_like(order).scatter(0, order, place)


@dataclass(frozen=True)
class _Pairs:
    """Lesions and anchors that meet, with what a matcher weighs."""

    lesion: Int[Tensor, "pairs"]
    anchor: Int[Tensor, "pairs"]
    overlap: Float[Tensor, "pairs"]
    score: Float[Tensor, "pairs"]
    offset: Float[Tensor, "pairs ndim"]
    half_edges: Float[Tensor, "pairs ndim"]

    def where(self, kept: Bool[Tensor, "pairs"]) -> _Pairs:
        return _Pairs(*(value[kept] for value in vars(self).values()))


def _meeting(scene: Scene) -> Iterator[_Pairs]:
    """Pairs of quality and overlap above 0, some lesions at a time."""
    step = max(1, _ELEMENTS_PER_BLOCK // len(scene.anchors))
    for start in range(0, len(scene.boxes), step):
        quality = scene.quality[start : start + step].detach()
        row, anchor = (quality > 0).nonzero(as_tuple=True)
        pairs = _pairs(scene, quality[row, anchor], row + start, anchor)
        yield pairs.where(pairs.overlap > 0)


def _pairs(scene: Scene, quality: Tensor, lesion: Tensor, anchor: Tensor) -> _Pairs:
    box, place = scene.boxes[lesion], scene.anchors[anchor]
    overlap = quality.to(accumulation_dtype(quality))
    if scene.pred_boxes is not None:
        overlap = box_pair_iou(box, scene.pred_boxes[anchor], validate=False).to(overlap)
    score = torch.ones_like(overlap)
    if scene.pred_scores is not None:
        score = scene.pred_scores[lesion, anchor].to(overlap)
    offset = (geometry.centres(box) - geometry.centres(place)).abs()
    half_edges = torch.stack(geometry.edges(box), dim=1) / 2
    return _Pairs(lesion, anchor, overlap, score, offset, half_edges)
