"""Which anchor serves which lesion: matchers with one interface, in any number of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_boxes, check_rank
from softoverlap.anchors._reserve import reserve_one_each

BACKGROUND = -1
IGNORE = -2


@dataclass(frozen=True)
class Matches:
    """What each anchor shall learn.

    Args:
        quality: Quality of each anchor for its lesion, in [0, 1]; for an anchor without lesion
            the highest for any. Shape (N,).
        index: Lesion of each anchor, -1 for background, -2 to ignore it; int64, shape (N,).

    Raises:
        ValueError: If the shapes differ or are not (N,).

    Examples:
        >>> import torch
        >>> matches = Matches(torch.tensor([0.9, 0.0, 0.1]), torch.tensor([0, 1, -1]))
        >>> matches.positive
        tensor([ True,  True, False])
        >>> matches.fallback
        tensor([False,  True, False])
    """

    quality: Float[Tensor, "anchors"]
    index: Int[Tensor, "anchors"]

    def __post_init__(self) -> None:
        for name in ("quality", "index"):
            shape = tuple(getattr(self, name).shape)
            if shape != (self.index.numel(),):
                raise ValueError(
                    f"{name} must have shape (N,), one value an anchor, got shape {shape}"
                )

    @property
    def positive(self) -> Bool[Tensor, "anchors"]:
        """Anchors with a lesion."""
        return self.index >= 0

    @property
    def fallback(self) -> Bool[Tensor, "anchors"]:
        """Anchors that serve a lesion without meeting it, since no free anchor met it."""
        return self.positive & (self.quality <= 0)


class MaxOverlapMatcher:
    """Each anchor serves the lesion that it covers best, if it covers it well enough.

    `low` and `high` are the dial between precision and recall: anchors of at least `high` are
    positive, those below `low` are background, those between are ignored.

    Args:
        low: Below this quality an anchor is background, in [0, 1].
        high: From this quality on an anchor is positive, in [0, 1], at least `low`.
        allow_low_quality_matches: Give a lesion that no anchor covers well enough its best one,
            so that every lesion has at least one positive.

    Raises:
        ValueError: If not 0 <= low <= high <= 1.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497

    Examples:
        >>> import torch
        >>> matcher = MaxOverlapMatcher(0.4, 0.5)
        >>> anchors = torch.tensor([[0.0, 4.0], [2.0, 6.0], [4.0, 8.0]])
        >>> quality = torch.tensor([[0.8, 0.45, 0.0]])
        >>> matcher(
        ...     quality, torch.tensor([[0.0, 3.0]]), anchors,
        ...     num_locations_per_level=[3], num_anchors_per_loc=1,
        ... ).index
        tensor([ 0, -2, -1])
    """

    def __init__(self, low: float, high: float, *, allow_low_quality_matches: bool = True) -> None:
        if not 0 <= low <= high <= 1:
            raise ValueError(f"low and high must satisfy 0 <= low <= high <= 1, got {low}, {high}")
        self.low = low
        self.high = high
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(
        self,
        quality: Float[Tensor, "lesions anchors"],
        boxes: Shaped[Tensor, "lesions coords"],
        anchors: Shaped[Tensor, "anchors coords"],
        *,
        num_locations_per_level: Sequence[int],
        num_anchors_per_loc: int,
        pred_scores: Tensor | None = None,
        pred_boxes: Tensor | None = None,
    ) -> Matches:
        """Match the anchors of one image.

        Args:
            quality: Quality of each anchor for each lesion, in [0, 1], shape (M, N).
            boxes: Boxes of the lesions in voxels, shape (M, 2 * ndim).
            anchors: Candidate boxes in voxels, shape (N, 2 * ndim).
            num_locations_per_level: Places in each feature map, one number a level.
            num_anchors_per_loc: Anchors at each place.
            pred_scores: Not used; part of the interface.
            pred_boxes: Not used; part of the interface.

        Returns:
            The matches of N anchors.

        Raises:
            ValueError: If the shapes do not fit together.
        """
        check_matching(quality, boxes, anchors, num_locations_per_level, num_anchors_per_loc)
        if not len(boxes):
            return _all_background(anchors)
        best, index = quality.max(dim=0)
        index = index.where((best >= self.high) & (best > 0), IGNORE)
        index = index.where(best >= self.low, BACKGROUND)
        if self.allow_low_quality_matches:
            index = reserve_one_each(index, quality, boxes, anchors)
        return _matches(quality, index)


class ATSSMatcher:
    """Adaptive training sample selection: each lesion sets its own threshold.

    On every level the anchors nearest to a lesion's centre are its candidates; those of at least
    mean + standard deviation of the candidates' quality are positive. An anchor that several
    lesions claim serves the one it covers best. A lesion that comes away empty gets the best
    anchor that overlaps it, one anchor serving one lesion (anchors are reserved so that as many
    lesions as possible get one), and only if there is none the nearest free anchor: that one has
    quality 0, and `Matches.fallback` tells. So every lesion has a positive, if there are at least
    as many anchors as lesions.

    Args:
        num_candidates: Places on each level whose anchors are candidates; at least 1.
        center_in_gt: Only anchors whose centre lies in the lesion's box are positive; off by
            default, since it leaves most small lesions without an anchor but the fallback.

    Raises:
        ValueError: If `num_candidates` is below 1.

    References:
        Zhang et al., Bridging the gap between anchor-based and anchor-free detection via adaptive
        training sample selection, https://arxiv.org/abs/1912.02424

    Examples:
        >>> import torch
        >>> anchors = torch.tensor([[0.0, 4.0], [2.0, 6.0], [4.0, 8.0], [6.0, 10.0]])
        >>> matcher = ATSSMatcher(num_candidates=3)
        >>> matcher(
        ...     torch.tensor([[0.1, 0.9, 0.3, 0.0]]), torch.tensor([[2.0, 5.0]]), anchors,
        ...     num_locations_per_level=[4], num_anchors_per_loc=1,
        ... ).index
        tensor([-1,  0, -1, -1])
    """

    def __init__(self, num_candidates: int = 4, *, center_in_gt: bool = False) -> None:
        if num_candidates < 1:
            raise ValueError(f"num_candidates must be at least 1, got {num_candidates}")
        self.num_candidates = num_candidates
        self.center_in_gt = center_in_gt

    def __call__(
        self,
        quality: Float[Tensor, "lesions anchors"],
        boxes: Shaped[Tensor, "lesions coords"],
        anchors: Shaped[Tensor, "anchors coords"],
        *,
        num_locations_per_level: Sequence[int],
        num_anchors_per_loc: int,
        pred_scores: Tensor | None = None,
        pred_boxes: Tensor | None = None,
    ) -> Matches:
        """Match the anchors of one image.

        Args:
            quality: Quality of each anchor for each lesion, in [0, 1], shape (M, N).
            boxes: Boxes of the lesions in voxels, shape (M, 2 * ndim).
            anchors: Candidate boxes in voxels, level by level, shape (N, 2 * ndim).
            num_locations_per_level: Places in each feature map, one number a level.
            num_anchors_per_loc: Anchors at each place.
            pred_scores: Not used; part of the interface.
            pred_boxes: Not used; part of the interface.

        Returns:
            The matches of N anchors.

        Raises:
            ValueError: If the shapes do not fit together.
        """
        check_matching(quality, boxes, anchors, num_locations_per_level, num_anchors_per_loc)
        if not len(boxes) or not len(anchors):
            return _all_background(anchors)
        levels = [places * num_anchors_per_loc for places in num_locations_per_level]
        candidates = nearest_anchors(
            boxes, anchors, levels, self.num_candidates * num_anchors_per_loc
        )
        chosen = quality.gather(1, candidates).double()
        chosen = chosen.where(self._above_threshold(chosen, candidates, boxes, anchors), -1.0)
        claims = torch.full_like(quality, -1.0, dtype=torch.float64).scatter_(1, candidates, chosen)
        best, index = claims.max(dim=0)
        index = index.where(best > 0, BACKGROUND)
        return _matches(quality, reserve_one_each(index, quality, boxes, anchors))

    def _above_threshold(
        self,
        chosen: Float[Tensor, "lesions candidates"],
        candidates: Int[Tensor, "lesions candidates"],
        boxes: Tensor,
        anchors: Tensor,
    ) -> Bool[Tensor, "lesions candidates"]:
        deviation = chosen.std(dim=1, keepdim=True) if chosen.shape[1] > 1 else 0.0
        threshold = chosen.mean(dim=1, keepdim=True) + deviation
        above = chosen >= threshold - 1e-12  # equal candidates stay in, whatever the rounding
        if not self.center_in_gt:
            return above
        ndim = boxes.shape[1] // 2
        centre = geometry.centres(anchors)[candidates]
        low, high = boxes[:, None, :ndim], boxes[:, None, ndim:]
        return above & ((centre > low) & (centre < high)).all(dim=-1)


def nearest_anchors(
    boxes: Shaped[Tensor, "lesions coords"],
    anchors: Shaped[Tensor, "anchors coords"],
    levels: Sequence[int],
    count: int,
) -> Int[Tensor, "lesions candidates"]:
    """Per level the `count` anchors, or all it has, with centres nearest to each box's."""
    found, start = [], 0
    centres, ends = geometry.centres(boxes), geometry.centres(anchors).split(list(levels))
    for level in ends:
        distance = squared_distance(centres, level)
        nearest = distance.topk(min(count, len(level)), dim=1, largest=False).indices
        found.append(nearest + start)
        start += len(level)
    return torch.cat(found, dim=1)


def squared_distance(
    a: Float[Tensor, "lesions ndim"], b: Float[Tensor, "anchors ndim"]
) -> Float[Tensor, "lesions anchors"]:
    """Squared distance of all pairs of points; nothing of shape (M, N, ndim) is made."""
    total = (a[:, None, 0] - b[None, :, 0]).square_()
    for axis in range(1, a.shape[1]):
        total += (a[:, None, axis] - b[None, :, axis]).square_()
    return total


def check_matching(
    quality: Tensor,
    boxes: Tensor,
    anchors: Tensor,
    num_locations_per_level: Sequence[int],
    num_anchors_per_loc: int,
) -> None:
    """Whether what a matcher got fits together; values are not looked at."""
    check_rank(2, "(M, N)", quality=quality)
    check_boxes(anchors=anchors, validate=False)
    check_boxes(boxes=boxes, ndim=anchors.shape[1] // 2, validate=False)
    expected = (len(boxes), len(anchors))
    if tuple(quality.shape) != expected:
        raise ValueError(f"quality must have shape (M, N) = {expected}, got {tuple(quality.shape)}")
    total = sum(num_locations_per_level) * num_anchors_per_loc
    if total != len(anchors):
        raise ValueError(
            f"num_locations_per_level times num_anchors_per_loc must give the number of anchors, "
            f"{len(anchors)}, got {list(num_locations_per_level)} times {num_anchors_per_loc}"
        )


def _all_background(anchors: Tensor) -> Matches:
    count = len(anchors)
    index = torch.full((count,), BACKGROUND, dtype=torch.int64, device=anchors.device)
    return Matches(torch.zeros(count, device=anchors.device), index)


def _matches(quality: Float[Tensor, "lesions anchors"], index: Int[Tensor, "anchors"]) -> Matches:
    own = quality.gather(0, index.clamp(min=0)[None])[0]
    return Matches(own.where(index >= 0, quality.amax(dim=0)), index)
