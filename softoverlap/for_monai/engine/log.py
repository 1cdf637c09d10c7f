"""The curves of a training run as a table, and scores of each class."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from softoverlap.images import read_table, write_table

_FIRST = ("epoch", "step", "learning_rate", "loss")


class CurveTable:
    """Writes `epoch, step, learning_rate, loss, ...` and the validation's metrics, a row an epoch.

    Losses are means over the steps since the last row and over ranks; metrics stand in the rows of
    epochs that were validated. The file is whole after each epoch, and a resumed run continues it:
    an epoch that the time limit broke off, and that is then gone on with, has a row for each part.

    Args:
        path: The CSV file; its folder is made.
        evaluator: The validation's engine, which runs before this handler, or None.
        draw: Called with the path of the table after each validation and at the end, to draw it, or
            None: `softoverlap.app.report.save_curve`.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "curve.csv"
        >>> engine = Engine(lambda *_: {"loss": 0.5, "pred": {"classification": 0.5}})
        >>> CurveTable(path).attach(engine)
        >>> _ = engine.run(range(2))
        >>> path.read_text().split()
        ['epoch,step,learning_rate,loss,classification', '1,2,,0.5,0.5']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        evaluator: Any = None,
        draw: Callable[[Path], object] | None = None,
    ) -> None:
        self.path, self.evaluator, self.draw = Path(path), evaluator, draw
        self.rows: list[dict[str, Any]] = []
        self.sums: dict[str, float] = {}
        self.count = 0

    def attach(self, engine: Engine) -> None:
        """Let the engine's losses be gathered, and a row be written after each of its epochs."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        """Keep the rows of the steps that a resumed run has behind it."""
        self.rows, self.sums, self.count = [], {}, 0
        if engine.state.iteration and self.path.is_file():
            rows = map(dict, read_table(self.path).rows)
            self.rows = [row for row in rows if int(row["step"]) <= engine.state.iteration]

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        output = output[0] if isinstance(output, list) else output
        losses = {"loss": output["loss"]}
        if isinstance(output.get("pred"), Mapping):
            losses |= output["pred"]
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(loss)
        self.count += 1

    def _write(self, engine: Any) -> None:
        optimizer = getattr(engine, "optimizer", None)
        rate = optimizer.param_groups[0]["lr"] if optimizer is not None else None
        row = {"epoch": engine.state.epoch, "step": engine.state.iteration, "learning_rate": rate}
        metrics = self._metrics(engine.state.epoch)
        row |= self._means() | metrics
        self.rows.append(row)
        self.sums, self.count = {}, 0
        if _is_other_rank():
            return
        names = list(dict.fromkeys([*_FIRST, *(name for row in self.rows for name in row)]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_table(self.path, names, [[row.get(name) for name in names] for row in self.rows])
        if metrics:
            self._draw()

    def _draw(self) -> None:
        if self.draw is not None and self.rows and not _is_other_rank():
            self.draw(self.path)

    def _means(self) -> dict[str, float]:
        """Over the steps of the epoch, and over ranks, who all have as many."""
        means = torch.tensor([*self.sums.values()], dtype=torch.float64) / max(self.count, 1)
        if dist.is_available() and dist.is_initialized():
            if dist.get_backend() == "nccl":
                means = means.cuda()
            dist.all_reduce(means)
            means = means / dist.get_world_size()
        return dict(zip(self.sums, means.tolist(), strict=True))

    def _metrics(self, epoch: int) -> dict[str, float]:
        if self.evaluator is None or self.evaluator.state.epoch != epoch:
            return {}
        return dict(self.evaluator.state.metrics)


class ClassScores:
    """Adds the scores of each class to the metrics of a validation, where there are several.

    Beside `val_cpm` stand `val_cpm_edema` and `val_cpm_core`. The handler stands first among the
    evaluator's, so that those that log metrics see them. A class without lesions has none.

    Args:
        metrics: Metrics of found boxes by name, such as `FROCMetric(per_class=True)`, which the
            evaluator computes.
        names: Names of the classes.

    Examples:
        >>> from softoverlap.for_monai import FROCMetric
        >>> metric, engine = FROCMetric(per_class=True), Engine(lambda *_: 0)
        >>> scan = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.tensor([1])}
        >>> _ = metric([{**scan, "label_scores": torch.tensor([0.9])}], [scan])
        >>> ClassScores({"val_cpm": metric}, ["edema", "core"]).attach(engine)
        >>> engine.run([0]).metrics
        {'val_cpm_core': 1.0}
    """

    def __init__(self, metrics: Mapping[str, Any], names: Sequence[str]) -> None:
        self.metrics, self.names = dict(metrics), list(names)

    def attach(self, engine: Engine) -> None:
        """Let the scores be added after each of the engine's epochs."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Add the scores of the epoch that ends."""
        if len(self.names) < 2:
            return
        for metric, computed in self.metrics.items():
            for label, score in computed.details().per_class.items():
                known = isinstance(label, int) and label < len(self.names)
                name = self.names[label] if known else label
                engine.state.metrics[f"{metric}_{name}"] = float(getattr(score, "cpm", score))


def _is_other_rank() -> bool:
    """Whether another process writes."""
    return dist.is_available() and dist.is_initialized() and dist.get_rank() > 0
