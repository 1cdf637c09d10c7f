"""Boxes of extreme size: brought to where no volume and no square leaves the range of its type.

The cube of 1e13 is infinite in float32, the cube of 1e-15 is 0. Boxes with coordinates or edges of
such sizes are scored in float64, and if that is not enough, each pair times a power of two of its
own, which no overlap without a unit of length notices; where only volumes are compared, each axis
of the pair has its own. The others are left alone. Only values tell
the two apart, so nothing is done where they are not looked at: on a GPU, and in a graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from softoverlap._autograd import held, widened
from softoverlap._checks import least_difference, may_look
from softoverlap._types import accumulation_dtype

_EXPONENT = {torch.float32: 96, torch.float64: 960}
"""The largest binary exponent of a product of lengths; the rest is room for sums and quotients."""

_WORTH_JOINING = 1 << 12  # numbers; of fewer each operation has its price, not each number

_HALF_EXPONENT = 13  # a gradient is about one over an edge, and float16 ends at 2^16


@dataclass(frozen=True)
class Layout:
    """How the numbers of a box are laid out.

    Args:
        angles: How many of them, at the end, are no lengths.
        are_edges: Whether the edges are among them, behind the centre; else the upper faces are.
        most: The largest binary exponent of a length in the layout's own arithmetic.
    """

    angles: int
    are_edges: bool
    most: int

    def most_exponent(self, boxes: Tensor) -> int:
        """The largest binary exponent of a length that is far from the ends of the type."""
        if boxes.dtype == torch.float16:
            return _HALF_EXPONENT
        room = _EXPONENT[accumulation_dtype(boxes)]
        return min(room // max(2, self.lengths(boxes).shape[-1] // 2), self.most)

    def lengths(self, boxes: Tensor) -> Tensor:
        """Everything but the angles."""
        return boxes[..., : -self.angles] if self.angles else boxes

    def edges(self, boxes: Tensor) -> Tensor:
        """The edges, an axis behind each other."""
        first, second = self.lengths(boxes).chunk(2, dim=-1)
        return second if self.are_edges else second - first

    def shortest_edge(self, boxes: Tensor) -> float:
        """The shortest of all edges of finite boxes."""
        first, second = self.lengths(boxes).chunk(2, dim=-1)
        return second.min().item() if self.are_edges else least_difference(second, first)

    def reach(self, a: Tensor, b: Tensor) -> Tensor:
        """No less than any length between two boxes that broadcast, shape (..., ndim)."""
        (first_a, second_a), (first_b, second_b) = (
            self.lengths(boxes).chunk(2, dim=-1) for boxes in (a, b)
        )
        if self.are_edges:
            return (first_a - first_b).abs() + second_a + second_b
        return torch.maximum(second_a, second_b) - torch.minimum(first_a, first_b)


CORNERS, TURNED = Layout(0, False, 480), Layout(1, True, 400)


def in_wider_type(a: Tensor, b: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Both in float64, if one of them is extreme for the type that it is measured in."""
    if layout is TURNED or a.shape[-1] > 8 or a.dtype == b.dtype == torch.float64:
        return a, b  # which are measured in float64
    if not may_look(a, b) or _ordinary(a, b, layout):
        return a, b
    return widened(a), widened(b)


def on_one_scale(
    a: Tensor, b: Tensor, layout: Layout, *, by_axis: bool = False
) -> tuple[Tensor, Tensor]:
    """Both times a power of two for each pair, if one of them is extreme even for float64.

    With `by_axis` each axis of a pair has a power of its own, for overlaps of volumes alone: a
    needle of 1e-110 by 1e110 then has a volume.
    """
    measured_wide = a.shape[-1] > 8 or torch.float64 in (a.dtype, b.dtype)
    if not measured_wide or not may_look(a, b) or _ordinary(a.double(), b.double(), layout):
        return a, b
    a, b = (held(boxes.double(), below=math.inf) for boxes in (a, b))
    factor = _factor(a.detach(), b.detach(), layout, by_axis)
    factor = torch.cat([factor, factor], dim=-1)
    if layout.angles:
        factor = torch.cat([factor, torch.ones_like(factor[..., : layout.angles])], dim=-1)
    return a * factor, b * factor


def are_ordinary_boxes(boxes: Tensor) -> bool:
    """Whether corners are those of valid boxes of ordinary size: no other type or scale is due."""
    columns = boxes.mT
    first, second = columns.chunk(2)
    limit = 2.0 ** CORNERS.most_exponent(boxes)
    low, high = torch.aminmax(columns)
    if not -limit < low.item() <= high.item() < limit:
        return False
    shortest = (second - first).min().item()
    return shortest > 1 / limit or (shortest == 0 and _is_ordinary(boxes, CORNERS))


def _ordinary(a: Tensor, b: Tensor, layout: Layout) -> bool:
    """Whether every coordinate is far from the ends of the type, and every edge that is not 0."""
    sets = [x.detach() for x in (a, b)]
    if a.numel() + b.numel() < _WORTH_JOINING:
        sets = [torch.cat([x.reshape(-1, x.shape[-1]) for x in sets])]
    return all(_is_ordinary(boxes, layout) for boxes in sets)


def _is_ordinary(boxes: Tensor, layout: Layout) -> bool:
    if not boxes.numel():
        return True
    boxes = boxes if boxes.is_floating_point() else boxes.to(torch.float32)
    limit = 2.0 ** layout.most_exponent(boxes)
    lengths = layout.lengths(boxes)
    if not lengths.is_contiguous():
        lengths = lengths.movedim(-1, 0)  # in which blocks of boxes have one run of memory
    low, high = torch.aminmax(lengths)
    if not -limit < low.item() <= high.item() < limit:
        return False
    if layout.shortest_edge(boxes) > 1 / limit:
        return True
    edges = layout.edges(boxes)
    return not ((edges > 0) & (edges < 1 / limit)).any().item()


def _factor(a: Tensor, b: Tensor, layout: Layout, by_axis: bool) -> Shaped[Tensor, "*batch ndim"]:
    """The power of two that brings the longest and the shortest length of a pair around 1.

    Where they are too far apart for that the longest becomes 1, so the shortest has no volume.
    """
    quarter = 0.25  # so that no difference overflows
    longest = layout.reach(a * quarter, b * quarter)
    shortest = torch.minimum(_edges_above_0(a, layout), _edges_above_0(b, layout))
    if not by_axis:
        longest = longest.amax(dim=-1, keepdim=True).expand_as(longest)
        shortest = shortest.amin(dim=-1, keepdim=True)
    high, low = (
        torch.frexp(length).exponent.long() for length in (longest, shortest.minimum(longest))
    )
    room = 2 * layout.most_exponent(a)
    exponent = torch.where(high - low < room, -(high + low) // 2, -high)
    return power_of_two(torch.where(longest > 0, exponent, 0))


def _edges_above_0(boxes: Tensor, layout: Layout) -> Tensor:
    """The edges in the unit of `_factor`; infinite where there is none."""
    edges = layout.edges(boxes * 0.25)
    return torch.where(edges > 0, edges, torch.inf)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent to the bit, made of the bits of a float64."""
    return (exponent.clamp(-1022, 1023) + 1023 << 52).view(torch.float64)
