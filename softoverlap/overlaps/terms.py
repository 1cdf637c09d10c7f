"""IoU and the penalties of each member of the IoU family, for boxes that broadcast.

A score is the IoU less its penalties, each at least 0; a loss with a power (alpha-IoU) raises
each of them by itself.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor

from softoverlap import boxes as geometry, scores

Terms = tuple[Tensor, list[Tensor]]
"""The IoU, and what is taken off."""


def iou_terms(a: Tensor, b: Tensor) -> Terms:
    """IoU alone."""
    sizes = geometry.volume(a), geometry.volume(b)
    return scores.iou(geometry.intersection(a, b), *sizes, empty=equality(a, b, *sizes)), []


def giou_terms(a: Tensor, b: Tensor) -> Terms:
    """The empty share of the enclosing box."""
    shared, sizes = geometry.intersection(a, b), (geometry.volume(a), geometry.volume(b))
    empty = equality(a, b, *sizes)
    iou, union = scores.iou(shared, *sizes, empty=empty), sizes[0] + sizes[1] - shared
    enclosing = geometry.enclosing_volume(a, b)
    return iou, [scores.hull_penalty(union, enclosing, empty=None if empty is None else 0.0)]


def diou_terms(a: Tensor, b: Tensor) -> Terms:
    """The distance of the centres."""
    distance, diagonal = geometry.squared_centre_distance(a, b), geometry.squared_diagonal(a, b)
    return iou_terms(a, b)[0], [scores.distance_penalty(distance, diagonal)]


def ciou_terms(a: Tensor, b: Tensor, *, gate: float | None = None) -> Terms:
    """The distance of the centres, and the difference of the aspects."""
    iou, penalties = diou_terms(a, b)
    return iou, [*penalties, scores.aspect_penalty(iou, _aspect_difference(a, b), gate=gate)]


def eiou_terms(a: Tensor, b: Tensor) -> Terms:
    """The distance of the centres, and the difference of the edges on each axis."""
    iou, penalties = diou_terms(a, b)
    edges = zip(geometry.edges(a), geometry.edges(b), geometry.enclosing_edges(a, b), strict=True)
    for edge_a, edge_b, enclosing in edges:
        penalties.append(scores.distance_penalty((edge_a - edge_b) ** 2, enclosing**2))
    return iou, penalties


def equality(a: Tensor, b: Tensor, size_a: Tensor, size_b: Tensor) -> Tensor | None:
    """1 where the boxes are equal, else 0: the score where there is no volume.

    None says that no size is zero: all pairs on the CPU are looked at first, since comparing them
    and guarding the division cost half of the time of an IoU. On a GPU looking would wait for the
    device, in a compiled graph it would break the graph.
    """
    looks = a.shape != b.shape and a.device.type == "cpu" and not torch.compiler.is_compiling()
    if looks and not ((size_a <= 0).any() or (size_b <= 0).any()):
        return None
    dtype = torch.promote_types(size_a.dtype, size_b.dtype)
    return geometry.equal(a, b).to(dtype)


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
