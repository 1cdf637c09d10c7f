"""Any measure as a MONAI metric: statistics of every item, gathered from all ranks, and reduced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from monai.metrics.metric import IterationMetric
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._checks import check_boolean
from softoverlap.for_monai.reduction import (
    DATASET_REDUCTIONS,
    checked_reduction,
    reduce_statistics,
    reduction_of,
)
from softoverlap.for_monai.rows import CumulativeRows
from softoverlap.measures import Measure


@dataclass(frozen=True)
class MetricSummary:
    """A metric of masks in plain numbers.

    Args:
        value: The reduced score, NaN where nothing counted.
        counted: How many values it was formed from.
        per_class: The score of each class over all items, NaN where nothing counted.
        counted_per_class: How many items counted for each class.
        items: How many items were seen.

    Examples:
        >>> MetricSummary(value=0.5, counted=2, per_class={"core": 0.5}, items=3).per_class["core"]
        0.5
    """

    value: float
    counted: int
    per_class: dict[str, float] = field(default_factory=dict)
    counted_per_class: dict[str, int] = field(default_factory=dict)
    items: int = 0


class MeasureMetric(CumulativeRows):
    """A measure over a data set, as MONAI's `CumulativeIterationMetric`.

    Call it on batches or on lists of channel-first items, ask `aggregate()`, `reset()`. What a
    call takes beside prediction and target (`mask`, `spacing`, `raters`) goes to the measure.

    Args:
        measure: What to measure, for instance `Brier(margin=3.0)`.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" for the three that
            papers call mIoU (see `softoverlap.for_monai.reduction`); NaN is left out. "dataset"
            scores the sums over all items, and is refused where a measure's sums mean nothing.
        get_not_nans: Return how many values were counted as well.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.

    Raises:
        TypeError: If `measure` is none, or `get_not_nans` neither True nor False.
        ValueError: If `reduction` is unknown or the measure has none such; on use, what the
            measure raises.

    Examples:
        >>> import torch
        >>> from softoverlap import SoftIoU
        >>> metric = MeasureMetric(SoftIoU())
        >>> _ = metric(torch.full((1, 1, 4), 0.25), torch.ones(1, 1, 4))
        >>> metric.aggregate().item()
        0.25
    """

    def __init__(
        self,
        measure: Measure,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        return_with_label: bool | Sequence[str] = False,
    ) -> None:
        super().__init__()
        if not isinstance(measure, Measure):
            raise TypeError(f"measure must be a measure such as SoftDice(), got {measure!r}")
        check_boolean(get_not_nans=get_not_nans)
        self.measure = measure
        self.reduction = reduction_of(measure, reduction)
        self.get_not_nans = get_not_nans
        self.return_with_label = return_with_label

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Float[Tensor, "items classes"]:
        """Measure a batch, keep it, and give the score of each item and class.

        Args:
            y_pred: A batch (B, C, *spatial) or a list of channel-first items.
            y: The same of the target.
            kwargs: `mask` of voxels that count and `raters`, tensors or lists like `y_pred`, and
                what else the measure takes.

        Returns:
            The scores, float64, shape (items, classes).
        """
        if y is None and not self.measure.needs_target:
            y = y_pred
        statistics: Any = IterationMetric.__call__(self, y_pred, y, **kwargs)
        self._check_classes(statistics.shape[1])
        self.extend(statistics.flatten(1))
        return self.measure.score(statistics)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        return self.measure.statistics(y_pred, y, **kwargs)  # pyright: ignore[reportArgumentType]

    def get_buffer(self) -> Float[Tensor, "items classes"] | None:
        """The scores of every item of every rank, as MONAI's `MetricsSaver` writes them down."""
        (rows,) = self.rows()
        return self.measure.score(self.statistics()) if len(rows) else None

    def _check_classes(self, classes: int) -> None:
        before = self._buffers[0][0].shape[1] // self.measure.width if self._buffers else classes
        if classes != before:
            raise ValueError(f"y_pred must have as many classes as before, {before}, got {classes}")

    def statistics(self) -> Float[Tensor, "items classes width"]:
        """What was kept of every item of every rank.

        Raises:
            ValueError: If nothing was collected.
        """
        (rows,) = self.rows()
        if not len(rows):
            raise ValueError("nothing was collected: call the metric before aggregate()")
        return rows.unflatten(1, (-1, self.measure.width))

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Any:
        """Reduce what was collected over all items, processes included.

        Args:
            reduction: One of MONAI's or of ours (see `reduce_scores`), in place of the one given
                at the start.

        Returns:
            The score in float64, NaN where nothing counted, or numbers by label for one score a
            channel with `return_with_label`; with `get_not_nans` also how many values counted.

        Raises:
            ValueError: If nothing was collected, or the labels are not as many as the channels.
        """
        score, counted = self._reduced(reduction_of(self.measure, reduction or self.reduction))
        result: Any = score
        if self.return_with_label and score.ndim == 1 and self._is_per_class(reduction):
            result = dict(zip(self.class_names(len(score)), score.tolist(), strict=True))
        return (result, counted) if self.get_not_nans else result

    def summary(self) -> MetricSummary:
        """The reduced score, that of each class, and how many values counted, as plain numbers.

        Raises:
            ValueError: If nothing was collected, or the reduction gives more than one number.
        """
        value, counted = self._reduced(self.reduction)
        if value.numel() != 1:
            raise ValueError(f"summary needs a reduction to one number, got {self.reduction!r}")
        per_class = "dataset_batch" if self.reduction in DATASET_REDUCTIONS else "mean_batch"
        scores, counts = self._reduced(per_class)
        names = self.class_names(len(scores))
        return MetricSummary(
            value=value.item(),
            counted=int(counted.sum()),
            per_class=dict(zip(names, scores.tolist(), strict=True)),
            counted_per_class=dict(zip(names, counts.int().tolist(), strict=True)),
            items=len(self.statistics()),
        )

    def details(self) -> dict[str, Any]:
        """What the measure says of each class over all items beside its score, by its name.

        Raises:
            ValueError: If nothing was collected.
        """
        classes = self.statistics().unbind(1)
        names = self.class_names(len(classes))
        return {n: self.measure.details(rows) for n, rows in zip(names, classes, strict=True)}

    def class_names(self, channels: int) -> list[str]:
        """The names given, or `label_0`, ..., from `label_1` on without the background.

        Raises:
            ValueError: If the names given are not as many as the channels.
        """
        if isinstance(self.return_with_label, bool):
            first = 0 if self.measure.include_background else 1
            return [f"label_{first + number}" for number in range(channels)]
        if len(self.return_with_label) != channels:
            raise ValueError(
                f"return_with_label must name {channels} channels, got {self.return_with_label}"
            )
        return list(self.return_with_label)

    def _reduced(self, reduction: str) -> tuple[Tensor, Tensor]:
        return reduce_statistics(self.measure, self.statistics(), reduction)

    def _is_per_class(self, reduction: MetricReduction | str | None) -> bool:
        chosen = checked_reduction(reduction or self.reduction)
        return chosen in ("mean_batch", "sum_batch", "dataset_batch")
