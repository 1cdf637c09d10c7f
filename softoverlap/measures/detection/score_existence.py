"""Does a detector score higher what more raters marked? Rank correlation of score and existence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap.measures.detection.matching import Matching
from softoverlap.measures.detection.measure import BoxMeasure
from softoverlap.measures.detection.outcomes import TRUE_POSITIVE, Outcomes
from softoverlap.measures.hit import AnyHit, Scan


@dataclass(frozen=True)
class ScoreExistenceCorrelation:
    """Rank correlation of boxes' scores with the existence of the lesions that they found.

    Args:
        spearman: Spearman's ρ in [-1, 1], equal values sharing their mean rank; NaN where the
            scores or the existences are all equal, or fewer than two boxes count.
        kendall: Kendall's τ-b in [-1, 1], NaN in the same cases.
        boxes: Number of boxes that count.
        false_positives: How many of them are false positives.
        lesions: Number of lesions in the data.
        scans: Number of scans counted.

    Examples:
        >>> ScoreExistenceCorrelation(spearman=0.5, kendall=0.4, boxes=9).spearman
        0.5
    """

    spearman: float
    kendall: float
    boxes: int
    false_positives: int = 0
    lesions: int = 0
    scans: int = 0


@dataclass(frozen=True, kw_only=True)
class ScoreExistence(BoxMeasure):
    """Rank correlation of score and existence as a measure.

    `score` gives Spearman's ρ, `details` the rest. The settings are the options of
    `compute_score_existence_correlation`.

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_score_existence_correlation`.

    Examples:
        >>> boxes = torch.tensor([[0.0, 4.0], [10.0, 14.0]])
        >>> target = {"box": boxes, "label": torch.zeros(2), "existence": torch.tensor([1.0, 0.2])}
        >>> measure = ScoreExistence()
        >>> round(measure([{**target, "label_scores": torch.tensor([0.3, 0.5])}], [target]).item())
        -1
    """

    hit: AnyHit | None = None
    threshold: float | None = None
    false_positives: str = "omit"

    def __post_init__(self) -> None:
        check_choice("false_positives", self.false_positives, ("omit", "zero"))
        super().__post_init__()

    def _matching(self) -> Matching:
        options = {"weight": "existence", "needs_existence": True}
        return Matching.of(self.hit, self.threshold, **options)

    def details(self, outcomes: Outcomes | Sequence[Outcomes]) -> ScoreExistenceCorrelation:
        """Both coefficients, and what they are formed of."""
        pooled = self.pooled(outcomes)
        outcome, existence = pooled.outcome[:, 0, 0], pooled.worth
        wrong = pooled.false_positive & (self.false_positives == "zero")
        kept = (outcome == TRUE_POSITIVE) | wrong
        scores = pooled.scores[kept]
        worth = torch.cat([existence, existence.new_zeros(1)])[pooled.row_of_lesion[kept]]
        return ScoreExistenceCorrelation(
            spearman=_coefficient(stats.spearmanr, scores, worth),
            kendall=_coefficient(stats.kendalltau, scores, worth),
            boxes=int(kept.sum()),
            false_positives=int(wrong.sum()),
            lesions=int((existence > 0).sum()),
            scans=len(pooled.scans),
        )

    def value(self, outcomes: Outcomes | Sequence[Outcomes]) -> float:
        """Spearman's ρ."""
        return self.details(outcomes).spearman


def compute_score_existence_correlation(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: AnyHit | None = None,
    threshold: float | None = None,
    false_positives: str = "omit",
) -> ScoreExistenceCorrelation:
    """Rank correlation of the score of each box with the existence of the lesion that it found.

    Boxes are matched as in `compute_froc`. A duplicate does not count: its lesion has a box.

    Args:
        predictions: As in `compute_froc`.
        targets: As in `compute_froc`, with "existence" or "lesions" where there is a lesion.
            `lesions_from_mask(raters=...)` counts the raters that marked each; without raters all
            existences are 1, and nothing can be correlated.
        hit: As in `compute_froc`; by default the IoU of the boxes.
        threshold: The lowest score that hits, by default the criterion's own.
        false_positives: `"omit"`, or `"zero"` for boxes that hit nothing to count with an
            existence of 0.

    Returns:
        Spearman's and Kendall's coefficients in [-1, 1], and how many boxes counted.

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_froc`, or if a target with lesions says no existence, or
            `false_positives` is unknown.

    References:
        Kendall, The treatment of ties in ranking problems, Biometrika 33, 1945 (τ-b)

    Examples:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 4.0], [10.0, 14.0], [20.0, 24.0]])
        >>> target = {"box": boxes, "label": torch.zeros(3)}
        >>> prediction = {**target, "label_scores": torch.tensor([0.9, 0.5, 0.7])}
        >>> target["existence"] = torch.tensor([1.0, 0.2, 0.6])
        >>> round(compute_score_existence_correlation([prediction], [target]).spearman, 6)
        1.0
    """
    measure = ScoreExistence(hit=hit, threshold=threshold, false_positives=false_positives)
    return measure.details(measure.statistics(predictions, targets))


def _coefficient(
    measure: Callable[..., Any], scores: Float[Tensor, "boxes"], worth: Float[Tensor, "boxes"]
) -> float:
    """NaN where one side does not vary; rounding may not leave the range."""
    if len(scores.unique()) < 2 or len(worth.unique()) < 2:
        return math.nan
    return min(1.0, max(-1.0, float(measure(scores.numpy(), worth.numpy()).statistic)))
