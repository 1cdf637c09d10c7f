"""A training: its data checked, the bundle run, the score threshold chosen."""

from __future__ import annotations

import gc
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.handlers import from_engine

from softoverlap._checks import refusal
from softoverlap.app.train.checkpoint import LesionDetector, load_checkpoint, write_checkpoint
from softoverlap.app.train.configuration import different, follow, training_config
from softoverlap.app.train.device import pick_device
from softoverlap.app.train.evaluation import Evaluation, evaluate
from softoverlap.app.train.progress import Progress, ReportProgress
from softoverlap.app.train.reading import CheckedScans, check_scans
from softoverlap.app.train.threshold import chosen_threshold
from softoverlap.images import (
    SPLITS,
    CaseTable,
    LoadedCase,
    Split,
    find_cases,
    read_json,
    read_splits,
    split_of,
    write_json,
)

CHECKPOINT, CONFIG = "checkpoint.pt", "config.json"
MOST_JUDGES = 20
"""Training scans on which a threshold is chosen where no scan is held out."""

_EPOCHS = "checkpoint_epoch=*.pt"
_LENGTHS = ("steps", "max_epochs", "train#trainer#max_epochs", "patience")
_MAY_CHANGE = (
    *_LENGTHS, "minutes", "val_interval", "workers", "cache_rate", "device", "data_dir",
    "output_dir", "tensorboard", "resume",
)  # fmt: skip
_WRITTEN = (
    CHECKPOINT, _EPOCHS, "best.pt", "last.pt", "curve.*", "validation.json", CONFIG, SPLITS,
    "train.log", "validation", "evaluation", "pictures", "tensorboard",
)  # fmt: skip
"""What a training writes into its folder."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training gave.

    Args:
        model: The detector, with its score threshold.
        evaluation: How good it is on the scans held out, or without any on training scans.
        checkpoint: The file that `load_checkpoint` and `softoverlap detect` take.
        training: `steps` done and `planned`, `seconds`, and `stopped_by`: `"steps"`, `"minutes"`
            or `"early stop"`.
    """

    model: LesionDetector
    evaluation: Evaluation
    checkpoint: Path
    training: Mapping[str, Any]


def train(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    plan: str | os.PathLike[str] | None = None,
    config: Sequence[str | os.PathLike[str]] = (),
    settings: Mapping[str, Any] | None = None,
    device: str | torch.device = "auto",
    at: float | int | str = "f1",
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train the bundle's lesion detector on a folder of scans, as `softoverlap train` does.

    Args:
        data: A folder in any layout of `find_cases`, or a list of boxes.
        output: The folder for checkpoints, curves and results.
        plan: A file of `softoverlap plan`.
        config: Files of settings, YAML or JSON, that follow the bundle's `train.yaml`.
        settings: Values by their names in `train.yaml`; see `training_config`.
        device: Where to train; see `pick_device`.
        at: How the score threshold is chosen; see `operating_point`.
        resume: Go on from the last epoch of the run in `output`, with the same scans and
            settings. Steps, epochs, time limit, workers and cache may differ.
        overwrite: Replace the run in `output`.
        progress: Called after every step. If it raises `KeyboardInterrupt`, the run ends there,
            and can be resumed from its last epoch.

    Returns:
        The detector with the best weights, how good it is, and how the training went.

    Raises:
        FileExistsError: If there is a run in `output`, and `resume` and `overwrite` are False.
        FileNotFoundError: If there is none to resume, or a file does not exist.
        ValueError: If a scan cannot be used, there is no lesion, a setting is unknown, the run to
            resume does not fit, or the training diverges.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import write_phantoms
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_phantoms(folder / "scans", 2, seed=0, shape=(32, 32, 24))
        >>> small = {"steps": 1, "batch_size": 1, "channels": [8, 8, 8], "workers": 0}
        >>> small |= {"patch_size": [16, 16, 16], "epoch_steps": 1}
        >>> made = train(folder / "scans", folder / "run", settings=small, device="cpu", at=0.5)
        >>> made.training["stopped_by"], made.model.score_threshold
        ('steps', 0.5)
    """
    run = TrainingRun(data, output, plan=plan, config=config, settings=settings, device=device)
    run.claim(resume=resume, overwrite=overwrite)
    if not run.is_finished():
        run.check()
        run.fit(progress)
    return run.judge(at)


class TrainingRun:
    """The parts of `train`, for those who want to say something between them.

    Args:
        data: As of `train`, like all others.
        output: The folder for the results.
        plan: A plan.
        config: Files of settings.
        settings: Single settings.
        device: Where to train.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a setting is unknown or the data set cannot be split.
    """

    def __init__(
        self,
        data: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        plan: str | os.PathLike[str] | None = None,
        config: Sequence[str | os.PathLike[str]] = (),
        settings: Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        self.data, self.output = Path(data), Path(output)
        self.config = training_config(data, output, plan=plan, config=config, settings=settings)
        self.device = pick_device(device)
        self.config["device"] = f"$torch.device('{self.device}')"
        self.resuming = False
        known = ConfigParser(dict(self.config))
        self.values = {name: known.get_parsed_content(name) for name in _ASKED}
        self.table: CaseTable = find_cases(
            data, layout=self.values["layout"], images=self.values["images"],
            frame=self.values["frame"],
        )  # fmt: skip
        if not self.table.cases:
            raise refusal("data", "must hold at least one scan with a mask or raters, found none")
        self.split = self._split()

    @property
    def checkpoint(self) -> Path:
        """The file that `softoverlap detect` takes."""
        return self.output / CHECKPOINT

    def claim(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Take the folder, or refuse it.

        Args:
            resume: Go on with the run in it.
            overwrite: Replace that run.

        Raises:
            FileExistsError: If there is a run and neither is asked for.
            FileNotFoundError: If there is none to resume.
            ValueError: If both are asked for, or the run to resume has other settings or scans.
        """
        if resume and overwrite:
            raise ValueError("`resume=` and `overwrite=` exclude each other, got both")
        self.resuming = resume
        there = [path for path in (self.checkpoint, *self._epochs()) if path.exists()]
        if there and not (resume or overwrite):
            raise FileExistsError(
                f"{there[0]} must not exist yet: pass `resume=True`, `overwrite=True` or another "
                "`output=`"
            )
        if resume:
            if not there:
                raise FileNotFoundError(
                    f"`resume=True` needs {self.output / _EPOCHS}, found none: leave it out to "
                    "start anew"
                )
            self._check_same()

    def is_finished(self) -> bool:
        """Whether the run to resume has nothing left to train."""
        if not self.resuming or not self.checkpoint.exists():
            return False
        known = self.training
        changed = {*different(self._stored(), self.config)} & set(_LENGTHS)
        steps, minutes = self.config["steps"], self.config["minutes"]
        if minutes is not None and known["seconds"] >= 60 * float(minutes):
            return True
        if not changed and minutes is None and known["stopped_by"] != "minutes":
            return True
        return known["steps"] >= (steps if isinstance(steps, int) else known["planned"]) and not (
            changed - {"steps"}
        )

    @property
    def training(self) -> dict[str, Any]:
        """How far the training came whose checkpoint is there."""
        return torch.load(self.checkpoint, weights_only=True)["training"]

    def check(
        self, tell: Callable[[str, LoadedCase | None, list[str]], None] | None = None
    ) -> CheckedScans:
        """Read every scan once, before any is trained on; spacing and intensities follow from them.

        Args:
            tell: Called with the name of each scan, what was read, or None, and notes or the error.

        Returns:
            What was found.

        Raises:
            ValueError: If a scan cannot be used, or there is no lesion to train on.
        """
        parts = set(self.split.fold.train), set(self.split.fold.validation)
        checked = check_scans(
            self.table.cases, *parts, threshold=self.values["threshold"],
            axes=self.values["axes"], tell=tell,
        )  # fmt: skip
        if self.config["spacing"] is None:
            self.config["spacing"] = list(checked.spacing)
        if self.config["intensity"] == "fixed":
            self.config["intensity"] = [list(part) for part in checked.intensity]
        return checked

    def fit(self, progress: Callable[[Progress], None] | None = None) -> dict[str, Any]:
        """Train, from the beginning or the last epoch of the run to resume.

        Args:
            progress: Called after every step.

        Returns:
            How it went, as `Trained.training`.
        """
        if not self.resuming:
            _clear(self.output)
        self.output.mkdir(parents=True, exist_ok=True)
        write_json(self.output / CONFIG, self.config)
        parser = ConfigParser(dict(self.config))
        epochs = self._epochs()
        if self.resuming and epochs:
            parser["resume"] = str(epochs[-1])
        with _logged(self.output / "train.log"):
            parser.parse()
            parser.get_parsed_content("initialize")
            trainer = parser.get_parsed_content("train#trainer")
            schedule = parser.get_parsed_content("train#schedule")
            if progress is not None:
                ReportProgress(schedule, progress).attach(trainer)
            try:
                parser.get_parsed_content("run")
            except KeyboardInterrupt:
                raise KeyboardInterrupt(self._kept()) from None
        steps, planned = trainer.state.iteration, schedule.planned(trainer)
        reason = "steps" if steps >= planned else "minutes" if schedule.over else "early stop"
        training = {
            "steps": steps, "planned": planned, "seconds": schedule.seconds, "stopped_by": reason,
        }  # fmt: skip
        write_checkpoint(self.checkpoint, self._best(), training=training)
        del parser, trainer, schedule
        gc.collect()
        return training

    def judge(self, at: float | int | str = "f1") -> Trained:
        """Choose the score threshold on the scans held out, or without any on training scans.

        Args:
            at: How; see `operating_point`.

        Returns:
            The detector and how good it is; `validation.json` and `evaluation/` hold the same.
        """
        held_out = list(self.split.fold.validation)
        stored = self._stored()
        judging = {"checkpoint": str(self.checkpoint), "output_dir": str(self.output)}
        judging |= {"device": self.config["device"], "data_dir": str(self.data)}
        if not held_out:
            judging |= {"part": "train", "validate#dataset#data": f"$@validate#data[:{MOST_JUDGES}]"}
        parser = follow(stored, "evaluate.yaml", judging)
        predictions: list[Any] = []
        targets: list[Any] = []
        with _logged(self.output / "train.log"):
            parser.parse()
            parser.get_parsed_content("initialize")
            evaluator = parser.get_parsed_content("validate#evaluator")

            def collect(engine: Any) -> None:
                found, truth = from_engine(["pred", "label"])(engine.state.output)
                predictions.extend(found)
                targets.extend(truth)

            evaluator.add_event_handler(Events.ITERATION_COMPLETED, collect)
            parser.get_parsed_content("run")
        result = evaluate(predictions, targets, at=at)
        kind = "validation" if held_out else "training"
        threshold, rule = chosen_threshold(result, len(predictions), kind)
        write_checkpoint(
            self.checkpoint, self.checkpoint, score_threshold=threshold, threshold_rule=rule,
            training=self.training,
        )  # fmt: skip
        if held_out:
            write_json(self.output / "validation.json", result.summary)
        model = load_checkpoint(self.checkpoint, device=self.device)
        return Trained(model, result, self.checkpoint, self.training)

    def is_judged(self, at: float | int | str) -> bool:
        """Whether the score threshold was chosen in this way, and the results are there."""
        finding = torch.load(self.checkpoint, weights_only=True).get("finding") or {}
        rule = finding.get("threshold_rule") or ""
        given = rule == "given" and finding.get("score_threshold") == at
        there = not self.split.fold.validation or (self.output / "validation.json").exists()
        return there and (given or rule.startswith(f"{at} on "))

    def _split(self) -> Split:
        fold, values = self.values["fold"], self.values
        try:
            return split_of(
                self.table, self.data, validation=values["validation"], seed=values["split_seed"],
                folds=values["folds"], fold=fold,
            )  # fmt: skip
        except ValueError as error:
            if fold is None and "two patients" in str(error):
                raise ValueError(f"{error}, or pass `validation=0`") from error
            raise

    def _epochs(self) -> list[Path]:
        """Checkpoints of epochs, the last one last."""
        return sorted(self.output.glob(_EPOCHS), key=lambda path: int(path.stem.split("=")[1]))

    def _best(self) -> Path:
        best = self.output / "best.pt"
        return best if best.exists() else self.output / "last.pt"

    def _stored(self) -> dict[str, Any]:
        """The configuration of the run in the folder."""
        return read_json(self.output / CONFIG)

    def _kept(self) -> str:
        epochs = self._epochs()
        if not epochs:
            return "no epoch is whole yet, so there is no checkpoint"
        return f"{epochs[-1]} is kept, and `resume=True` continues from it"

    def _check_same(self) -> None:
        """The run to resume has these settings and scans."""
        stored = self._stored()
        for name in ("spacing", "intensity"):  # as the scans gave them
            if self.config[name] in (None, "fixed"):
                self.config[name] = stored[name]
        for name in different(stored, self.config):
            if name not in _MAY_CHANGE:
                values = [ConfigParser(one).get(name) for one in (stored, self.config)]
                complaint = f"must stay {values[0]} to resume {self.output}, got {values[1]}"
                raise refusal(name, complaint)
        (fold,) = read_splits(self.output / SPLITS)
        names = {"train": fold.train, "validation": fold.validation}
        for part, before in names.items():
            now = getattr(self.split.fold, part)
            if sorted(now) != sorted(before):
                raise refusal(
                    "data",
                    f"must hold the scans that {self.output} was started with, {len(before)} to "
                    f"{part}, got {len(now)} or other names",
                )


_ASKED = (
    "layout", "images", "frame", "validation", "split_seed", "folds", "fold", "threshold", "axes",
)  # fmt: skip
"""Settings that are needed before the configuration is whole."""


def _clear(output: Path) -> None:
    """Remove what an earlier training wrote."""
    for pattern in _WRITTEN:
        for path in output.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What MONAI's handlers say goes into a file."""
    root, handler = logging.getLogger(), logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
