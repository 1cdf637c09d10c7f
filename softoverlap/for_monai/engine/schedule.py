"""The learning rate over a run, and its end by time."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from softoverlap._checks import check_positive, refusal


def warmup_cosine(done: float | int, warmup: float | int) -> float:
    """The share of the highest learning rate, where `done` of the run is over.

    Args:
        done: Share of the run, in [0, 1].
        warmup: Share of the run in which the rate rises, in [0, 1].

    Returns:
        The share, in [0, 1].

    Examples:
        >>> warmup_cosine(0.25, 0.5), warmup_cosine(0.5, 0.5)
        (0.5, 1.0)
    """
    if done < warmup:
        return max(done / warmup, 0.01)
    rest = (done - warmup) / max(1 - warmup, 1e-12)
    return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


class WarmupCosine:
    """Linear warm-up and half a cosine to zero, over the steps or the minutes of a run.

    Where there is a time limit, the learning rate follows steps or time, whichever is further on,
    so that it falls to zero also where time ends the run. The log then says at which step, and the
    handlers of the epoch still run: validation, curves, checkpoints.

    Args:
        optimizer: The optimiser; its learning rates are the highest ones.
        warmup: Share of the run in which they rise, in [0, 1].
        minutes: Time limit, of resumed runs together, or None for none.
        steps: The last step, which may lie within an epoch, or None for that of the last epoch.

    Raises:
        ValueError: If `warmup`, `minutes` or `steps` is out of range.

    References:
        Loshchilov and Hutter, SGDR, https://arxiv.org/abs/1608.03983

    Examples:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule, engine = WarmupCosine(optimizer, warmup=0.5), Engine(lambda *_: 0)
        >>> schedule.attach(engine)
        >>> rates = []
        >>> _ = engine.add_event_handler(
        ...     Events.ITERATION_STARTED, lambda: rates.append(optimizer.param_groups[0]["lr"])
        ... )
        >>> _ = engine.run(range(4))
        >>> [round(rate, 3) for rate in rates]
        [0.001, 0.05, 0.1, 0.05]
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup: float | int = 0.1,
        minutes: float | int | None = None,
        steps: int | None = None,
    ) -> None:
        if not 0 <= warmup <= 1:
            raise refusal("warmup", f"must lie in [0, 1], got {warmup}")
        if minutes is not None:
            check_positive(minutes=minutes)
        if steps is not None:
            check_positive(steps=steps)
        self.optimizer, self.warmup = optimizer, float(warmup)
        self.minutes, self.steps = minutes, steps
        self.highest = [group["lr"] for group in optimizer.param_groups]
        self.seconds, self.over = 0.0, False
        self.clock = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Let the learning rate be set before each step of the engine."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rates)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end)

    def state_dict(self) -> dict[str, float]:
        """The time that was trained."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from this time."""
        self.seconds = float(state["seconds"])

    def planned(self, engine: Engine) -> int:
        """The last step of the run, where time does not end it before.

        Args:
            engine: The trainer, once it runs or has run.

        Returns:
            Its number, at least 1.
        """
        state = engine.state
        return self.steps or max(1, (state.epoch_length or 1) * (state.max_epochs or 1))

    def done(self, engine: Engine) -> float:
        """The share of the steps or of the time that is over, whichever is more.

        Args:
            engine: The trainer, once it runs or has run.

        Returns:
            The share, in [0, 1].
        """
        return min(1.0, max(engine.state.iteration / self.planned(engine), self._of_time()))

    def is_done(self, engine: Engine) -> bool:
        """Whether a run that was loaded from a checkpoint has nothing left to do.

        Args:
            engine: The trainer.

        Returns:
            False for a run that has not begun.
        """
        return bool(engine.state.iteration) and self.done(engine) >= 1

    def _start(self) -> None:
        self.clock = time.monotonic()

    def _set_rates(self, engine: Engine) -> None:
        done = max((engine.state.iteration - 1) / self.planned(engine), self._of_time())
        rate = warmup_cosine(done, self.warmup)
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * rate

    def _stop(self, engine: Engine) -> None:
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        step = engine.state.iteration
        if self.minutes is not None and self._of_time() >= 1:
            self.over = True
            steps = f"{step} of {self.planned(engine)} steps"
            engine.logger.warning(f"stopped by minutes={self.minutes:g} at {steps}")
            engine.terminate_epoch()
        elif self.steps is not None and step >= self.steps:
            self.over = True
            engine.terminate_epoch()

    def _end(self, engine: Engine) -> None:
        if self.over:
            engine.terminate()

    def _of_time(self) -> float:
        """Share of the time that is over, by the clock of the first rank."""
        if self.minutes is None:
            return 0.0
        seconds = torch.tensor([self.seconds], dtype=torch.float64)
        if dist.is_available() and dist.is_initialized():
            if dist.get_backend() == "nccl":
                seconds = seconds.cuda()
            dist.broadcast(seconds, 0)
        return float(seconds) / (60 * self.minutes)
