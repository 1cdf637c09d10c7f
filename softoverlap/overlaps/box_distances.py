"""Overlap of axis-aligned boxes that also counts distance and shape: DIoU, CIoU, EIoU and NWD.

They rank boxes that miss, and lead them to their target. The conventions are those of
`softoverlap.overlaps.boxes`.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from softoverlap import boxes as geometry, scores
from softoverlap._checks import check_gate, check_positive
from softoverlap._periodic import Period
from softoverlap.overlaps._extremes import CORNERS, on_one_scale
from softoverlap.overlaps.box_family import BoxOverlap, Terms, at_most_the_iou
from softoverlap.overlaps.boxes import box_iou


@partial(
    BoxOverlap, scale_free=True, range=(-1.0, 1.0), zero_apart=False, least_iou=at_most_the_iou
)
def box_diou(a: Tensor, b: Tensor, *, period: Period = None) -> Terms:
    """Distance IoU of boxes.

    IoU less the squared distance of the centres over the squared diagonal of the enclosing box.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> box, others = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 4.0], [0.0, 2.0]])
        >>> box_diou(box, others)
        tensor([[-0.2500,  1.0000]])
        >>> box_diou.pairs(box, others[:1])
        tensor([-0.2500])
    """
    distance = geometry.squared_centre_distance(a, b, period)
    penalty = scores.distance_penalty(distance, geometry.squared_diagonal(a, b, period))
    return box_iou.defined({"period": period})(*_by_axis(a, b, period))[0], [penalty]


@partial(
    BoxOverlap,
    scale_free=True,
    range=(-1.5, 1.0),
    zero_apart=False,
    least_iou=at_most_the_iou,
    check=lambda gate, period: check_gate(gate),
)
def box_ciou(  # noqa: D417
    a: Tensor, b: Tensor, *, gate: float | None = None, period: Period = None
) -> Terms:
    """Complete IoU of boxes.

    DIoU less `alpha · v`: v is the mean over all pairs of axes (i, j) of
    `4/π² (atan(pred_i / pred_j) - atan(target_i / target_j))²`, 0 in 1D and the usual form in 2D,
    and `alpha = v / (1 - IoU + v)` carries no gradient. Two 3D boxes have no accepted CIoU; this
    one is symmetric in the axes.

    Args:
        gate: The aspect counts only where the IoU exceeds this, in [0, 1]; None: everywhere.

    References:
        Zheng et al., Enhancing geometric factors, https://arxiv.org/abs/2005.03572

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> flat = torch.tensor([[0.0, 0.0, 4.0, 1.0]])
        >>> box_ciou(square, torch.cat([flat, square]))
        tensor([[0.2530, 1.0000]])
        >>> box_ciou.pairs(square, flat, gate=0.9)
        tensor([0.2708])
    """
    iou, penalties = box_diou.defined({"period": period})(a, b)
    return iou, [*penalties, scores.aspect_penalty(iou, _aspect_difference(a, b), gate=gate)]


@partial(
    BoxOverlap, scale_free=True, range=(-math.inf, 1.0), zero_apart=False, least_iou=at_most_the_iou
)
def box_eiou(a: Tensor, b: Tensor, *, period: Period = None) -> Terms:
    """Efficient IoU of boxes, at least -1 - ndim.

    DIoU less, for every axis, the squared difference of the edges over the squared edge of the
    enclosing box: CIoU's aspect, said per axis, so it has a natural form in any dimension.

    References:
        Zhang et al., Focal and efficient IOU loss, https://arxiv.org/abs/2101.08158

    Examples:
        >>> import torch
        >>> box, others = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 4.0], [0.0, 2.0]])
        >>> box_eiou(box, others)
        tensor([[0.1875, 1.0000]])
        >>> box_eiou.pairs(box, others[:1])
        tensor([0.1875])
    """
    iou, penalties = box_diou.defined({"period": period})(a, b)
    a, b = _by_axis(a, b, period)
    around = geometry.enclosing_edges(a, b, period)
    edges = zip(geometry.edges(a, period), geometry.edges(b, period), around, strict=True)
    for edge_a, edge_b, enclosing in edges:
        penalties.append(scores.distance_penalty((edge_a - edge_b) ** 2, enclosing**2))
    return iou, penalties


@partial(
    BoxOverlap, zero_apart=False, check=lambda constant, period: check_positive(constant=constant)
)
def box_nwd(  # noqa: D417
    a: Tensor, b: Tensor, *, constant: float = 12.7, period: Period = None
) -> Terms:
    """Normalised Wasserstein similarity of boxes.

    `exp(-sqrt(|Δcentre|² + |Δedges|² / 4) / constant)`: boxes as Gaussians, whose distance does not
    care whether they overlap; meant for tiny objects. It does not ignore scale: `constant` is a
    length, about the mean side of the objects.

    Args:
        constant: Length over which the similarity falls to 1/e, above 0, in units of the boxes.

    References:
        Wang et al., A normalized Gaussian Wasserstein distance, https://arxiv.org/abs/2110.13389

    Examples:
        >>> import torch
        >>> box, others = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 5.0], [0.0, 2.0]])
        >>> box_nwd(box, others)
        tensor([[0.7896, 1.0000]])
        >>> box_nwd.pairs(box, others[:1])
        tensor([0.7896])
    """
    squared = geometry.squared_centre_distance(a, b, period)
    for edge_a, edge_b in zip(geometry.edges(a, period), geometry.edges(b, period), strict=True):
        squared = squared + (edge_a - edge_b) ** 2 / 4
    return scores.nwd(squared, constant=constant), []


box_pair_diou, box_pair_ciou = box_diou.pairs, box_ciou.pairs
box_pair_eiou, box_pair_nwd = box_eiou.pairs, box_nwd.pairs


def _by_axis(a: Tensor, b: Tensor, period: Period) -> tuple[Tensor, Tensor]:
    """The boxes for what knows no distance: a needle has no volume on the one scale of distances.

    On that scale an edge is 0 where the longest one is 1e300 times as long. An axis that comes
    round stays on its own.
    """
    if period is not None:
        return a, b
    return on_one_scale(a, b, CORNERS, by_axis=True)


def _aspect_difference(a: Tensor, b: Tensor) -> Tensor:
    """CIoU's v: the mean over pairs of axes, in [0, 1]."""
    pairs = list(combinations(range(a.shape[-1] // 2), 2))
    total = torch.zeros_like(geometry.volume(a) + geometry.volume(b))
    for angle_a, angle_b in zip(_aspect_angles(a, pairs), _aspect_angles(b, pairs), strict=True):
        total = total + (4 / math.pi**2) * (angle_a - angle_b) ** 2
    return total / max(1, len(pairs))


def _aspect_angles(boxes: Tensor, pairs: list[tuple[int, int]]) -> list[Tensor]:
    """atan(edge_i / edge_j) for each pair of axes.

    The edges are first divided by the longer one, so that no square under- or overflows; a point
    counts as a cube.
    """
    edges, angles = geometry.edges(boxes), []
    for i, j in pairs:
        longer = torch.maximum(edges[i], edges[j]).detach()
        scale = torch.where(longer > 0, longer, 1)
        edge_i, edge_j = (torch.where(longer > 0, edge / scale, 1) for edge in (edges[i], edges[j]))
        angles.append(torch.atan2(edge_i, edge_j))
    return angles
