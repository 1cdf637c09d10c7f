"""The course of a training: learning rate and progress."""

from __future__ import annotations

from dataclasses import dataclass

from softoverlap.app.train.config import TrainingConfig
from softoverlap.for_monai import warmup_cosine


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step.

    Args:
        step: Steps done.
        steps: Steps planned.
        done: Share of the run that is over, in [0, 1]: of the steps or of the time.
        seconds: Time trained, of resumed runs together.
        seconds_left: Estimate of the time to come.
        learning_rate: Learning rate of the step.
        classification: Classification loss of the step.
        box_regression: Regression loss of the step.
        box_quality: Loss of the IoU-aware branch in the step, 0 without one.

    Examples:
        >>> Progress(5, 10, 0.5, 2.0, 2.0, 1e-3, 0.4, 0.1).loss
        0.5
    """

    step: int
    steps: int
    done: float
    seconds: float
    seconds_left: float
    learning_rate: float
    classification: float
    box_regression: float
    box_quality: float = 0.0

    @property
    def loss(self) -> float:
        """Sum of the losses."""
        return self.classification + self.box_regression + self.box_quality


def learning_rate(config: TrainingConfig, done: float) -> float:
    """Linear warm-up, then a half cosine to zero; `done` is the share of the run that is over."""
    return config.learning_rate * warmup_cosine(done, config.warmup)
