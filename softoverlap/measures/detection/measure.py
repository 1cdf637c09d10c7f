"""What the measures of found boxes share: scans are matched once, and read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.measures.detection.matching import Matching
from softoverlap.measures.detection.outcomes import Outcomes, Rows
from softoverlap.measures.hit import Scan


@dataclass(frozen=True, kw_only=True)
class BoxMeasure(ABC):
    """Settings of a measure of found boxes, which is called like a function.

    A call is `score(statistics(predictions, targets))`. The statistics are `Outcomes`, which can be
    stored, put together over scans and processes, and read by any measure of boxes.
    """

    matching: Matching = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "matching", self._matching())

    @abstractmethod
    def _matching(self) -> Matching:
        """How scans are matched."""

    def statistics(self, predictions: Sequence[Scan], targets: Sequence[Scan]) -> Outcomes:
        """What hit what; the arguments are those of `compute_froc`."""
        return self.matching.outcomes(predictions, targets)

    def of_rows(self, rows: Rows) -> Outcomes:
        """The statistics whose `rows()` these are."""
        return Outcomes.from_rows(
            rows,
            thresholds=self.matching.thresholds,
            size_classes=self.matching.sizes,
            soft=self.matching.kind == "soft",
        )

    @staticmethod
    def pooled(outcomes: Outcomes | Sequence[Outcomes]) -> Outcomes:
        """All outcomes together, each box of which has a score."""
        pooled = Outcomes.joined(outcomes)
        if pooled.scores.isnan().any():
            raise ValueError("outcomes must have a score for each box, got boxes without")
        return pooled

    @abstractmethod
    def details(self, outcomes: Outcomes | Sequence[Outcomes]) -> Any:
        """All that the outcomes of some scans say."""

    @abstractmethod
    def value(self, outcomes: Outcomes | Sequence[Outcomes]) -> float:
        """The one number that stands for the rest."""

    def score(self, outcomes: Outcomes | Sequence[Outcomes]) -> Float[Tensor, ""]:
        """The one number that stands for the rest, in float64."""
        return torch.tensor(self.value(outcomes), dtype=torch.float64)

    def __call__(self, predictions: Sequence[Scan], targets: Sequence[Scan]) -> Float[Tensor, ""]:
        """The score of these scans; the arguments are those of `compute_froc`."""
        return self.score(self.statistics(predictions, targets))
