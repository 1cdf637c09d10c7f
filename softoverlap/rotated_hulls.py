"""What encloses two oriented boxes: their convex hull, and the longest distance within it.

The hull's area needs no sorting and no tolerance either. A is put into the frame of B and turned
by less than a right angle, so the eight sides of both face outward in an order that is known. For
each of these directions one comparison says which box reaches farther: that one has its side on
the hull's border. Between two such directions each box shows one corner, and where the box that
reaches farther changes, the hull's border runs from the corner of one to that of the other. Where
both reach equally far each side counts half, and the area is linear in these shares: so its
derivative is the mean of those of both sides. Arithmetic is float64, after centres are subtracted.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import rotated
from softoverlap._rounding import without_rounding


def enclosing_volume(
    a: Shaped[Tensor, "*#batch parameters"], b: Shaped[Tensor, "*#batch parameters"]
) -> Float[Tensor, "*#batch"]:
    """Area of the convex hull of two rectangles; of boxes with yaw times their extent on axis 2."""
    area = _hull_area(_placed(a, b))
    return area if rotated.spatial_dims(a) == 2 else area * _extent(a, b)


def squared_diameter(
    a: Shaped[Tensor, "*#batch parameters"], b: Shaped[Tensor, "*#batch parameters"]
) -> Float[Tensor, "*#batch"]:
    """Squared longest distance within what encloses both.

    The corner of B that is farthest from a point lies on the other side of both axes of B.
    """
    both = _placed(a, b)
    x, y = _corners_of_a(both)
    across = (x.abs() + both.half_b[0]) ** 2 + (y.abs() + both.half_b[1]) ** 2
    within = [4 * (half[0] ** 2 + half[1] ** 2) for half in (both.half_a, both.half_b)]
    longest = torch.maximum(across.amax(dim=0), torch.maximum(*within))
    return longest if rotated.spatial_dims(a) == 2 else longest + _extent(a, b) ** 2


def squared_centre_distance(
    a: Shaped[Tensor, "*#batch parameters"], b: Shaped[Tensor, "*#batch parameters"]
) -> Float[Tensor, "*#batch"]:
    """Squared Euclidean distance of the centres."""
    ndim = rotated.spatial_dims(a)
    apart = a[..., :ndim].to(torch.float64) - b[..., :ndim].to(torch.float64)
    return (apart**2).sum(dim=-1)


def corners(boxes: Shaped[Tensor, "boxes 5"]) -> Float[Tensor, "boxes 4 2"]:
    """Of each rectangle, counter-clockwise."""
    x, y, w, h, angle = boxes.to(torch.float64).unbind(1)
    cosine, sine = angle.cos(), angle.sin()
    first, second = _ring(x, cosine * w / 2, -sine * h / 2), _ring(y, sine * w / 2, cosine * h / 2)
    return torch.stack([torch.stack(first, dim=1), torch.stack(second, dim=1)], dim=2)


class _Placed(NamedTuple):
    """Rectangle A in the frame of B, turned by at least 0 and less than a right angle."""

    x: Tensor
    y: Tensor
    cosine: Tensor
    sine: Tensor
    half_a: tuple[Tensor, Tensor]
    half_b: tuple[Tensor, Tensor]


def _placed(a: Tensor, b: Tensor) -> _Placed:
    ndim = rotated.spatial_dims(a)
    of_a, of_b = (boxes.to(torch.float64).movedim(-1, 0).unbind(0) for boxes in (a, b))
    axis = of_b[-1].cos(), of_b[-1].sin()
    x, y = rotated.along_axes(of_a[0] - of_b[0], of_a[1] - of_b[1], axis)
    turn = of_a[-1] - of_b[-1]
    turned = [part.where(part >= 0, -part) for part in (turn.cos(), turn.sin())]
    halves = of_a[ndim] / 2, of_a[ndim + 1] / 2
    odd = turn.cos() * turn.sin() < 0  # a right angle less, or three, and its edges change places
    return _Placed(
        x=x,
        y=y,
        cosine=torch.where(odd, *turned[::-1]),
        sine=torch.where(odd, *turned),
        half_a=(torch.where(odd, *halves[::-1]), torch.where(odd, *halves)),
        half_b=(of_b[ndim] / 2, of_b[ndim + 1] / 2),
    )


def _corners_of_a(both: _Placed) -> tuple[Float[Tensor, "4 *batch"], Float[Tensor, "4 *batch"]]:
    """Counter-clockwise, the first one between A's own first and second axis."""
    (x, y, cosine, sine, (w, h), _) = both
    return (
        torch.stack(_ring(x, cosine * w, -sine * h)),
        torch.stack(_ring(y, sine * w, cosine * h)),
    )


def _ring(middle: Tensor, along: Tensor, across: Tensor) -> list[Tensor]:
    """A coordinate of four corners from that of the centre and of both half edges."""
    low, high = middle - along, middle + along
    return [high + across, low + across, low - across, high - across]


def _hull_area(both: _Placed) -> Tensor:
    """Half of the sum, over the hull's sides, of length times distance from the centre of B.

    Directions go round: the first side of B, the first of A, the second of B, and so on.
    """
    (middle_x, middle_y, cosine, sine, (w, h), (half_w, half_h)) = both
    along, across = rotated.along_axes(middle_x, middle_y, (cosine, sine))
    reach_a = [along + w, across + h, w - along, h - across]  # where A's own sides face
    reach_b = [cosine * half_w + sine * half_h, sine * half_w + cosine * half_h] * 2
    own_gaps = [a - b for a, b in zip(reach_a, reach_b, strict=True)]
    w_seen, h_seen = cosine * w + sine * h, sine * w + cosine * h  # of A, where B's sides face
    gaps = [middle_x + w_seen - half_w, middle_y + h_seen - half_h]
    gaps += [w_seen - middle_x - half_w, h_seen - middle_y - half_h]
    of_b, of_a = ((torch.stack(each).sign() + 1) / 2 for each in (gaps, own_gaps))  # shares of A
    lengths = [2 * h, 2 * w, 2 * h, 2 * w]
    sides = torch.stack([length * far for length, far in zip(lengths, reach_a, strict=True)])
    x, y = _corners_of_a(both)
    parts = torch.cat(
        [
            of_a * sides,
            (1 - of_b) * (2 * half_w * half_h),
            (of_b - of_a) * _to_corners_of_b(x.roll(1, 0), y.roll(1, 0), half_w, half_h),
            (of_a - of_b.roll(-1, 0)) * _to_corners_of_b(x, y, half_w, half_h),
        ]
    )
    return without_rounding(parts.sum(dim=0), parts.abs().sum(dim=0)) / 2  # 0 along one line


def _to_corners_of_b(x: Tensor, y: Tensor, half_w: Tensor, half_h: Tensor) -> Tensor:
    """Twice the area between the centre of B and the lines from four points to its corners."""
    signs_x, signs_y = (
        x.new_tensor(signs).view(4, *[1] * (x.ndim - 1))
        for signs in ((1, -1, -1, 1), (1, 1, -1, -1))
    )
    return x * signs_y * half_h - y * signs_x * half_w


def _extent(a: Tensor, b: Tensor) -> Tensor:
    """Length on axis 2 that encloses both."""
    apart = a[..., 2].to(torch.float64) - b[..., 2].to(torch.float64)
    half_a, half_b = (boxes[..., 5].to(torch.float64) / 2 for boxes in (a, b))
    return torch.maximum(apart + half_a, half_b) - torch.minimum(apart - half_a, -half_b)
