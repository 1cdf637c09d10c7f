"""A training: its data checked, the bundle run, the score threshold chosen."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from softoverlap._checks import refusal
from softoverlap.app.train.checkpoint import LesionDetector, load_checkpoint, write_checkpoint
from softoverlap.app.train.configuration import (
    data_settings,
    different,
    own_errors,
    parts_of_detection,
    training_config,
)
from softoverlap.app.train.device import pick_device
from softoverlap.app.train.evaluation import Evaluation
from softoverlap.app.train.folder import RunFolder
from softoverlap.app.train.judging import judge
from softoverlap.app.train.planned import doubts_about_plan, planned_settings
from softoverlap.app.train.progress import Progress, ReportProgress
from softoverlap.app.train.reading import CheckedScans, check_scans, training_split
from softoverlap.app.train.threshold import chosen_threshold
from softoverlap.images import CaseTable, LoadedCase, find_cases, write_json

_LOG = logging.getLogger(__name__)
_LENGTHS = ("steps", "max_epochs", "train#trainer#max_epochs", "patience")
_MAY_CHANGE = (
    *_LENGTHS, "minutes", "val_interval", "workers", "cache_rate", "device", "data_dir",
    "output_dir", "tensorboard", "resume",
)  # fmt: skip


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
    skip_damaged: bool = False,
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
        skip_damaged: Leave scans out that cannot be read or do not fit their truth, and list them
            in `failed.csv`; else they are an error before the first step.
        progress: Called after every step. If it raises `KeyboardInterrupt`, the run ends there,
            and can be resumed from its last epoch.

    Returns:
        The detector with the best weights, how good it is, and how the training went.

    Raises:
        FileExistsError: If there is a run in `output`, and `resume` and `overwrite` are False; or
            files that a run would replace, and no run.
        FileNotFoundError: If there is none to resume, or a file does not exist.
        ValueError: If a scan is damaged and not left out, there is no lesion, a setting is
            unknown, the run to resume does not fit, or the training diverges.

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
    run = TrainingRun(
        data, output, plan=plan, config=config, settings=settings, device=device,
        skip_damaged=skip_damaged,
    )  # fmt: skip
    run.claim(resume=resume, overwrite=overwrite)
    if not run.is_finished():
        for note in run.check().notes:
            warnings.warn(note, stacklevel=2)
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
        skip_damaged: Leave damaged scans out.

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
        skip_damaged: bool = False,
    ) -> None:
        self.data, self.folder = Path(data), RunFolder(Path(output))
        self.config = training_config(data, output, plan=plan, config=config, settings=settings)
        self.planned = {} if plan is None else planned_settings(plan)
        self.device = pick_device(device)
        self.config["device"] = f"$torch.device('{self.device}')"
        self.resuming = False
        self.values = data_settings(self.config)
        self.table: CaseTable = find_cases(
            data, layout=self.values["layout"], images=self.values["images"],
            frame=self.values["frame"],
        )  # fmt: skip
        if not self.table.cases:
            raise refusal("data", "must hold at least one scan with a mask or raters, found none")
        self.split = training_split(self.table, self.data, self.values)
        self.skip_damaged = skip_damaged
        self.checked: CheckedScans | None = None

    def claim(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Take the folder, or refuse it.

        Args:
            resume: Go on with the run in it.
            overwrite: Replace that run.

        Raises:
            FileExistsError: If there is a run and neither is asked for, or the folder holds files
                of other origin that a run would replace.
            FileNotFoundError: If there is none to resume.
            ValueError: If both are asked for, or the run to resume has other settings or scans.
        """
        if resume and overwrite:
            raise ValueError("`resume=` and `overwrite=` exclude each other, got both")
        self.resuming, there = resume, self.folder.there()
        if there and not (resume or overwrite):
            raise FileExistsError(
                f"{there} must not exist yet: pass `resume=True`, `overwrite=True` or another "
                "`output=`"
            )
        if resume and not there:
            raise FileNotFoundError(
                f"`resume=True` needs a run in {self.folder.path}, found none: leave it out to "
                "start anew"
            )
        if resume:
            self._check_same()
        else:
            self.folder.check_own()

    def is_finished(self) -> bool:
        """Whether the run to resume has nothing left to train."""
        if not self.resuming or not self.folder.checkpoint.exists():
            return False
        training, minutes = self.folder.training, self.config["minutes"]
        if minutes is not None and training["seconds"] >= 60 * float(minutes):
            return True
        changed = {*different(self.folder.config, self.config)} & set(_LENGTHS)
        if not changed:
            return training["stopped_by"] != "minutes"
        return changed == {"steps"} and training["steps"] >= self.config["steps"]

    def check(
        self, tell: Callable[[str, LoadedCase | None, list[str]], None] | None = None
    ) -> CheckedScans:
        """Read every scan once, before any is trained on; spacing and intensities follow from them.

        Args:
            tell: Called with the name of each scan, what was read, or None, and notes or the error.

        Returns:
            What was found, with a note if the plan seems to be one of other scans.

        Raises:
            ValueError: As `check_scans`.
        """
        checked = check_scans(
            self.table.cases, self.split.fold, threshold=self.values["threshold"],
            axes=self.values["axes"], tell=tell, skip_damaged=self.skip_damaged,
        )  # fmt: skip
        self.checked = checked
        if self.config["spacing"] is None:
            self.config["spacing"] = list(checked.spacing)
        if self.config["intensity"] == "fixed":
            self.config["intensity"] = [list(part) for part in checked.intensity]
        doubts = doubts_about_plan(self.config, self.planned, checked)
        return replace(checked, notes=checked.notes + doubts)

    def fit(self, progress: Callable[[Progress], None] | None = None) -> dict[str, Any]:
        """Train, from the beginning or the last epoch of the run to resume.

        Args:
            progress: Called after every step.

        Returns:
            How it went, as `Trained.training`.

        Raises:
            KeyboardInterrupt: If `progress` raised it, with what is kept.
            ValueError: If the training diverges.
        """
        folder = self.folder
        if not self.resuming:
            folder.clear()
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.keep(self.config)
            if self.split.drawn and self.split.source.startswith("fold"):
                folder.keep_folds(self.split.drawn)
        parser = ConfigParser(dict(self.config))
        if self.resuming and folder.epochs:
            parser["resume"] = str(folder.epochs[-1])
        with folder.logged(), own_errors():
            self._log_counts()
            training = self._run(parser, progress)
        write_checkpoint(folder.checkpoint, folder.best, training=training)
        folder.keep(self.config)  # only now: a finished run that goes on may be stopped, too
        del parser
        gc.collect()  # of the scans in memory
        return training

    def judge(self, at: float | int | str = "f1") -> Trained:
        """Choose the score threshold on the scans held out, or without any on training scans.

        Args:
            at: How; see `operating_point`.

        Returns:
            The detector and how good it is; `evaluation/` holds the boxes, and `validation.json`
            the same figures if scans were held out.
        """
        folder, held_out = self.folder, bool(self.split.fold.validation)
        result, scans = judge(folder, self.data, self.config["device"], at, held_out=held_out)
        kind = "validation" if held_out else "training"
        threshold, rule = chosen_threshold(result, scans, kind)
        path = folder.checkpoint
        write_checkpoint(path, path, score_threshold=threshold, threshold_rule=rule)
        if held_out:
            write_json(folder.path / "validation.json", result.summary)
        parts = parts_of_detection(self.config)
        model = load_checkpoint(path, device=self.device, config=parts)
        return Trained(model, result, path, folder.training)

    def is_judged(self, at: float | int | str) -> bool:
        """Whether the score threshold was chosen in this way, and the results are there."""
        finding = self.folder.finding
        rule = finding["threshold_rule"] or ""
        given = rule == "given" and finding["score_threshold"] == at
        told = not self.split.fold.validation or (self.folder.path / "validation.json").exists()
        return told and (given or rule.startswith(f"{at} on "))

    def _log_counts(self) -> None:
        """How much there is to train and to validate on, where the scans were read."""
        for line in self.checked.counts if self.checked else ():
            _LOG.info(line)
        if self.checked and self.checked.few:
            _LOG.warning(self.checked.few)

    def _run(
        self, parser: ConfigParser, progress: Callable[[Progress], None] | None
    ) -> dict[str, Any]:
        """The bundle's `initialize` and `run`, and how the training went."""
        parser.parse()
        parser.get_parsed_content("initialize")
        trainer = parser.get_parsed_content("train#trainer")
        schedule = parser.get_parsed_content("train#schedule")
        if progress is not None:
            ReportProgress(schedule, progress).attach(trainer)
        try:
            parser.get_parsed_content("run")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self.folder.kept()) from None
        steps, planned = trainer.state.iteration, schedule.planned(trainer)
        reason = "steps" if steps >= planned else "minutes" if schedule.over else "early stop"
        seconds = schedule.seconds
        return {"steps": steps, "planned": planned, "seconds": seconds, "stopped_by": reason}

    def _check_same(self) -> None:
        """The run to resume has these settings and scans."""
        stored, path = self.folder.config, self.folder.path
        if self.config["spacing"] is None:  # as the scans gave it, and intensities likewise
            self.config["spacing"] = stored["spacing"]
        if self.config["intensity"] == "fixed" and stored["intensity"] is not None:
            self.config["intensity"] = stored["intensity"]
        for name in different(stored, self.config):
            if name not in _MAY_CHANGE:
                before, now = (ConfigParser(one).get(name) for one in (stored, self.config))
                raise refusal(name, f"must stay {before} to resume {path}, got {now}")
        self.folder.check_scans(self.split.fold, skip_damaged=self.skip_damaged)
