"""Which box takes which lesion: one each by descending score, or as many as each box hits."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from softoverlap.measures.detection.outcomes import (
    DUPLICATE,
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
)

_FINITE = 1e300  # a callable may return infinity


def greedy(
    quality: Shaped[Tensor, "lesions boxes"],
    hits: Bool[Tensor, "thresholds lesions boxes"],
    ignored: Bool[Tensor, "sizes lesions"],
    scores: Float[Tensor, "boxes"],
    boxes: Float[Tensor, "boxes coords"],
) -> tuple[Int[Tensor, "boxes sizes thresholds"], Int[Tensor, "boxes sizes thresholds"]]:
    """By descending score each box takes the free lesion that it hits best, in every cell.

    Boxes of equal score, and those without, are matched as a group: as many hits as possible, and
    of all such matches the one of the highest sum of quality. The order in which they were given
    decides nothing. A lesion that a size class ignores is taken only where none that counts is
    free, as in COCO.

    Returns:
        Outcome of each box and the lesion that it took, -1 for none.
    """
    times, count, sizes = len(hits), hits.shape[2], len(ignored)
    cells = _pass(
        quality.numpy(),
        hits.repeat(sizes, 1, 1).numpy(),
        ignored.repeat_interleave(times, dim=0).numpy(),
        _groups(scores, boxes, quality, hits),
    )
    outcome, taken = (torch.from_numpy(cell.T.reshape(count, sizes, times)) for cell in cells)
    return outcome, taken


def shared(
    quality: Shaped[Tensor, "lesions boxes"],
    hits: Bool[Tensor, "lesions boxes"],
    scores: Float[Tensor, "boxes"],
) -> tuple[Int[Tensor, "boxes"], Int[Tensor, "boxes"], Int[Tensor, "lesions"]]:
    """Each lesion is taken by the box of the highest score that hits it, of equals the best one.

    A box may take several lesions, and is a hit even if others took all that it hits.

    Returns:
        Outcome of each box, the lesion that it hits best, and the box that took each lesion; -1
        for none.
    """
    level = scores.nan_to_num(nan=-torch.inf).unique(return_inverse=True)[1]
    place = quality.unique(return_inverse=True)[1]
    outcome = torch.where(hits.any(dim=0), TRUE_POSITIVE, FALSE_POSITIVE)
    taken_by = _highest(level * (1 + quality.numel()) + place, hits)
    return outcome, _highest(place.mT, hits.mT), taken_by


def _highest(ranks: Int[Tensor, "rows columns"], among: Bool[Tensor, "rows columns"]) -> Tensor:
    """The column of the highest rank among some in each row, -1 where there is none."""
    none = ranks.new_full((len(ranks), 1), -1)
    return torch.cat([none, torch.where(among, ranks, -1)], dim=1).argmax(dim=1) - 1


def _groups(scores: Tensor, boxes: Tensor, quality: Tensor, hits: Tensor) -> list[np.ndarray]:
    """Boxes that hit anything, by descending score, those of equal score as one."""
    hitting = np.flatnonzero(hits.flatten(0, 1).any(dim=0).numpy())
    levels = scores.nan_to_num(nan=-np.inf).numpy()[hitting]
    order = np.argsort(-levels, kind="stable")
    ends = np.flatnonzero(levels[order][1:] != levels[order][:-1]) + 1
    groups = np.split(hitting[order], ends) if len(hitting) else []
    content = (boxes, quality.mT, hits.flatten(0, 1).mT)
    return [_sorted_by(content, group) if len(group) > 1 else group for group in groups]


def _sorted_by(content: tuple[Tensor, ...], group: np.ndarray) -> np.ndarray:
    """A group sorted by what its boxes are, so that of equally good matches one is always taken."""
    rows = np.concatenate([columns[group].double().numpy() for columns in content], axis=1)
    return group[sorted(range(len(group)), key=lambda row: rows[row].tobytes())]


def _pass(
    quality: np.ndarray, hits: np.ndarray, ignored: np.ndarray, groups: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and lesions taken, shape (cells, boxes)."""
    cells, lesions, boxes = hits.shape
    outcome = np.where(hits.any(axis=1), DUPLICATE, FALSE_POSITIVE)
    taken, free = np.full((cells, boxes), -1), np.ones((cells, lesions), dtype=bool)
    for group in groups:
        if len(group) == 1:
            choice = _best(quality[:, group[0]], hits[:, :, group[0]] & free, ignored)
        else:
            choice = _assigned(quality[:, group], hits[:, :, group] & free[:, :, None], ignored)
        rows, columns, best = choice
        free[rows, best] = False
        taken[rows, group[columns]] = best
        outcome[rows, group[columns]] = np.where(ignored[rows, best], IGNORED, TRUE_POSITIVE)
    return outcome, taken


def _best(quality: np.ndarray, free: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cells in which a single box takes a lesion, its place in the group, and the lesion."""
    counting = free & ~ignored
    choice = np.where(counting.any(axis=1, keepdims=True), counting, free)
    rows = np.flatnonzero(np.any(choice, axis=1))
    return rows, np.zeros_like(rows), np.where(choice[rows], quality, -np.inf).argmax(axis=1)


def _assigned(quality: np.ndarray, free: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same of several boxes: first what counts, then what is ignored to those that are left."""
    found = []
    for cell, pairs in enumerate(free):
        left = np.ones(pairs.shape[1], dtype=bool)
        for kind in (~ignored[cell], ignored[cell]):
            best, columns = _most(quality, pairs & kind[:, None] & left)
            left[columns] = False
            found.append((np.full_like(best, cell), columns, best))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _most(quality: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As many pairs as possible, of these the highest sum of quality: rows and columns."""
    rows, columns = np.flatnonzero(pairs.any(axis=1)), np.flatnonzero(pairs.any(axis=0))
    if not len(rows):
        return rows, columns
    pairs, worth = pairs[np.ix_(rows, columns)], quality[np.ix_(rows, columns)].astype(np.float64)
    worth = worth.clip(-_FINITE, _FINITE)
    least, most = worth[pairs].min(), worth[pairs].max()
    # From 0 to 1, so that no sum of quality outweighs a pair more.
    worth = (worth - least) / (most - least or 1) + 1 + min(pairs.shape)
    row, column = linear_sum_assignment(np.where(pairs, worth, 0), maximize=True)
    kept = pairs[row, column]
    return rows[row[kept]], columns[column[kept]]
