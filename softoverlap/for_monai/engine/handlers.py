"""What a training run needs beside MONAI's handlers, attached like them to an engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.engines.utils import IterationEvents
from monai.handlers.checkpoint_saver import CheckpointSaver
from monai.handlers.earlystop_handler import EarlyStopHandler
from monai.handlers.validation_handler import ValidationHandler

from softoverlap._checks import check_positive

_APART = 1_000_003  # so that the seeds of near epochs and ranks share nothing


class SeedEachEpoch:
    """Lets everything random of an epoch depend on seed, epoch and rank alone.

    So a run that is resumed at an epoch sees the patches that the uninterrupted one would have
    seen, with or without workers.

    Args:
        seed: Seed of the run, at least 0.
        datasets: Data sets with random transforms.

    Examples:
        >>> from monai.data.dataset import Dataset
        >>> from monai.transforms import RandGaussianNoise
        >>> data, engine = Dataset([torch.zeros(1, 2)], RandGaussianNoise(1)), Engine(lambda *_: 0)
        >>> SeedEachEpoch(0, [data]).attach(engine)
        >>> seen = []
        >>> for _ in range(2):
        ...     _ = engine.run([0])
        ...     seen.append(data[0])
        >>> bool((seen[0] == seen[1]).all())
        True
    """

    def __init__(self, seed: int, datasets: Any) -> None:
        self.seed, self.datasets = seed, list(datasets)

    def attach(self, engine: Engine) -> None:
        """Let the seeds be set at the beginning of each epoch of the engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the seeds of the epoch that begins."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        seed = ((self.seed * _APART + engine.state.epoch) * _APART + rank) % 2**32
        torch.manual_seed(seed)
        set_rnd(self.datasets, seed)


class ClipGradients:
    """Scales gradients down that are longer than `max_norm`, also under mixed precision.

    Args:
        max_norm: Longest gradient of all parameters together, above 0.

    Raises:
        ValueError: If `max_norm` is not above 0.

    Examples:
        >>> ClipGradients(5.0).max_norm
        5.0
    """

    def __init__(self, max_norm: float | int) -> None:
        check_positive(max_norm=max_norm)
        self.max_norm = float(max_norm)

    def attach(self, engine: Engine) -> None:
        """Let gradients be clipped between the engine's backward pass and its optimiser."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Clip the gradients of the step."""
        if engine.scaler is not None:  # scaled gradients have no length of their own
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class ValidateEpochs(ValidationHandler):
    """MONAI's `ValidationHandler`, which validates after the last epoch too, whatever ends the run.

    So a run that time ends has a best checkpoint, if what ends it stands before this handler, as
    `WarmupCosine` does in the bundle.

    Args:
        interval: Epochs from one validation to the next.
        validator: The validation's engine.

    Examples:
        >>> from monai.engines import SupervisedEvaluator
        >>> validator = SupervisedEvaluator("cpu", [torch.zeros(1, 1)], torch.nn.Identity())
        >>> engine = Engine(lambda *_: 0)
        >>> ValidateEpochs(2, validator).attach(engine)
        >>> engine.run([0], max_epochs=3).epoch, validator.state.epoch
        (3, 3)
    """

    def __init__(self, interval: int, validator: Any) -> None:
        check_positive(interval=interval)
        super().__init__(interval, validator)

    def attach(self, engine: Engine) -> None:
        """Let the engine validate after its epochs."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._validate)

    def _validate(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        last = engine.should_terminate or epoch == engine.state.max_epochs
        if last or epoch % self.interval == 0:
            self(engine)


class EarlyStop(EarlyStopHandler):
    """MONAI's `EarlyStopHandler`, whose count of validations without gain a resumed run continues.

    It is saved with the run's checkpoint (`save_dict={..., "early_stop": early_stop}`).

    Args:
        patience: Validations without gain until the run stops.
        score_function: What gives an engine's score; higher is better.
        trainer: The engine to stop, or None until `set_trainer`.

    Examples:
        >>> stop = EarlyStop(3, lambda engine: 0.0, Engine(lambda *_: 0))
        >>> stop.state_dict()["counter"]
        0
    """

    def __init__(
        self, patience: int, score_function: Callable[[Any], float], trainer: Engine | None = None
    ) -> None:
        super().__init__(patience, score_function, trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best score, and how many validations have passed since."""
        return dict(self._handler.state_dict())  # pyright: ignore

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._handler.load_state_dict(state)  # pyright: ignore


class BestCheckpoint(CheckpointSaver):
    """MONAI's `CheckpointSaver` of the best key metric, whose record a resumed run continues.

    Of equally good weights the last are kept, and a metric that is NaN is worse than any number:
    where none says which weights are best, those that trained longest are. Saved with the run's
    checkpoint (`save_dict={..., "best": best}`), it keeps a resumed run from replacing the best
    weights by worse ones, as long as their file is still there.

    Args:
        save_dir: Folder of the file.
        save_dict: What is saved, by name.
        filename: Name of the file.

    Examples:
        >>> import tempfile
        >>> best = BestCheckpoint(tempfile.mkdtemp(), {"network": torch.nn.Linear(1, 1)})
        >>> best.state_dict()
        {'_saved': []}
    """

    def __init__(self, save_dir: str, save_dict: dict[str, Any], filename: str = "best.pt") -> None:
        super().__init__(
            save_dir, save_dict, save_key_metric=True, key_metric_filename=filename,
            key_metric_greater_or_equal=True,
        )  # fmt: skip
        self._file = Path(save_dir) / filename
        checkpoint: Any = self._key_metric_checkpoint
        checkpoint.score_function = _or_lowest(checkpoint.score_function)

    def state_dict(self) -> dict[str, Any]:
        """The score of the file that is kept, and its name."""
        return dict(self._key_metric_checkpoint.state_dict())  # pyright: ignore

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the score of the file, if it is there."""
        if self._file.exists():
            super().load_state_dict(state_dict)


def _or_lowest(score: Callable[[Engine], float]) -> Callable[[Engine], float]:
    """The same score, and the lowest of all where it is NaN, which compares with nothing."""

    def lowest_for_nan(engine: Engine) -> float:
        value = score(engine)
        return -math.inf if math.isnan(value) else value

    return lowest_for_nan


class ScalerState:
    """The scale of the losses under mixed precision, which a resumed run takes over.

    It matters with float16, whose scale is found by steps that are skipped; with bfloat16 any scale
    gives the same step. Without mixed precision there is none. It is saved with the run's
    checkpoint (`save_dict={..., "scaler": scaler}`), and stands among the trainer's handlers.

    Examples:
        >>> from types import SimpleNamespace
        >>> trainer = SimpleNamespace(scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
        >>> scaler = ScalerState()
        >>> scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": 2.0})
        >>> scaler.start(trainer)
        >>> trainer.scaler.get_scale()
        2.0
    """

    def __init__(self) -> None:
        self.engine: Any = None
        self.stored: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Let the engine's scaler, which it makes anew at each run, go on from what was loaded."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Any) -> None:
        """Hand over what was loaded."""
        self.engine = engine
        scaler = getattr(engine, "scaler", None)
        if scaler is not None and scaler.is_enabled() and self.stored:
            scaler.load_state_dict(self.stored)

    def state_dict(self) -> dict[str, Any]:
        """What the scaler says of itself; empty without one."""
        scaler = getattr(self.engine, "scaler", None)
        return dict(self.stored if scaler is None else scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there when the run starts."""
        self.stored = dict(state)
