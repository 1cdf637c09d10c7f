"""The greedy loop that all hard suppression shares, on lists of the pairs that clash.

Blocks of boxes, the best first, meet all that were kept before. Of many boxes that are told apart
by where they lie, each one that stays asks instead which of the boxes around it it drops, so that
what is far away is never met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap.overlaps import BoxLikeOverlap, BoxOverlap
from softoverlap.suppression._cells import Lists
from softoverlap.suppression._sweep import Corners, Pairs, meet, meet_each_other, shrunk, touch

PairwiseScore = BoxLikeOverlap | Callable[..., Tensor]
"""An overlap, or any function of two sets of boxes, as many as N and M, to scores (N, M)."""

Clash = Callable[[Tensor, Tensor | None], Pairs]
"""From indices (R,) of rows and (C,) of columns to the pairs that overlap too much.

Without columns, to the pairs of rows, the one that comes before first.
"""

_FEW, _MANY = 256, 2048  # boxes in a block where most are dropped, and where most stay
_PAIRS_AT_ONCE = 1 << 14
_WORTH_LISTS = 1 << 13  # boxes


@torch.no_grad()
def suppress(scores: Float[Tensor, "boxes"], clash: Clash) -> Int[Tensor, "kept"]:
    """Indices of the boxes that stay, by falling score (equal scores in the order given).

    A box goes if it clashes with one that stays and comes before it. Where boxes crowd, the best
    few clear the field, so blocks are small; where they don't, large ones are quicker.
    """
    order = scores.argsort(descending=True, stable=True)
    if isinstance(clash, MeetingClash) and clash.has_lists:
        return _suppress_around(order, clash)
    kept, size = order[:0], _FEW
    while len(order):
        block, order = order[:size], order[size:]
        before = len(kept)
        for part in kept.split(_MANY):
            stays = torch.ones_like(block, dtype=torch.bool)
            stays[clash(part, block)[1]] = False
            block = block[stays]
        kept = torch.cat([kept, block[_survivors(*clash(block, None), len(block))]])
        size = _MANY if len(kept) - before > size // 2 else _FEW
    return kept


def _suppress_around(order: Int[Tensor, "boxes"], clash: MeetingClash) -> Int[Tensor, "kept"]:
    """The same, where each box that stays drops those around it; few that were dropped are met."""
    waiting, kept = torch.ones_like(order, dtype=torch.bool), []
    lists, listed = clash.lists(order), len(order)
    first, size = 0, _FEW
    while first < len(order):
        ahead = order[first : first + 8 * size]
        places = waiting[ahead].nonzero().squeeze(1)[:size]
        first += int(places[-1]) + 1 if len(places) == size else len(ahead)
        block = ahead[places]
        waiting[block] = False
        stays = block[_survivors(*clash(block, None), len(block))]
        for _, dropped in clash.around(stays, lists, waiting):
            waiting[dropped] = False
        kept.append(stays)
        size = _MANY if len(stays) > len(block) // 2 else _FEW
        left = int(waiting.sum())
        if left < listed // 2:
            lists, listed = clash.lists(waiting.nonzero().squeeze(1)), left
    return torch.cat(kept)


@torch.no_grad()
def owners(kept: Int[Tensor, "kept"], count: int, clash: Clash) -> Int[Tensor, "boxes"]:
    """For every box the place in `kept` of the box that made it go, or its own."""
    owner = torch.full((count,), len(kept), dtype=torch.int64, device=kept.device)
    everything = torch.arange(count, device=kept.device)
    for first, (place, box) in _clashes_with_all(kept, everything, clash):
        owner.scatter_reduce_(0, box, first + place, "amin")
    owner[kept] = torch.arange(len(kept), device=kept.device)
    return owner


def _clashes_with_all(
    kept: Tensor, everything: Tensor, clash: Clash
) -> Iterator[tuple[int, Pairs]]:
    """For some of the kept boxes at a time the first, and pairs of one of them and any box."""
    lists = clash.lists(everything) if isinstance(clash, MeetingClash) and clash.has_lists else None
    for first in range(0, len(kept), _MANY):
        part = kept[first : first + _MANY]
        if isinstance(clash, MeetingClash) and lists is not None:
            yield from ((first, pairs) for pairs in clash.around(part, lists))
            continue
        for block in everything.split(_MANY):
            place, box = clash(part, block)
            yield first, (place, block[box])


def clash_of(
    boxes: Shaped[Tensor, "boxes coords"],
    labels: Int[Tensor, "boxes"] | None,
    overlap: PairwiseScore,
    threshold: float,
) -> Clash:
    """Boxes of one class clash where their overlap is above the threshold."""
    if not isinstance(overlap, BoxOverlap) or overlap.least_iou is None or threshold < 0:
        return _dense_clash(boxes, labels, overlap, threshold)
    corners = boxes.mT.contiguous()  # an overlap reads coordinate by coordinate
    return MeetingClash(
        shrunk(boxes, overlap.least_iou(threshold)),
        labels,
        lambda i, j: overlap.pairs(corners[:, i].mT, corners[:, j].mT, validate=False) > threshold,
    )


class MeetingClash:
    """Boxes of one class clash where they meet, which is cheap to tell, and `exceeds` says so."""

    def __init__(
        self,
        boxes: Shaped[Tensor, "boxes coords"],
        labels: Int[Tensor, "boxes"] | None,
        exceeds: Callable[[Tensor, Tensor], Bool[Tensor, "pairs"]],
    ) -> None:
        self.minima, self.maxima = (half.mT.contiguous() for half in boxes.chunk(2, dim=1))
        self.labels, self.exceeds = labels, exceeds

    def __call__(self, rows: Tensor, columns: Tensor | None) -> Pairs:
        if columns is None:
            columns, (i, j) = rows, meet_each_other(self._corners(rows))
        else:
            i, j = meet(self._corners(rows), self._corners(columns))
        over = self._clash(rows[i], columns[j])
        return i[over], j[over]

    @property
    def has_lists(self) -> bool:
        """Whether there are enough boxes for lists; on a GPU every list would wait for it."""
        return self.minima.shape[1] > _WORTH_LISTS and self.minima.device.type == "cpu"

    def lists(self, boxes: Int[Tensor, "some"]) -> Lists:
        """Some of the boxes, listed by where they lie."""
        return Lists((self.minima, self.maxima), boxes)

    def around(
        self, rows: Tensor, lists: Lists, among: Bool[Tensor, "boxes"] | None = None
    ) -> Iterator[Pairs]:
        """Places in the rows, and numbers of listed boxes that clash with them."""
        for i, j in lists.near(self._corners(rows)):
            if among is not None:
                wanted = among[j].nonzero().squeeze(1)
                i, j = i[wanted], j[wanted]
            met = touch(self._corners(rows[i]), self._corners(j)).nonzero().squeeze(1)
            i, j = i[met], j[met]
            over = self._clash(rows[i], j)
            yield i[over], j[over]

    def _corners(self, boxes: Tensor) -> Corners:
        return self.minima[:, boxes], self.maxima[:, boxes]

    def _clash(self, first: Tensor, second: Tensor) -> Int[Tensor, "found"]:
        """Which of the pairs of boxes that meet clash."""
        same = None
        if self.labels is not None:
            same = (self.labels[first] == self.labels[second]).nonzero().squeeze(1)
            first, second = first[same], second[same]
        parts = zip(first.split(_PAIRS_AT_ONCE), second.split(_PAIRS_AT_ONCE), strict=True)
        over = torch.cat([self.exceeds(*part) for part in parts]).nonzero().squeeze(1)
        return over if same is None else same[over]


def _dense_clash(
    boxes: Tensor, labels: Tensor | None, overlap: PairwiseScore, threshold: float
) -> Clash:
    """All pairs are scored: the overlap may be above the threshold where boxes do not meet."""
    options = {"validate": False} if isinstance(overlap, BoxLikeOverlap) else {}  # looked at before

    def clash(rows: Tensor, columns: Tensor | None) -> Pairs:
        others = rows if columns is None else columns
        found = overlap(boxes[rows], boxes[others], **options) > threshold
        if labels is not None:
            found &= labels[rows, None] == labels[others]
        i, j = (found.triu(1) if columns is None else found).nonzero(as_tuple=True)
        return i, j

    return clash


def _survivors(
    first: Int[Tensor, "pairs"], second: Int[Tensor, "pairs"], count: int
) -> Bool[Tensor, "boxes"]:
    """Which boxes stay. The first of a pair drops the second, which comes later, if it stays.

    Starting from all, each round settles at least one more box for good, so the fixed point is
    the greedy result; the rounds are as many as the longest chain of drops, usually a few.
    """
    stays = torch.ones(count, dtype=torch.bool, device=first.device)
    while True:
        following = torch.ones_like(stays)
        following[second[stays[first]]] = False
        if torch.equal(following, stays):
            return stays
        stays = following
