"""How good a training's checkpoint is, by the bundle's own evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.handlers import from_engine

from softoverlap.app.train.configuration import follow, own_errors
from softoverlap.app.train.evaluation import Evaluation, evaluate
from softoverlap.app.train.folder import RunFolder

MOST_JUDGES = 20
"""Training scans on which a threshold is chosen where no scan is held out."""


def judge(
    folder: RunFolder, data: Path, device: str, at: float | int | str, *, held_out: bool
) -> tuple[Evaluation, int]:
    """Find the lesions of the scans held out, or without any of some training scans.

    Args:
        folder: The training's folder, with its checkpoint; `evaluation/` in it is written.
        data: The folder of the scans.
        device: The device, as the configuration has it.
        at: Where the operating point lies, as `evaluate` takes it.
        held_out: Whether scans were held out.

    Returns:
        How good the detector is, and the number of scans.
    """
    settings: dict[str, Any] = {
        "checkpoint": str(folder.checkpoint), "output_dir": str(folder.path),
        "device": device, "data_dir": str(data),
    }  # fmt: skip
    if not held_out:
        settings |= {"part": "train", "folds": None, "fold": None, "validation": 0.0}
        settings["validate#dataset#data"] = f"$@validate#data[:{MOST_JUDGES}]"
    parser = follow(folder.config, "evaluate.yaml", settings)
    predictions: list[Any] = []
    targets: list[Any] = []

    def collect(engine: Any) -> None:
        found, truth = from_engine(["pred", "label"])(engine.state.output)
        predictions.extend(found)
        targets.extend(truth)

    with folder.logged(), own_errors():
        parser.parse()
        parser.get_parsed_content("initialize")
        evaluator = parser.get_parsed_content("validate#evaluator")
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, collect)
        parser.get_parsed_content("run")
        names = parser.get_parsed_content("class_names")
    result = evaluate(predictions, targets, at=at, class_names=names)
    return result, len(predictions)
