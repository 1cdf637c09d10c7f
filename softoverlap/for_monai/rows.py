"""Float64 rows that ranks gather: what the metrics of this room keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from monai.metrics.metric import CumulativeIterationMetric
from monai.utils import evenly_divisible_all_gather
from torch import Tensor


class CumulativeRows(CumulativeIterationMetric):
    """Float64 rows of one or more kinds; each rank has any number of them, also none.

    `widths` says how many numbers a row of each kind has, None where the first rows tell.
    """

    widths: tuple[int | None, ...] = (None,)

    def extend(self, *data: Shaped[Tensor, "_ _"]) -> None:
        """Add rows, a tensor a kind; MONAI's own method fails where one is empty."""
        if self._buffers is None:
            self._buffers = [[] for _ in self.widths]
        for buffer, rows in zip(self._buffers, data, strict=True):
            buffer.append(rows.detach().cpu().double())
        self._synced = False

    def _sync(self) -> None:
        """Gather every rank's rows; MONAI's own method leaves a rank without data waiting."""
        if self._synced:
            return
        buffers = self._buffers or [[] for _ in self.widths]
        self._synced_tensors = [
            _gathered(rows, width) for rows, width in zip(buffers, self.widths, strict=True)
        ]
        self._synced = True

    def gather_anew(self) -> None:
        """Let the next look at the rows gather them once more.

        As in MONAI, rows are gathered once, so that one rank may ask again alone. Ranks that go on
        after `aggregate` without `reset` call this on all of them: one may have seen nothing new.
        """
        self._synced = False

    def rows(self) -> list[Float[Tensor, "_ _"]]:
        """The rows of all ranks, in the order of the ranks, a tensor a kind."""
        self._sync()
        return [rows for rows in self._synced_tensors or [] if rows is not None]

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Any:
        counts = [
            len(items) if isinstance(items, Sequence | Tensor) else 0 for items in (y_pred, y)
        ]
        if counts[0] != counts[1] or not counts[0]:
            raise ValueError(
                "y_pred and y must hold as many items, one or more, "
                f"got {counts[0]} and {counts[1]}"
            )
        parts = [
            self._compute_tensor(pred[None], truth[None], **_of_item(number, counts[0], kwargs))
            for number, (pred, truth) in enumerate(zip(y_pred, y, strict=True))
        ]
        widths = sorted({part.shape[1] for part in parts})  # pyright: ignore
        if len(widths) > 1:
            raise ValueError(f"all items must have as many channels, got {widths}")
        return torch.cat(parts)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _of_item(number: int, items: int, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of one item: a mask for each is one too many for it, and so are raters."""
    own = dict(kwargs)
    for name in ("mask", "raters"):
        given = kwargs.get(name)
        if given is None:
            continue
        if len(given) != items:
            raise ValueError(f"{name} must hold {items} items, as y_pred does, got {len(given)}")
        own[name] = given[number][None]
    return own


def _gathered(rows: list[Tensor], width: int | None) -> Tensor:
    """All ranks' rows; a rank without any learns from the others how wide they are."""
    if width is None:
        own = rows[0].shape[1] if rows else 0
        widths = evenly_divisible_all_gather(torch.tensor([own]), concat=True)
        known = widths[widths > 0].unique().tolist()
        if len(known) > 1:
            raise ValueError(f"all ranks must measure as many classes, got rows of {known} numbers")
        width = max(known, default=0)
    local = torch.cat([torch.zeros(0, width, dtype=torch.float64), *rows])
    return evenly_divisible_all_gather(local, concat=True)
