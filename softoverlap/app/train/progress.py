"""Where a training stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine, Events


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step.

    Args:
        step: Steps done.
        steps: Steps planned.
        done: Share of the run that is over, in [0, 1]: of the steps or of the time.
        seconds: Time trained, of resumed runs together.
        seconds_left: Estimate of the time to come.
        loss: Sum of the losses of the step.

    Examples:
        >>> Progress(5, 10, 0.5, 2.0, 2.0, 0.4).loss
        0.4
    """

    step: int
    steps: int
    done: float
    seconds: float
    seconds_left: float
    loss: float


class ReportProgress:
    """A handler that says after each step of a trainer where the training stands.

    Args:
        schedule: The trainer's `WarmupCosine`, attached to it before this handler.
        progress: Called with the state.

    Examples:
        >>> import torch
        >>> from softoverlap.for_monai import WarmupCosine
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule, trainer = WarmupCosine(optimizer), Engine(lambda *_: [{"loss": 0.5}])
        >>> schedule.attach(trainer)
        >>> ReportProgress(schedule, lambda state: print(state.step, state.steps)).attach(trainer)
        >>> _ = trainer.run(range(2))
        1 2
        2 2
    """

    def __init__(self, schedule: Any, progress: Callable[[Progress], None]) -> None:
        self.schedule, self.progress = schedule, progress

    def attach(self, engine: Engine) -> None:
        """Let each step of the engine be told."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Tell the step that is over."""
        seconds, done = self.schedule.seconds, self.schedule.done(engine)
        output = engine.state.output
        loss = (output[0] if isinstance(output, list) else output)["loss"]
        left = seconds / max(done, 1e-9) * (1 - done)
        steps = self.schedule.planned(engine)
        self.progress(Progress(engine.state.iteration, steps, done, seconds, left, float(loss)))
