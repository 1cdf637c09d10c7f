"""Where the time of a training step of the bundle goes, on phantoms and patches of 48³ voxels.

    python benchmarks/training_step.py

What counts is the share outside the network's forward pass, its backward pass and the optimiser:
loading, transforms, matching, losses and handlers.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command does

from _measure import arguments, store
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.engines.utils import IterationEvents

from softoverlap.bundles import LESION_DETECTION
from softoverlap.images import write_phantoms

SCANS, EPOCHS = 4, 2  # of twenty steps each; the first ones are left out
PARTS = ("data", "network", "matching and losses", "backward", "optimiser", "handlers")


class Clock:
    """Seconds of each part of each step."""

    def __init__(self, trainer: Any, network: Any, optimizer: Any) -> None:
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = {}
        marks = {
            "batch asked": Events.GET_BATCH_STARTED,
            "batch there": Events.GET_BATCH_COMPLETED,
            "losses": IterationEvents.LOSS_COMPLETED,
            "backward": IterationEvents.BACKWARD_COMPLETED,
        }
        for name, event in marks.items():
            trainer.add_event_handler(event, self.mark, name)
        network.register_forward_pre_hook(lambda *_: self.mark("network called"))
        network.register_forward_hook(lambda *_: self.mark("network done"))
        optimizer.register_step_pre_hook(lambda *_: self.mark("optimiser called"))
        optimizer.register_step_post_hook(lambda *_: self.mark("optimiser done"))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.end)

    def mark(self, *names: Any) -> None:
        """The moment of this name is now."""
        self.now[names[-1]] = time.perf_counter()

    def end(self) -> None:
        """Keep the parts of the step that is over."""
        now, end = self.now, time.perf_counter()
        total = end - now["batch asked"]
        parts = {
            "data": now["batch there"] - now["batch asked"],
            "network": now["network done"] - now["network called"],
            "matching and losses": now["losses"] - now["network done"],
            "backward": now["backward"] - now["losses"],
            "optimiser": now["optimiser done"] - now["optimiser called"],
        }
        self.steps.append({**parts, "handlers": total - sum(parts.values()), "step": total})


def main() -> None:
    device = arguments(__doc__ or "").device
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "scans", SCANS, seed=0)
        workflow = ConfigWorkflow(
            str(LESION_DETECTION / "configs" / "train.yaml"),
            logging_file=False,
            data_dir=str(Path(folder) / "scans"),
            output_dir=str(Path(folder) / "run"),
            validation=0,
            max_epochs=EPOCHS,
            tensorboard=False,
        )
        workflow.initialize()
        parsed = workflow.parser.get_parsed_content
        clock = Clock(workflow.trainer, parsed("network"), parsed("optimizer"))
        workflow.run()
    steps = clock.steps[4:]
    medians = {name: statistics.median(step[name] for step in steps) for name in (*PARTS, "step")}
    share = statistics.median(
        1 - (step["network"] + step["backward"] + step["optimiser"]) / step["step"]
        for step in steps
    )
    for name, seconds in medians.items():
        print(f"{name:>20}  {1000 * seconds:7.1f} ms  {seconds / medians['step']:6.1%}")
    print(f"outside the network and the optimiser: {share:.1%} of a step")
    figures = {"patches": 4, "patch": [48, 48, 48], "steps": len(steps)}
    store("training_step", device, {**figures, "median_seconds": medians, "share_outside": share})


if __name__ == "__main__":
    main()
