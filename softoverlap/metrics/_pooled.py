"""What the metrics of found boxes share: buffers of rows that ranks gather."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from monai.metrics import CumulativeIterationMetric
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from softoverlap.metrics._hits import HitRule, Pooled, pooled_rows


class PooledBoxMetric(CumulativeIterationMetric):
    """Buffers of rows that ranks gather, however many rows, even none, each of them has."""

    def __init__(self, rule: HitRule) -> None:
        super().__init__()
        self.rule = rule

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        raise TypeError(f"y_pred must be a list of dicts of boxes, got {type(y_pred).__name__}")

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: object) -> list[Any]:
        if y is None:
            raise ValueError("y must hold the targets, a dict a scan, got None")
        return list(pooled_rows(y_pred, y, self.rule))

    def pooled(self) -> Pooled:
        """The rows of all scans that all ranks have seen."""
        rows = self._gathered()
        return Pooled(*(rows or [torch.zeros(0, width).double() for width in self.rule.widths]))

    def _gathered(self) -> list[Tensor]:
        self._sync()
        return [rows for rows in self._synced_tensors or [] if rows is not None]

    def extend(self, *data: Shaped[Tensor, "_ _"]) -> None:
        """Add rows; MONAI's own method fails on a scan without any."""
        if self._buffers is None:
            self._buffers = [[] for _ in self.rule.widths]
        for buffer, rows in zip(self._buffers, data, strict=True):
            buffer.append(rows)
        self._synced = False

    def _sync(self) -> None:
        """Gather every rank's rows; MONAI's own method leaves a rank without data waiting."""
        if self._synced:
            return
        buffers = self._buffers or [[] for _ in self.rule.widths]
        rows = [
            torch.cat([torch.zeros(0, width).double(), *buffer])
            for buffer, width in zip(buffers, self.rule.widths, strict=True)
        ]
        self._synced_tensors = [evenly_divisible_all_gather(row, concat=True) for row in rows]
        self._synced = True
