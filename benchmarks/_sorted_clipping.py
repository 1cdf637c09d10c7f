"""The usual way to intersect oriented rectangles: collect candidate vertices, sort them by angle.

Written for the benchmark only. Candidates are the corners of each inside the other and the
crossings of their edges; those that count are sorted around their mean, and the shoelace formula
gives the area. It needs a tolerance and loses pairs whose edges coincide.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-6


def sorted_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of aligned boxes `(cx, cy, w, h, angle)`, shape (N, 5), in their own precision."""
    area_a, area_b = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
    shared = shared_area(corners(a), corners(b))
    return shared / (area_a + area_b - shared)


def corners(boxes: Tensor) -> Tensor:
    """The corners, counter-clockwise, (N, 4, 2)."""
    x = boxes.new_tensor([-0.5, 0.5, 0.5, -0.5]) * boxes[:, 2:3]
    y = boxes.new_tensor([-0.5, -0.5, 0.5, 0.5]) * boxes[:, 3:4]
    cosine, sine = boxes[:, 4:].cos(), boxes[:, 4:].sin()
    turned = torch.stack([x * cosine - y * sine, x * sine + y * cosine], dim=2)
    return turned + boxes[:, None, :2]


def shared_area(a: Tensor, b: Tensor) -> Tensor:
    """Area that two convex polygons (N, 4, 2) share."""
    crossing, crosses = _crossings(a, b)
    points = torch.cat([a, b, crossing], dim=1)
    counts = torch.cat([_inside(a, b), _inside(b, a), crosses], dim=1)
    total = counts.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (points * counts[..., None]).sum(dim=1, keepdim=True) / total[..., None]
    offset = torch.where(counts[..., None], points - mean, 0)
    angle = torch.atan2(offset[..., 1], offset[..., 0]).detach()
    order = torch.where(counts, angle, float("inf")).argsort(dim=1)
    ring = offset.gather(1, order[..., None].expand(-1, -1, 2))
    used = counts.gather(1, order)
    ring = torch.where(used[..., None], ring, ring[:, :1])  # the rest repeats the first vertex
    following = ring.roll(-1, dims=1)
    return _cross(ring, following).sum(dim=1).abs() / 2


def _inside(points: Tensor, polygon: Tensor) -> Tensor:
    """Which points (N, P, 2) lie left of all edges of the counter-clockwise polygon (N, 4, 2)."""
    edges = polygon.roll(-1, dims=1) - polygon
    return (_cross(edges[:, None], points[:, :, None] - polygon[:, None]) >= -TOLERANCE).all(dim=2)


def _crossings(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The crossings of all edges, (N, 16, 2), and which of them lie on both."""
    edge_a, edge_b = a.roll(-1, dims=1) - a, b.roll(-1, dims=1) - b
    edge_a, edge_b = edge_a[:, :, None], edge_b[:, None]
    offset = b[:, None] - a[:, :, None]
    slope = _cross(edge_a, edge_b)
    safe = torch.where(slope.abs() > TOLERANCE, slope, 1)
    on_a, on_b = _cross(offset, edge_b) / safe, _cross(offset, edge_a) / safe
    crosses = (slope.abs() > TOLERANCE) & (on_a > 0) & (on_a < 1) & (on_b > 0) & (on_b < 1)
    points = a[:, :, None] + on_a[..., None] * edge_a
    return points.flatten(1, 2), crosses.flatten(1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
