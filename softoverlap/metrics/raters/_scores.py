"""How raters are read, what a mask scores then, and the distance between two sets of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_choice
from softoverlap.data.raters import fuse_raters
from softoverlap.metrics._cumulative import MaskMetric
from softoverlap.metrics._inputs import MaskInputs
from softoverlap.metrics.raters._inputs import (
    RaterCase,
    overlap_matrix,
    rater_stacks,
    tells_classes,
    with_class_axis,
)
from softoverlap.metrics.reduction import DATASET_REDUCTIONS, checked_reduction

AGAINST = ("each", "mean", "majority", "staple")
OVERLAPS = {"dice": scores.dice, "iou": scores.iou}

Scores = Float[Tensor, "batch classes"]


class RaterMetric(MaskMetric):
    """One score of each item and class; it is not formed from sums over items."""

    width = 1

    def __init__(
        self,
        *,
        inputs: MaskInputs,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        return_with_label: bool | Sequence[str] = False,
    ) -> None:
        _refuse_dataset(reduction)
        super().__init__(
            inputs=inputs,
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )

    def _score(self, statistics: Tensor) -> Tensor:
        return statistics[..., 0]

    def _reduced(self, reduction: str) -> tuple[Tensor, Tensor]:
        _refuse_dataset(reduction)
        return super()._reduced(reduction)


@dataclass(frozen=True)
class RaterReading:
    """How raters are read, and what a prediction or one of them scores then."""

    against: str
    overlap: str
    threshold: float | None
    ignore_empty: bool
    empty: float

    def __post_init__(self) -> None:
        """Refuse what no reading knows."""
        check_choice("against", self.against, AGAINST)
        check_choice("overlap", self.overlap, OVERLAPS)
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {self.threshold!r}")

    def of_prediction(
        self, inputs: MaskInputs, y_pred: Tensor, y: Tensor, mask: Tensor | None
    ) -> Scores:
        """What the prediction scores."""
        raters = with_class_axis(y, tells_classes(y_pred, y), "y")
        pred = with_class_axis(y_pred.unsqueeze(1), True, "y_pred")
        stacks = rater_stacks(inputs, pred, raters, mask=mask)
        return stacks.measure(
            lambda case: self._one(case.preds[0], case.raters, case.weight),
            threshold=self.threshold,
            foreground=self._foreground,
        )

    def of_raters(self, inputs: MaskInputs, raters: Tensor, mask: Tensor | None) -> Scores:
        """What a rater scores against the others, in the mean."""
        return rater_stacks(inputs, None, raters, mask=mask).measure(
            self._ceiling, threshold=self.threshold, foreground=self._foreground
        )

    @property
    def _foreground(self) -> bool:
        """STAPLE alone needs the background too: how much of it there is moves the prior."""
        return self.against != "staple"

    def _ceiling(self, case: RaterCase) -> Tensor:
        raters = case.raters
        found = [
            self._one(rater, torch.cat([raters[:own], raters[own + 1 :]]), case.weight)
            for own, rater in enumerate(raters)
        ]
        return torch.stack(found).nanmean()

    def _one(self, pred: Tensor, raters: Tensor, weight: Tensor | None) -> Tensor:
        """The mean over the targets that the reading makes of the raters; NaN of none."""
        targets = raters
        if self.against != "each" and len(raters):
            targets = fuse_raters(raters, method=self.against)[None]
        if self.ignore_empty:
            targets = targets[(targets > 0).any(dim=1)]
        if not len(targets):
            return pred.new_tensor(torch.nan)
        ratio = OVERLAPS[self.overlap]
        return overlap_matrix(ratio, pred[None], targets, weight, self.empty).mean()


def energy_distance(
    inputs: MaskInputs,
    y_pred: Tensor,
    y: Tensor,
    class_axis: bool,
    mask: Tensor | None,
    empty: float,
) -> Scores:
    """Squared generalised energy distance of each class of each item."""
    samples = with_class_axis(y_pred, class_axis, "y_pred")
    stacks = rater_stacks(inputs, samples, with_class_axis(y, class_axis, "y"), mask=mask)

    def distance(case: RaterCase) -> Tensor:
        across, *within = (
            1 - overlap_matrix(scores.iou, first, second, case.weight, empty).mean()
            for first, second in (
                (case.preds, case.raters),
                (case.preds, case.preds),
                (case.raters, case.raters),
            )
        )
        return (2 * across - within[0] - within[1]).clamp(min=0)  # below 0 by rounding alone

    return stacks.measure(distance)


def _refuse_dataset(reduction: MetricReduction | str) -> None:
    if checked_reduction(reduction) in DATASET_REDUCTIONS:
        raise ValueError(
            f"reduction must not be one of {list(DATASET_REDUCTIONS)}, since these scores are not "
            f"formed from sums over items, got {reduction!r}"
        )
