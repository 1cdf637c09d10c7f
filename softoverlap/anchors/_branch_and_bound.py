"""Branch and bound for the box with the highest Dinkelbach gain in a large crop.

A node is a set of cross-sections: each face of the two short axes lies in an interval. No box of
the node gains more than Kadane's best interval along the long axis, over the gain above 0 in its
largest cross-section and the gain below 0 in its smallest. Where every interval is a single place,
the bound is the gain of a box. A node that is cut off for one score holds no box of a higher one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

NODES_AT_ONCE = 1024
_ROUNDING = 1e-12

Box = tuple[tuple[int, int], ...]
"""A first and a last-plus-one voxel for every axis."""

Nodes = Int[Tensor, "nodes 2 4"]
"""For each short axis: lowest and highest first voxel, lowest and highest last-plus-one voxel."""


@dataclass(frozen=True, eq=False)
class Gains:
    """Sums of the gain above and below 0 over the short axes, for each place on the long one."""

    above: Float[Tensor, "a b c"]
    below: Float[Tensor, "a b c"]

    @classmethod
    def of(cls, gain: Float[Tensor, "a b c"]) -> Gains:
        """From the gain of every voxel."""
        parts = gain.clamp(min=0), gain.clamp(max=0)
        return cls(*(F.pad(part, (0, 0, 1, 0, 1, 0)).cumsum(0).cumsum(1) for part in parts))

    def bounds(self, nodes: Nodes) -> Float[Tensor, "nodes"]:
        """What no box of a node exceeds."""
        (first, last), (left, right) = nodes[:, :, [0, 3]].permute(1, 2, 0)
        lines = _profile(self.above, first, last, left, right)
        (first, last), (left, right) = nodes[:, :, [1, 2]].permute(1, 2, 0)
        last, right = (
            torch.maximum(first, last),
            torch.maximum(left, right),
        )  # empty, not inside out
        return _kadane(lines + _profile(self.below, first, last, left, right))


def highest_box(
    gain_of: Callable[[float], Float[Tensor, "*crop"]],
    score_of: Callable[[Box], float],
    threshold_of: Callable[[float], float],
    score: float,
    budget: int,
) -> tuple[Box | None, float, float]:
    """A box of a higher score, if any, its score, and the gain that was left open.

    Args:
        gain_of: Gain of each voxel at a score, 1 to 3 axes.
        score_of: The score of a box.
        threshold_of: The gain that a box of a higher score exceeds.
        score: The best score so far.
        budget: Nodes that may be looked at.

    Returns:
        The box or None, the best score, and how far the highest bound of the nodes that are left
        exceeds the threshold: 0 if the search came to its end.
    """
    state = _State(gain_of, score_of, score)
    children = _root(*state.gain.shape[:2])
    open_nodes, bounds = children[:0], state.gain.new_zeros(0)
    while len(children):
        budget -= len(children)
        leaf = (children[..., ::2] == children[..., 1::2]).flatten(1).all(dim=1)
        improved = state.improve_by(children[leaf])
        open_nodes, fresh = torch.cat([open_nodes, children[~leaf]]), children[~leaf]
        bounds = state.bounds(open_nodes) if improved else torch.cat([bounds, state.bounds(fresh)])
        alive = bounds > threshold_of(state.score) + state.rounding
        open_nodes, bounds = open_nodes[alive], bounds[alive]
        if budget <= 0:
            break
        chosen = bounds.topk(min(NODES_AT_ONCE, len(bounds))).indices
        children = _halves(open_nodes[chosen])
        kept = torch.ones_like(bounds, dtype=torch.bool).index_fill_(0, chosen, False)
        open_nodes, bounds = open_nodes[kept], bounds[kept]
    left = float(bounds.max()) - threshold_of(state.score) if len(bounds) else 0.0
    return state.best, state.score, left


class _State:
    """The best box so far, and the gains at its score."""

    def __init__(
        self, gain_of: Callable[[float], Tensor], score_of: Callable[[Box], float], score: float
    ) -> None:
        self.gain_of, self.score_of = gain_of, score_of
        self.order = _LongAxisLast(gain_of(score))
        self.best: Box | None = None
        self._move_to(score)

    def _move_to(self, score: float) -> None:
        self.score, self.gain = score, self.order.volume(self.gain_of(score))
        self.gains = Gains.of(self.gain)
        self.rounding = _ROUNDING * float(self.gains.above[-1, -1].sum())

    def bounds(self, nodes: Nodes) -> Float[Tensor, "nodes"]:
        """In parts, so that few lines are held at once."""
        return torch.cat([self.gains.bounds(part) for part in nodes.split(NODES_AT_ONCE)])

    def improve_by(self, leaves: Nodes) -> bool:
        """Take the best box of the leaves: that of the largest gain, until its score rises no more.

        After each rise another leaf may have the largest gain.
        """
        before = self.score
        while len(leaves):
            box = self.order.box(self.gain, leaves[int(self.bounds(leaves).argmax())])
            score = self.score_of(box)
            if score <= self.score:
                break
            self.best = box
            self._move_to(score)
        return self.score > before


class _LongAxisLast:
    """Three axes in rising order of their sides, and the way back."""

    def __init__(self, gain: Tensor) -> None:
        self.axes = sorted(range(gain.ndim), key=lambda axis: gain.shape[axis])

    def volume(self, gain: Tensor) -> Float[Tensor, "a b c"]:
        """The gain with missing axes of one voxel first."""
        sides = [gain.shape[axis] for axis in self.axes]
        return gain.permute(self.axes).reshape([1] * (3 - gain.ndim) + sides)

    def box(self, gain: Float[Tensor, "a b c"], leaf: Int[Tensor, "2 4"]) -> Box:
        """The box of a leaf in the order of the crop's axes, best along the long axis."""
        edges = [(int(row[0]), int(row[2])) for row in leaf]
        line = gain[slice(*edges[0]), slice(*edges[1])].sum((0, 1))
        edges = [*edges, best_interval(line.tolist())][3 - len(self.axes) :]
        return tuple(edges[self.axes.index(axis)] for axis in range(len(self.axes)))


def best_interval(line: list[float]) -> tuple[int, int]:
    """The interval, not empty, with the largest sum (Kadane's scan)."""
    best, found, running, start = -float("inf"), (0, 1), 0.0, 0
    for position, value in enumerate(line):
        if running <= 0:
            running, start = 0.0, position
        running += value
        if running > best:
            best, found = running, (start, position + 1)
    return found


def best_sums(lines: Float[Tensor, "steps *lines"]) -> Float[Tensor, "*lines"]:
    """The largest sum of any interval along the first axis."""
    running, best = lines[0].clone(), lines[0].clone()
    for step in lines[1:]:
        running = running.clamp_(min=0).add_(step)
        torch.maximum(best, running, out=best)
    return best


def _root(rows: int, columns: int) -> Nodes:
    """All cross-sections of so many voxels."""
    return torch.tensor([[[0, side - 1, 1, side] for side in (rows, columns)]])


def _halves(nodes: Nodes) -> Int[Tensor, "halves 2 4"]:
    """Each node cut at the middle of its widest interval; what holds no box is left out."""
    widths = (nodes[..., 1::2] - nodes[..., ::2]).flatten(1)
    widest = widths.argmax(dim=1, keepdim=True)
    low, high = 2 * widest, 2 * widest + 1
    flat = nodes.flatten(1)
    middle = (flat.gather(1, low) + flat.gather(1, high)) // 2
    halves = torch.cat([flat.scatter(1, high, middle), flat.scatter(1, low, middle + 1)])
    halves = halves[torch.cat([widths, widths]).amax(dim=1) > 0].view(-1, 2, 4)
    first_low, first_high, last_low, last_high = halves.unbind(-1)
    last_low = torch.maximum(last_low, first_low + 1)
    first_high = torch.minimum(first_high, last_high - 1)
    halves = torch.stack([first_low, first_high, last_low, last_high], dim=-1)
    return halves[((first_low <= first_high) & (last_low <= last_high)).all(dim=1)]


def _profile(
    table: Float[Tensor, "a b c"],
    first: Int[Tensor, "nodes"],
    last: Int[Tensor, "nodes"],
    left: Int[Tensor, "nodes"],
    right: Int[Tensor, "nodes"],
) -> Float[Tensor, "nodes c"]:
    """Sums over a cross-section, for each place on the long axis."""
    flat, width = table.flatten(0, 1), table.shape[1]
    read = lambda row, column: flat.index_select(0, row * width + column)  # noqa: E731
    return read(last, right).sub_(read(first, right)).sub_(read(last, left)).add_(read(first, left))


def _kadane(lines: Float[Tensor, "nodes c"]) -> Float[Tensor, "nodes"]:
    """The largest sum of any interval of each line."""
    total = F.pad(lines, (1, 0)).cumsum(1)
    lowest = total[:, :-1].cummin(dim=1).values
    return (total[:, 1:] - lowest).amax(dim=1)
