"""The folder of a training: what is in it, what a new run removes, and its log."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softoverlap._checks import refusal
from softoverlap.for_monai import read_checkpoint
from softoverlap.images import SPLITS, Fold, read_json, read_table, write_json, write_splits

_EPOCHS = "checkpoint_epoch=*.pt"
_WRITTEN = (
    "checkpoint.pt", _EPOCHS, "best.pt", "last.pt", "curve.*", "validation.json", "failed.csv",
    SPLITS, "train.log", "folds", "validation", "evaluation", "pictures", "tensorboard",
    "config.json",  # the last to go, since it tells that the others are a training's
)  # fmt: skip
_OF_A_RUN = {"data_dir", "output_dir", "split_file", "failed_file"}
"""Names that the configuration of a training has, and hardly any other `config.json`."""

_PRINTS = "monai.handlers.StatsHandler"
"""A logger that prints, and passes on nothing of what it prints."""


@dataclass(frozen=True)
class RunFolder:
    """What a training leaves in its folder.

    Args:
        path: The folder, which need not exist.

    Examples:
        >>> RunFolder(Path("runs/mine")).checkpoint.name
        'checkpoint.pt'
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The file that `softoverlap detect` takes."""
        return self.path / "checkpoint.pt"

    @property
    def best(self) -> Path:
        """The best weights, or where nothing was validated the last ones."""
        best = self.path / "best.pt"
        return best if best.exists() else self.path / "last.pt"

    @property
    def epochs(self) -> list[Path]:
        """Checkpoints of epochs, the last one last."""
        return sorted(self.path.glob(_EPOCHS), key=lambda path: int(path.stem.split("=")[1]))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that ran, or of a run that is stopped the one that it began with."""
        return read_json(self.path / "config.json")

    def keep(self, config: Mapping[str, Any]) -> None:
        """Write the configuration."""
        write_json(self.path / "config.json", config)

    def keep_folds(self, folds: Sequence[Fold]) -> None:
        """Write all folds of which the run takes one, if they stand in no other file."""
        (self.path / "folds").mkdir(exist_ok=True)
        write_splits(self.path / "folds" / SPLITS, folds)

    @property
    def fold(self) -> Fold:
        """Names of the scans that trained and validated."""
        (parts,) = read_json(self.path / SPLITS)  # unlike folds, it may have nothing to validate on
        return Fold(tuple(parts["train"]), tuple(parts["val"]))

    @property
    def damaged(self) -> tuple[str, ...]:
        """Names of the scans that could not be read, and were left out."""
        path = self.path / "failed.csv"
        return tuple(row["case"] for row in read_table(path).rows) if path.is_file() else ()

    @property
    def training(self) -> dict[str, Any]:
        """How far the training came whose checkpoint is there."""
        training = read_checkpoint(self.checkpoint).get("training")
        if training is None:
            raise ValueError(
                f"checkpoint {self.checkpoint} must say how far its training came, got none of it"
            )
        return training

    @property
    def finding(self) -> dict[str, Any]:
        """The score threshold of the checkpoint that is there, and its rule."""
        return read_checkpoint(self.checkpoint)["finding"]

    def kept(self) -> str:
        """What a run that is stopped leaves, in words."""
        epochs = self.epochs
        if not epochs:
            return "no epoch is whole yet, so there is no checkpoint"
        return f"{epochs[-1]} is kept, and `resume=True` continues from it"

    def there(self) -> Path | None:
        """A file that shows that a training was here, or None."""
        return next((path for path in (self.checkpoint, *self.epochs) if path.exists()), None)

    def check_own(self) -> None:
        """Refuse a folder in which a training would replace what no training wrote.

        Raises:
            FileExistsError: If there is a file of such a name, and no sign of a training.
        """
        foreign = sorted(path.name for path in self._written())
        if foreign and self.there() is None and not self._was_begun():
            shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
            raise FileExistsError(
                f"{self.path} must not hold {shown}, which would be replaced though nothing tells "
                "that a training wrote them: pass another `output=`, or remove them if they are of "
                "a run of the bundle that was stopped before its first epoch was over"
            )

    def check_scans(self, fold: Fold, *, skip_damaged: bool) -> None:
        """Refuse to go on with other scans than the training began with.

        Args:
            fold: Names of those that are there.
            skip_damaged: Whether damaged ones are left out.

        Raises:
            ValueError: If they differ.
        """
        damaged = set(self.damaged)
        for part in ("train", "validation"):
            before, now = getattr(self.fold, part), getattr(fold, part)
            if skip_damaged:
                now = [name for name in now if name not in damaged]
            if sorted(before) != sorted(now):
                began = f"must hold the scans that {self.path} was started with, {len(before)} to"
                hint = ": pass `skip_damaged=True` as then" if damaged & set(now) else ""
                raise refusal("data", f"{began} {part}, got {len(now)} or other names{hint}")

    def clear(self) -> None:
        """Remove what an earlier training wrote, and nothing else.

        Raises:
            FileExistsError: As `check_own` does.
        """
        self.check_own()
        for path in self._written():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _written(self) -> list[Path]:
        """What is there that has a name of what a training writes."""
        return [path for pattern in _WRITTEN for path in self.path.glob(pattern)]

    def _was_begun(self) -> bool:
        """Whether a training began here, though it may have left no checkpoint yet."""
        try:
            config = self.config
        except (OSError, ValueError):
            return False
        return isinstance(config, dict) and config.keys() >= _OF_A_RUN

    @contextmanager
    def logged(self) -> Iterator[None]:
        """What MONAI's handlers say goes into a file."""
        root, stats = logging.getLogger(), logging.getLogger(_PRINTS)
        handler = logging.FileHandler(self.path / "train.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        level, before = root.level, stats.handlers[:]
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        stats.handlers[:] = [handler]
        try:
            yield
        finally:
            root.setLevel(level)
            root.removeHandler(handler)
            stats.handlers[:] = before
            handler.close()
