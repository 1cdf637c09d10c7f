"""The cheapest assignment of rows to columns, for the few lesions that compete for an anchor."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def best_assignment(gain: Float[Tensor, "rows columns"]) -> Int[Tensor, "rows"]:
    """Column of each row, -1 for none: as many rows as possible, then the highest total gain.

    A gain of 0 or below, or one that is not finite, means that the two may not meet. Each row may
    also go to a column of its own that stands for none, at a price above any sum of gains.

    References:
        H. Kuhn, The Hungarian method for the assignment problem, 1955; J. Munkres, 1957.
    """
    rows, columns = gain.shape
    gain = gain.detach().to("cpu", torch.float64)
    gain = gain.where(torch.isfinite(gain), 0.0)
    price = 1 + rows * gain.amax() if gain.numel() else 1.0
    none = torch.full((rows, rows), torch.inf, dtype=torch.float64)
    none.fill_diagonal_(float(price))
    cost = torch.cat([(-gain).where(gain > 0, torch.inf), none], dim=1)
    chosen = _cheapest(cost)
    return chosen.where(chosen < columns, -1)


def _cheapest(cost: Float[Tensor, "rows columns"]) -> Int[Tensor, "rows"]:
    """Successive shortest paths: each row in turn, with a price on rows and columns."""
    rows, columns = cost.shape
    row_price = torch.zeros(rows, dtype=torch.float64)
    column_price = torch.zeros(columns, dtype=torch.float64)
    owner = torch.full((columns,), -1)
    for row in range(rows):
        _insert(row, cost, row_price, column_price, owner)
    taken = (owner >= 0).nonzero()[:, 0]
    return torch.empty(rows, dtype=torch.int64).scatter_(0, owner[taken], taken)


def _insert(row: int, cost: Tensor, row_price: Tensor, column_price: Tensor, owner: Tensor) -> None:
    """Dijkstra's search for the cheapest free column; owners on the way there move on by one."""
    length = torch.full_like(column_price, torch.inf)
    before = torch.full_like(owner, -1)
    done = torch.zeros_like(owner, dtype=torch.bool)
    column, seeker, walked = -1, row, 0.0
    visited = [row]
    while True:
        new = walked + cost[seeker] - row_price[seeker] - column_price
        shorter = (new < length) & ~done
        length = new.where(shorter, length)
        before = before.where(~shorter, column)
        column = int(length.where(~done, torch.inf).argmin())
        walked = float(length[column])
        done[column] = True
        seeker = int(owner[column])
        if seeker < 0:
            break
        visited.append(seeker)
    _reprice(row, visited, walked, length, done, row_price, column_price, owner)
    while column >= 0:
        previous = int(before[column])
        owner[column] = row if previous < 0 else owner[previous]
        column = previous


def _reprice(
    row: int,
    visited: list[int],
    walked: float,
    length: Tensor,
    done: Tensor,
    row_price: Tensor,
    column_price: Tensor,
    owner: Tensor,
) -> None:
    """Keep every reduced cost at or above 0, and that of the edges in use at 0."""
    passed = (done & (owner >= 0)).nonzero()[:, 0]
    slack = walked - length[passed]
    row_price[row] += walked
    row_price[owner[passed]] += slack
    column_price[passed] -= slack
