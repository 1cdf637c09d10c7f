"""Any measure as a metric of torchmetrics, which Lightning logs; torchmetrics must be installed.

The names are those of `softoverlap.for_monai`, so that the room alone says whose metric it is. They
are not among the names of `softoverlap`, all of which can be imported without torchmetrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap.for_monai import reduce_statistics, reduction_of
from softoverlap.measures import BoxMeasure, Measure, Scan

try:
    from torchmetrics import Metric
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "softoverlap.for_torchmetrics needs torchmetrics: pip install torchmetrics", name=error.name
    ) from error

__all__ = ["MeasureMetric", "OutcomesMetric"]


class _RowsMetric(Metric):
    """Float64 rows of one or more kinds, of which each rank has any number, also none.

    From a rank without any, torchmetrics gathers states of one axis alone: rows are kept flat, and
    beside them how wide they are. `settings` differs from measure to measure, since a
    `MetricCollection` updates one metric alone of those whose states are equal after a first batch.
    """

    full_state_update = False
    is_differentiable = False
    kinds: ClassVar[tuple[str, ...]] = ("rows",)
    widths: list[Tensor] | Tensor

    def __init__(self, measure: Any, **options: Any) -> None:
        super().__init__(**options)
        self.measure = measure
        for name in (*self.kinds, "widths"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        digest = hashlib.sha256(repr(measure).encode()).digest()
        self.add_state("settings", torch.tensor([*digest]).float(), dist_reduce_fx="max")

    @property
    def dtype(self) -> torch.dtype:
        """That of the rows, which torchmetrics takes for the rows of a rank without any."""
        return torch.float64

    def keep(self, *kinds: Shaped[Tensor, "_ _"]) -> None:
        """Add rows of each kind."""
        widths = torch.tensor([rows.shape[1] for rows in kinds])
        for name, rows in zip((*self.kinds, "widths"), (*kinds, widths), strict=True):
            getattr(self, name).append(rows.detach().to(self.device, torch.float64).flatten())

    def kept(self) -> list[Float[Tensor, "_ _"]]:
        """The rows of each kind; inside `compute`, those of all ranks."""
        if not len(self.widths):
            raise ValueError("nothing was collected: call update() before compute()")
        *kinds, widths = (self._joined(name) for name in (*self.kinds, "widths"))
        known = widths.view(-1, len(self.kinds)).unique(dim=0).long().tolist()
        if len(known) > 1:
            raise ValueError(
                "preds must have as many classes, or boxes as many axes, in every update, "
                f"got rows of {known} numbers"
            )
        return [rows.view(-1, width) for rows, width in zip(kinds, known[0], strict=True)]

    def _joined(self, name: str) -> Tensor:
        """A state as one tensor, as it is after torchmetrics has gathered it."""
        state: Any = getattr(self, name)
        return state if isinstance(state, Tensor) else torch.cat(state)


class MeasureMetric(_RowsMetric):
    """A measure over a data set, as `torchmetrics.Metric`.

    What an update takes beside prediction and target (`mask`, `spacing`) goes to the measure.

    Args:
        measure: What to measure, for instance `Brier(margin=3.0)`.
        reduction: What is made of the scores of all items and classes, as in
            `softoverlap.MeasureMetric`; `"dataset"` scores the sums over all items.
        options: Those of `torchmetrics.Metric`, such as `sync_on_compute`.

    Raises:
        TypeError: If `measure` is none.
        ValueError: If `reduction` is unknown or the measure has none such; on use, what the
            measure raises, or if updates differ in the number of classes.

    Examples:
        >>> import torch
        >>> from softoverlap import SoftIoU
        >>> metric = MeasureMetric(SoftIoU())
        >>> metric.update(torch.full((1, 1, 4), 0.25), torch.ones(1, 1, 4))
        >>> metric.compute()
        tensor(0.2500, dtype=torch.float64)
    """

    def __init__(
        self, measure: Measure, reduction: MetricReduction | str = "mean", **options: Any
    ) -> None:
        if not isinstance(measure, Measure):
            raise TypeError(f"measure must be a measure such as SoftDice(), got {measure!r}")
        super().__init__(measure, **options)
        self.reduction = reduction_of(measure, reduction)

    def update(self, preds: Tensor, target: Tensor | None = None, **options: Any) -> None:
        """Measure a batch and keep what is kept of each item.

        Args:
            preds: Probabilities, shape (B, C, *spatial), or what else the measure takes first.
            target: The same of the target; without it, what the measure says of one side.
            options: What else the measure takes, such as `mask`.
        """
        inputs = (preds,) if target is None else (preds, target)
        self.keep(self.measure.statistics(*inputs, **options).flatten(1))

    def compute(self) -> Float[Tensor, "*reduced"]:
        """The reduced score of all items of all ranks, float64, NaN where nothing counted.

        Raises:
            ValueError: If nothing was collected.
        """
        (rows,) = self.kept()
        statistics = rows.unflatten(1, (-1, self.measure.width))
        return reduce_statistics(self.measure, statistics, self.reduction)[0]


class OutcomesMetric(_RowsMetric):
    """A measure of found boxes over a data set, as `torchmetrics.Metric`.

    Args:
        measure: `BoxFROC`, `BoxAP`, `BoxAR` or another of `softoverlap.measures`, with its options.
        options: Those of `torchmetrics.Metric`.

    Raises:
        TypeError: If `measure` is none.
        ValueError: On use, what the measure raises, or if updates differ in the number of axes.

    Examples:
        >>> import torch
        >>> from softoverlap.measures import BoxFROC
        >>> metric = OutcomesMetric(BoxFROC())
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.tensor([0])}
        >>> metric.update([{**target, "label_scores": torch.tensor([0.9])}], [target])
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    kinds = ("boxes", "lesions", "scans")

    def __init__(self, measure: BoxMeasure, **options: Any) -> None:
        if not isinstance(measure, BoxMeasure):
            raise TypeError(f"measure must be a measure of boxes such as BoxAP(), got {measure!r}")
        super().__init__(measure, **options)

    def update(self, preds: Sequence[Scan], target: Sequence[Scan]) -> None:
        """Match the boxes of a batch of scans, and keep what came of it.

        Args:
            preds: Predictions, a dict a scan, as `compute_froc` takes them.
            target: Targets, a dict a scan.
        """
        self.keep(*self.measure.statistics(preds, target).rows())

    def compute(self) -> Float[Tensor, ""]:
        """The measure's score of all scans of all ranks, float64.

        Raises:
            ValueError: If nothing was collected.
        """
        boxes, lesions, scans = (rows.cpu() for rows in self.kept())
        return self.measure.score(self.measure.of_rows((boxes, lesions, scans)))
