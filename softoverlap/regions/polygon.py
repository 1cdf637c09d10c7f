"""Polygons with holes: the record, what is refused, and their edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import check_finite, check_tensors, refusal
from softoverlap._periodic import Period
from softoverlap._types import plain
from softoverlap.regions.edges import area, covered_area

_SLACK = 1e-6  # of the area: -π to π in float32 is a little longer than 2π


@dataclass(frozen=True, eq=False)
class Polygon:
    """A region with straight edges, and holes in it.

    Rings may run either way, begin anywhere, touch themselves and each other, and repeat the first
    vertex at the end. A gradient flows to all vertices. The values are looked at when a polygon is
    made, wherever the tensors are: a ring that covers a millionth of its area twice crosses itself.

    Args:
        outer: Vertices of the outer ring in order, shape (V, 2).
        holes: Those of each hole, shape (V, 2) each.

    Raises:
        TypeError: If a ring is no tensor of real numbers.
        ValueError: If a ring has another shape, fewer than 3 vertices, a value that is not finite,
            no area, or crosses itself; or if a hole lies outside `outer` or across another hole.

    Examples:
        >>> import torch
        >>> square = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
        >>> ring = Polygon(square, holes=[square / 2 + 1])
        >>> ring.area
        tensor(12., dtype=torch.float64)
    """

    outer: Shaped[Tensor, "vertices 2"]
    holes: Sequence[Shaped[Tensor, "_ 2"]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "holes", tuple(self.holes))
        named = {"outer": self.outer} | {f"holes[{i}]": hole for i, hole in enumerate(self.holes)}
        for name, ring in named.items():
            _check_ring(name, ring)
        if self.holes and _is_covered_twice(self.edges.detach()[None]):
            raise refusal("holes", "must lie inside outer, beside each other, got others")

    @property
    def area(self) -> Float[Tensor, ""]:
        """Area without the holes, float64."""
        return area(self.edges[None])[0]

    @property
    def edges(self) -> Float[Tensor, "edges 4"]:
        """Start and stop of each edge, float64: counter-clockwise round the area, not the holes."""
        outer, *holes = (_anticlockwise(_edges(ring)) for ring in (self.outer, *self.holes))
        return torch.cat([outer, *map(_reversed, holes)])


def edges_of(polygons: Sequence[Polygon]) -> Float[Tensor, "regions edges 4"]:
    """The edges of each; shorter ones are filled up with edges without length."""
    edges = [polygon.edges for polygon in polygons]
    if not edges:
        return torch.zeros(0, 3, 4, dtype=torch.float64)
    most = max(map(len, edges))
    filled = [torch.cat([one, _points(one).expand(most - len(one), 4)]) for one in edges]
    return torch.stack(filled)


def check_on_torus(name: str, edges: Float[Tensor, "regions edges 4"], period: Period) -> None:
    """No region, by its edges, covers a place twice once the axes come round."""
    twice = _is_covered_twice(edges.detach(), period)
    if twice.any():
        complaint = f"must cover no place twice where axes come round after {period}"
        row = int(twice.nonzero()[0, 0])
        raise refusal(name, f"{complaint}, got polygon {row}, which overlaps itself")


def _check_ring(name: str, ring: Any) -> None:
    check_tensors(**{name: ring})
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise refusal(name, f"must have shape (V, 2) of 3 or more vertices, got {(*ring.shape,)}")
    if ring.dtype == torch.bool:
        raise refusal(name, f"must hold real coordinates, got dtype {ring.dtype}", TypeError)
    check_finite(**{name: plain(ring)}, validate=True)
    edges = _edges(ring.detach())[None]
    covered, own = covered_area(edges), area(edges).abs()
    if not own.isfinite():
        raise refusal(name, "must enclose an area below 1e308, got coordinates too large")
    if covered <= 0:
        raise refusal(name, "must enclose an area, got none")
    if covered - own > _SLACK * own:
        raise refusal(
            name,
            "must be a ring that does not cross itself, got one that does: if angles were cut to "
            "one turn, unwrap them first (numpy.unwrap)",
        )


def _is_covered_twice(edges: Tensor, period: Period = None) -> Tensor:
    """Whether regions go round a point twice, or the wrong way.

    With w for how often they do, w² adds up to more than w, unless w is 0 and 1 alone.
    """
    own = area(edges)  # negative if most of the holes lie outside
    return ~((own > 0) & (covered_area(edges, period) - own <= _SLACK * own))


def _edges(ring: Tensor) -> Tensor:
    start = plain(ring).to(torch.float64)
    return torch.cat([start, start.roll(-1, 0)], dim=1)


def _anticlockwise(edges: Tensor) -> Tensor:
    run_round = area(edges.detach().reshape(1, -1, 4))
    return torch.where(run_round < 0, _reversed(edges), edges)


def _reversed(edges: Tensor) -> Tensor:
    return torch.cat([edges[..., 2:], edges[..., :2]], dim=-1)


def _points(edges: Tensor) -> Tensor:
    """The first vertex as an edge without length."""
    return edges[:1, :2].detach().repeat(1, 2)
