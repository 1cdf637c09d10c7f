"""What the metrics of this room stand on: float64 rows that ranks gather, and their reduction.

A metric of masks keeps, of each item and class, a few numbers that can be added up (sizes, counts,
sums), and knows how to form its score from them. So it can be reduced over items, over classes or
over the whole data set, and ranks need only to gather rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Shaped
from monai.metrics.metric import CumulativeIterationMetric, IterationMetric
from monai.utils import evenly_divisible_all_gather
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap.measures.mask_inputs import MaskInputs
from softoverlap.measures.reduction import DATASET_REDUCTIONS, checked_reduction, reduce_scores


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


class MaskMetric(CumulativeRows):
    """Statistics (batch, channel, K) that add up, and the score that they form.

    A subclass says how many there are (`width`), measures them (`_statistics`) and scores them
    (`_score`). A score that is not formed from sums says so (`adds_up`) and has no `"dataset"`.
    """

    width: int
    adds_up: bool = True

    def __init__(
        self,
        *,
        inputs: MaskInputs,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        return_with_label: bool | Sequence[str] = False,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.reduction = self._checked(reduction)
        self.get_not_nans = get_not_nans
        self.return_with_label = return_with_label

    @abstractmethod
    def _statistics(
        self, y_pred: Tensor, y: Tensor, **kwargs: Any
    ) -> Float[Tensor, "batch channel width"]:
        """What is kept of each item and class, float64; sums of it mean something."""

    @abstractmethod
    def _score(self, statistics: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """The score of each row of statistics, NaN where there is none."""

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Float[Tensor, "items classes"]:
        """Measure a batch, keep it, and give the score of each item and class.

        Args:
            y_pred: A batch (B, C, *spatial) or a list of channel-first items.
            y: The same of the target.
            kwargs: `mask` of voxels that count, a tensor or a list like `y_pred`.

        Returns:
            The scores, float64, shape (items, classes).
        """
        found: Any = IterationMetric.__call__(self, y_pred, y, **kwargs)
        self._check_classes(found.shape[1])
        self.extend(found.flatten(1))
        return self._score(found)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        return self._statistics(y_pred, y, **kwargs)  # pyright: ignore[reportArgumentType]

    def get_buffer(self) -> Float[Tensor, "items classes"] | None:
        """The scores of every item of every rank, as MONAI's `MetricsSaver` writes them down."""
        (rows,) = self.rows()
        return self._score(self.statistics()) if len(rows) else None

    def _check_classes(self, classes: int) -> None:
        before = self._buffers[0][0].shape[1] // self.width if self._buffers else classes
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
        return rows.unflatten(1, (-1, self.width))

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
        score, counted = self._reduced(self._checked(reduction or self.reduction))
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

    def class_names(self, channels: int) -> list[str]:
        """The names given, or `label_0`, ..., from `label_1` on without the background.

        Raises:
            ValueError: If the names given are not as many as the channels.
        """
        if isinstance(self.return_with_label, bool):
            first = 0 if self.inputs.include_background else 1
            return [f"label_{first + number}" for number in range(channels)]
        if len(self.return_with_label) != channels:
            raise ValueError(
                f"return_with_label must name {channels} channels, got {self.return_with_label}"
            )
        return list(self.return_with_label)

    def _checked(self, reduction: MetricReduction | str) -> str:
        name = checked_reduction(reduction)
        if name in DATASET_REDUCTIONS and not self.adds_up:
            raise ValueError(
                f"reduction must not be one of {list(DATASET_REDUCTIONS)}, since this score is not "
                f"formed from sums over items, got {reduction!r}"
            )
        return name

    def _reduced(self, reduction: str) -> tuple[Tensor, Tensor]:
        statistics = self.statistics()
        if reduction in DATASET_REDUCTIONS:
            statistics = statistics.sum(dim=0, keepdim=True)
        return reduce_scores(self._score(statistics), reduction)

    def _is_per_class(self, reduction: MetricReduction | str | None) -> bool:
        chosen = checked_reduction(reduction or self.reduction)
        return chosen in ("mean_batch", "sum_batch", "dataset_batch")


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
