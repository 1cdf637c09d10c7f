"""How raters are read, what a mask scores then, and the distance between two sets of masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_choice, check_score, check_threshold
from softoverlap.lesions import fuse_raters
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.mask_inputs import MaskInputs
from softoverlap.measures.raters._inputs import (
    RaterCase,
    check_background,
    overlap_matrix,
    rater_stacks,
    tells_classes,
    with_class_axis,
)

AGAINST = ("each", "mean", "majority", "staple")
OVERLAPS = {"dice": scores.dice, "iou": scores.iou}

Scores = Float[Tensor, "batch classes"]


class RaterMetric(MaskMetric):
    """One score of each item and class."""

    width = 1
    adds_up = False

    def _score(self, statistics: Tensor) -> Tensor:
        return statistics[..., 0]


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
        check_score(empty=self.empty)
        if self.threshold is not None:
            check_threshold(threshold=self.threshold)

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
    check_background(inputs, class_axis)
    check_score(empty=empty)
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
