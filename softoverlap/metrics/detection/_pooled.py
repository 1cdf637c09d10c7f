"""What the metrics of found boxes share: rows of boxes, lesions and scans that ranks gather."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from softoverlap.metrics._cumulative import CumulativeRows
from softoverlap.metrics.detection._hits import HitRule, Pooled, pooled_rows


class PooledBoxMetric(CumulativeRows):
    """Rows of all scans, lists of dicts in."""

    def __init__(self, rule: HitRule) -> None:
        super().__init__()
        self.rule, self.widths = rule, tuple(rule.widths)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        raise TypeError(f"y_pred must be a list of dicts of boxes, got {type(y_pred).__name__}")

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: object) -> list[Any]:
        if y is None:
            raise ValueError("y must hold the targets, a dict a scan, got None")
        return list(pooled_rows(y_pred, y, self.rule))

    def pooled(self) -> Pooled:
        """The rows of all scans that all ranks have seen."""
        return Pooled(*self.rows())
