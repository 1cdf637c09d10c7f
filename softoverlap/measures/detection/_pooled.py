"""What the metrics of found boxes share: rows of boxes, lesions and scans that ranks gather."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.measures._cumulative import CumulativeRows
from softoverlap.measures.detection._hits import TRUE_POSITIVE, HitRule, Pooled, pooled_rows


class PooledBoxMetric(CumulativeRows):
    """Rows of all scans, lists of dicts in."""

    def __init__(self, rule: HitRule) -> None:
        super().__init__()
        self.rule, self.widths = rule, tuple(rule.widths)

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: object) -> Any:
        """Match the boxes of a batch of scans, and keep what came of it.

        Args:
            y_pred: Predictions, a dict a scan, as `compute_froc` takes them.
            y: Targets, a dict a scan.
            kwargs: None; options are given when the metric is made.

        Returns:
            The rows kept, of boxes, of lesions and of scans.

        Raises:
            TypeError: If either is not a list, or another argument is given.
        """
        if kwargs:
            raise TypeError(
                f"{type(self).__name__} must be called with y_pred and y alone, got "
                f"{sorted(kwargs)} too: options are given when it is made"
            )
        if y is None:
            raise ValueError("y must hold the targets, a dict a scan, got None")
        for name, scans in (("y_pred", y_pred), ("y", y)):
            if not isinstance(scans, Sequence) or isinstance(scans, str):
                raise TypeError(
                    f"{name} must be a list of dicts, one a scan, got {type(scans).__name__}"
                )
        return super().__call__(list(y_pred), list(y))

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        raise TypeError(f"y_pred must be a list of dicts, one a scan, got {type(y_pred).__name__}")

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: object) -> list[Any]:
        return list(pooled_rows(y_pred, y, self.rule))

    def get_buffer(self) -> Float[Tensor, "scans 1"] | None:
        """The share of its lesions that the boxes of each scan hit, NaN without lesions.

        MONAI's `MetricsSaver` writes it down, a row a scan; the metric itself is of all scans.
        """
        if not len(self.rows()[-1]):
            return None
        pooled = self.pooled()
        hits = (pooled.boxes[:, 2] == TRUE_POSITIVE).double()
        found = torch.zeros(len(pooled.scans), dtype=torch.float64)
        found.index_add_(0, pooled.scan_of_box, hits)
        lesions = pooled.scans[:, 1]
        share = torch.where(lesions > 0, found / lesions.clamp(min=1), torch.nan)
        return share[:, None]

    def pooled(self) -> Pooled:
        """The rows of all scans that all ranks have seen."""
        return Pooled(*self.rows())
