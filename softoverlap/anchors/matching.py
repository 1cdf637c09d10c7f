"""Which anchor serves which lesion, by overlap alone: a threshold, or one for each lesion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_boolean, check_number
from softoverlap.anchors.matches import BACKGROUND, IGNORE, Matcher, Scene, resolve_claims

_ELEMENTS_PER_BLOCK = 1 << 18  # what a cache holds
_SAME_PLACE = 1e-3  # voxels


class MaxOverlapMatcher(Matcher):
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
        check_number(low=low, high=high)
        check_boolean(allow_low_quality_matches=allow_low_quality_matches)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"low and high must satisfy 0 <= low <= high <= 1, got {low}, {high}")
        self.low = low
        self.high = high
        self.allow_low_quality_matches = self.every_lesion = allow_low_quality_matches

    def _index(self, scene: Scene) -> Int[Tensor, "anchors"]:
        best, index = scene.quality.max(dim=0)
        index = index.where((best >= self.high) & (best > 0), IGNORE)
        return index.where(best >= self.low, BACKGROUND)


class ATSSMatcher(Matcher):
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
        check_boolean(center_in_gt=center_in_gt)
        self.num_candidates = num_candidates
        self.center_in_gt = center_in_gt

    def _index(self, scene: Scene) -> Int[Tensor, "anchors"]:
        candidates = nearest_anchors(
            scene.boxes, scene.anchors, scene.levels, scene.anchors_per_place, self.num_candidates
        )
        chosen = scene.quality.gather(1, candidates).double()
        deviation = chosen.std(dim=1, keepdim=True) if chosen.shape[1] > 1 else 0.0
        threshold = chosen.mean(dim=1, keepdim=True) + deviation
        above = chosen >= threshold - 1e-12  # equal candidates stay in, whatever the rounding
        if self.center_in_gt:
            above &= inside_boxes(geometry.centres(scene.anchors)[candidates], scene.boxes)
        lesion, rank = (above & (chosen > 0)).nonzero(as_tuple=True)
        claims = [(lesion, candidates[lesion, rank], chosen[lesion, rank])]
        return resolve_claims(claims, *scene.quality.shape)


def inside_boxes(
    points: Float[Tensor, "lesions candidates ndim"], boxes: Shaped[Tensor, "lesions coords"]
) -> Bool[Tensor, "lesions candidates"]:
    """Whether each lesion's points lie inside its box."""
    ndim = boxes.shape[1] // 2
    low, high = boxes[:, None, :ndim], boxes[:, None, ndim:]
    return ((points > low) & (points < high)).all(dim=-1)


def nearest_anchors(
    boxes: Shaped[Tensor, "lesions coords"],
    anchors: Shaped[Tensor, "anchors coords"],
    levels: Sequence[int],
    per_place: Sequence[int],
    count: int,
) -> Int[Tensor, "lesions candidates"]:
    """Per level the anchors of the `count` places, or all it has, nearest to each box's centre.

    Where the anchors of a place differ in their centres, each is a place of its own.
    """
    found, start = [], 0
    centres = geometry.centres(boxes)
    on_levels = geometry.centres(anchors).split(list(levels))
    for level, each in zip(on_levels, per_place, strict=True):
        places = level.reshape(len(level) // each, each, level.shape[1])
        shared = bool(((places - places[:, :1]).abs() < _SAME_PLACE).all())
        if shared:
            near = _nearest(centres, places[:, 0], count)[..., None] * each
            near = near + torch.arange(each, device=near.device)
        else:
            near = _nearest(centres, level, count * each)
        found.append(start + near.flatten(1))
        start += len(level)
    return torch.cat(found, dim=1)


def _nearest(
    centres: Float[Tensor, "lesions ndim"], places: Float[Tensor, "places ndim"], count: int
) -> Int[Tensor, "lesions nearest"]:
    """Indices of the places nearest to each centre, some lesions at a time."""
    rows = max(1, _ELEMENTS_PER_BLOCK // max(1, len(places)))
    count, axes = min(count, len(places)), places.T.contiguous()
    return torch.cat(
        [
            squared_distance(block, axes).topk(count, dim=1, largest=False).indices
            for block in centres.split(rows)
        ]
    )


def squared_distance(
    points: Float[Tensor, "lesions ndim"], axes: Float[Tensor, "ndim places"]
) -> Float[Tensor, "lesions places"]:
    """Squared distance of all pairs of points; nothing of shape (M, N, ndim) is made."""
    total = (points[:, :1] - axes[0]).square_()
    for axis in range(1, len(axes)):
        total += (points[:, axis, None] - axes[axis]).square_()
    return total
