"""Which of many boxes may meet some of them: lists by cells, so that boxes far off cost nothing.

A box is listed in the cell of a grid that holds its lower corner. What meets a box begins no later
than that ends, and no more cells before it than the longest box of the list covers. Cells behind
each other on the axis with most of them are one run of the list, so that a box looks at a run for
each cell of the other axes.

The cells of a list are about as large as its boxes, and boxes much larger than most have a list of
their own: one of them would make all look far. The number of a cell never falls as a coordinate
rises, whatever is rounded, so no pair is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from softoverlap.suppression._sweep import Corners, Pairs

_MUCH_LARGER = 2.0  # times the median of the longest edges
_WORTH_A_LIST = 64  # boxes
_CELLS_OF_AN_EDGE = 8  # along a run, where cells cost nothing
_MOST_CELLS = 1 << 20  # of a run
_AT_ONCE = 1 << 19  # runs, and pairs


class Lists:
    """Some of the boxes, listed by their cells; what is NaN or inverted meets nothing.

    Args:
        boxes: Corners of all boxes.
        listed: Which of them are listed.
    """

    def __init__(self, boxes: Corners, listed: Int[Tensor, "listed"]) -> None:
        low, high = (half[:, listed] for half in boxes)
        left = (low <= high).all(dim=0).nonzero().squeeze(1)
        self._lists: list[_List] = []
        while len(left):
            longest = (high[:, left] - low[:, left]).amax(dim=0)
            apart = longest > _MUCH_LARGER * longest.median()
            if int(apart.sum()) < _WORTH_A_LIST:
                apart = torch.zeros_like(apart)
            own = left[~apart]
            self._lists.append(_List((low[:, own], high[:, own]), listed[own]))
            left = left[apart]

    def near(self, rows: Corners) -> Iterator[Pairs]:
        """Places in the rows, and numbers of boxes that may meet them; so many pairs at a time."""
        for each in self._lists:
            yield from each.near(rows)


class _List:
    """Boxes of like size in the order of their cells."""

    def __init__(self, boxes: Corners, numbers: Int[Tensor, "listed"]) -> None:
        low, high = boxes
        self.origin, extent = low.amin(dim=1), low.amax(dim=1) - low.amin(dim=1)
        wanted = (extent / (high - low).amax(dim=1)).nan_to_num(nan=1.0)
        self.run = int(wanted.argmax())
        others = [axis for axis in range(len(low)) if axis != self.run]
        most = len(numbers) ** (1 / max(1, len(others)))
        counts = wanted.clamp(1, most).floor()
        counts[self.run] = (_CELLS_OF_AN_EDGE * wanted[self.run]).clamp(1, _MOST_CELLS).floor()
        self.scale, self.last = counts / extent, (counts - 1).long()
        self.steps, step = {}, int(counts[self.run])
        for axis in others:
            self.steps[axis], step = step, step * int(counts[axis])
        cells = self._cells(low)
        self.span = (self._cells(high) - cells).amax(dim=1)
        keys = cells[self.run] + sum(step * cells[axis] for axis, step in self.steps.items())
        self.keys, order = torch.as_tensor(keys).sort()
        self.numbers = numbers[order]

    def near(self, rows: Corners) -> Iterator[Pairs]:
        first = (self._cells(rows[0]) - self.span[:, None]).clamp_(min=0)
        sides = (self._cells(rows[1]) - first + 1).clamp_(min=0)
        runs = sides[list(self.steps)].prod(dim=0)
        for some in _parts(runs):
            row, start, stop = self._runs(first[:, some], sides[:, some], runs[some])
            for part in _parts(stop - start):
                place, which = _expanded(start[part], stop[part])
                yield some.start + row[part][which], self.numbers[place]

    def _runs(
        self, first: Int[Tensor, "ndim rows"], sides: Int[Tensor, "ndim rows"], runs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The runs of the list that each row looks at: row, where it begins, where it ends."""
        number, row = _expanded(torch.zeros_like(runs), runs)
        key = first[self.run][row]
        for axis, step in self.steps.items():
            side = sides[axis][row]
            key += step * (first[axis][row] + number % side)
            number //= side
        start = torch.searchsorted(self.keys, key)
        stop = torch.searchsorted(self.keys, key + sides[self.run][row])
        some = (stop > start).nonzero().squeeze(1)
        return row[some], start[some], stop[some]

    def _cells(self, points: Shaped[Tensor, "ndim points"]) -> Int[Tensor, "ndim points"]:
        """The number of the cell along each axis; the first and the last hold what is outside."""
        cells = (points - self.origin[:, None]).mul_(self.scale[:, None])
        cells = cells.nan_to_num_(nan=0.0).clamp_(min=0).clamp_(max=_MOST_CELLS).long()
        return cells.minimum(self.last[:, None])


def _expanded(start: Int[Tensor, "runs"], stop: Int[Tensor, "runs"]) -> Pairs:
    """All numbers of all runs behind each other, and of each the run that it is in."""
    count = stop - start
    run = torch.arange(len(count), device=count.device).repeat_interleave(count)
    before = count.cumsum(0) - count
    return torch.arange(len(run), device=run.device) + (start - before)[run], run


def _parts(counts: Int[Tensor, "items"]) -> Iterator[slice]:
    """Items in parts, of which each adds up to little or is a single item."""
    total, start = counts.cumsum(0), 0
    while start < len(counts):
        done = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(total, done + _AT_ONCE, right=True)))
        yield slice(start, stop)
        start = stop
