"""The commands `demo` and `phantoms`.

What takes seconds to import is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.cases import check_folder
from softoverlap.app.cli.console import (
    CountBar,
    TrainingBar,
    clock,
    one_line_errors,
    plural,
    print_evaluations,
    say,
)
from softoverlap.app.cli.interrupts import stop_if_interrupted
from softoverlap.app.cli.options import Device, Resume, Seed


@app.command()
@one_line_errors
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/demo"),
    seed: Seed = 0,
    minutes: Annotated[float, typer.Option(help="Longest training time.")] = 4.0,
    fast: Annotated[
        bool, typer.Option("--fast", help="Few scans and steps: a quick check, not a result.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimizer.")] = None,
    patch: Annotated[int | None, typer.Option(help="Edge of a patch, a multiple of 8.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches per step.")] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train and test on simulated scans, in up to eight minutes on two cores.

    Writes simulated scans (phantoms) as NIfTI, plans and trains on some as
    `softoverlap plan` and `softoverlap train` do, chooses the score threshold on
    others, finds lesions in unseen ones, and compares with an untrained network and
    an intensity threshold.
    All files are in the output folder; they replace those of an earlier demo. The
    same seed and options give the same results:

    report.html, results/               the report page, and its data
    metrics.json, froc.csv, froc.png    how well lesions were found
    detections.csv, lesions.csv         all boxes and all lesions
    overlays/                           soft contours, true and predicted boxes
    detections/                         boxes for 3D Slicer, heat maps as NIfTI
    phantoms/, plan.json                the simulated scans, and the plan of anchors
    checkpoint.pt, curve.csv            the detector, and how its training went

    All figures are those of `softoverlap score`, here, in metrics.json and on the
    page: a box hits a lesion if the IoU of their boxes is at least 0.1, and a lesion
    counts by the share of raters that marked it (in average precision each counts
    1). Where time ended the training before its last step, that is said.

    softoverlap demo
    softoverlap demo --seed 1 --output runs/demo1
    softoverlap demo --device cuda --patch 96 --output runs/demo_gpu
    """
    from softoverlap.app.demo import DemoOptions, run_demo

    check_folder(output)
    options = DemoOptions.fast(seed) if fast else DemoOptions(seed=seed)
    options = options.with_training(
        minutes=minutes, steps=steps, patch_size=patch and [patch] * 3, batch_size=batch
    )

    def tell(part: str) -> None:
        stop_if_interrupted()
        say(part)

    with TrainingBar() as bar:
        result = run_demo(output, options, device=device, resume=resume, say=tell, progress=bar)
    print_evaluations(result.evaluations)
    if fast:
        say("--fast: a quick check, not a result")
    say(f"{_trained(result.metrics['training'])}; all in {output}")
    say(f"open {output / 'report.html'} in a browser")


def _trained(training: Mapping[str, Any]) -> str:
    """How far the training came, and what ended it."""
    steps = f"{training['steps']} of {training['planned']} steps"
    seconds = clock(training["seconds"])
    if training["stopped_by"] == "steps":
        return f"trained {steps} in {seconds}"
    by = "--minutes" if training["stopped_by"] == "minutes" else training["stopped_by"]
    return f"stopped by {by} at {steps}, after {seconds}"


@app.command()
@one_line_errors
def phantoms(
    output: Annotated[Path, typer.Option(help="Folder for the scans, with the layout of `train`.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scans.")] = 8,
    seed: Seed = 0,
) -> None:
    """Write simulated scans with soft masks and raters, to train on or to look at.

    The same seed gives the same scans. Incomplete cases in the folder are written
    again. A folder with phantoms of other settings is an error. Ctrl-C keeps
    the finished cases, and the same command continues with the others.

    softoverlap phantoms --output phantoms --count 8
    softoverlap train --data phantoms --dry-run
    """
    from softoverlap.images import write_phantoms

    check_folder(output)
    with CountBar("phantom", count, quiet=True) as bar:
        write_phantoms(output, count, seed, progress=bar)
    say(f"{plural(count, 'phantom')} in {output}")
