"""Write, train, detect, judge, draw."""

from __future__ import annotations

import importlib
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import monai
import torch

import softoverlap
from softoverlap.app.demo.baselines import Finder, Threshold, fit_threshold, judge, untrained
from softoverlap.app.demo.options import DemoOptions, claim
from softoverlap.app.demo.outputs import draw, write_page, write_tables
from softoverlap.app.demo.scans import DemoScans, write_plan, write_scans
from softoverlap.app.train import (
    Evaluation,
    LesionDetector,
    Progress,
    Trained,
    TrainingRun,
    detect_files,
    evaluate,
    pick_device,
    scan_target,
    training_config,
)
from softoverlap.images import find_cases, write_json

THRESHOLD_SCANS = 6
"""Scans that the plain threshold is fitted to: it has two numbers to learn."""


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demo found out.

    Args:
        evaluations: FROC and average precision by method, the trained detector first.
        metrics: What `metrics.json` holds.
    """

    evaluations: Mapping[str, Evaluation]
    metrics: Mapping[str, Any]


def run_demo(
    output: str | Path,
    options: DemoOptions | None = None,
    *,
    device: str | torch.device = "auto",
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[Progress], None] | None = None,
) -> DemoResult:
    """Train a detector on phantoms and judge it on unseen ones, beside two baselines.

    The detector is the bundle's, with a plan made of the scans to train on. The score threshold of
    each is that of the highest F1 on validation phantoms, which are apart from those to train on
    and from those to judge by.

    Args:
        output: Folder for everything. One of an earlier demo is replaced.
        options: Size of the demo; by default `DemoOptions()`.
        device: Where to train; see `pick_device`.
        resume: Go on from an interrupted demo with the same options.
        say: Called with a line before each part.
        progress: Called after every training step.

    Returns:
        The evaluations and the metrics.

    Raises:
        ImportError: If matplotlib is missing; before anything is trained.
        FileExistsError: If the folder holds something else than a demo.

    Examples:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> options = DemoOptions.fast().with_training(steps=1, channels=[8, 8, 8])
        >>> options = replace(options, train_scans=1, validation_scans=1, test_scans=1, overlays=0)
        >>> result = run_demo(tempfile.mkdtemp() + "/demo", options, device="cpu")
        >>> result.metrics["scans"]
        1
    """
    importlib.import_module("softoverlap.app.report")  # fails now, not after the training

    options, output = options or DemoOptions(), Path(output)
    device = pick_device(device)
    training_config(output / "phantoms", output, settings=options.training)  # and so do slips
    claim(output, options, resume)
    count = options.train_scans + options.validation_scans + options.test_scans
    say(f"writing {count} phantoms to {output / 'phantoms'}")
    scans = write_scans(output / "phantoms", options)
    trained = _train(output, options, scans, device, resume, say, progress)
    say(f"detecting in {len(scans.unseen)} unseen scans")
    model, paths = trained.model, [case.image for case in find_cases(_unseen(output)).cases]
    results = detect_files(model, paths, output / "detections", overwrite=True)
    detections = [result.detections for result in results if result.detections is not None]
    say("comparing with an untrained network and with a threshold")
    targets = [scan_target(scan) for scan in scans.unseen]
    threshold = fit_threshold(scans.seen[:THRESHOLD_SCANS])
    baselines = {"untrained": untrained(model, options.seed), "threshold": threshold.boxes}
    evaluations = {
        "trained": evaluate([one.prediction for one in detections], targets, at=_at(model)),
        **{name: _baseline(find, scans) for name, find in baselines.items()},
    }
    metrics = _metrics(options, evaluations, threshold, trained)
    say(f"writing tables and pictures to {output}")
    write_tables(output, scans.unseen, evaluations)
    draw(output, scans.unseen, detections, evaluations, count=options.overlays)
    write_json(output / "metrics.json", metrics)
    say(f"writing the page to {output / 'report.html'}")
    write_page(output, metrics)
    return DemoResult(evaluations, metrics)


def _train(
    output: Path,
    options: DemoOptions,
    scans: DemoScans,
    device: torch.device,
    resume: bool,
    say: Callable[[str], None],
    progress: Callable[[Progress], None] | None,
) -> Trained:
    """Plan and train, or go on with the training that is there."""
    plan = output / "plan.json" if options.planned else None
    if plan is not None:
        say(f"planning anchors, patches and sampling: {plan}")
        write_plan(plan, scans.seen)
    run = TrainingRun(scans.folder, output, plan=plan, settings=options.training, device=device)
    going_on = resume and run.folder.there() is not None
    run.claim(resume=going_on, overwrite=not going_on)
    if not run.is_finished():
        say(f"training on {sum(len(scan.lesions) for scan in scans.seen)} lesions")
        run.check()
        run.fit(progress)
    say(f"choosing the score threshold on {len(scans.validation)} scans")
    return run.judge()


def _unseen(output: Path) -> Path:
    return output / "phantoms" / "unseen"


def _at(model: LesionDetector) -> float | str:
    """The score threshold of the training."""
    return "f1" if model.score_threshold is None else float(model.score_threshold)


def _baseline(find: Finder, scans: DemoScans) -> Evaluation:
    """A baseline on the unseen scans, at the threshold that the validation scans choose."""
    chosen = judge(find, scans.validation).point.threshold
    return judge(find, scans.unseen, _or_best(chosen))


def _or_best(threshold: float) -> float | str:
    """The threshold, or where no score gains anything, the best on the scans to judge by."""
    return threshold if math.isfinite(threshold) else "f1"


def _metrics(
    options: DemoOptions,
    evaluations: Mapping[str, Evaluation],
    threshold: Threshold,
    trained: Trained,
) -> dict[str, Any]:
    """Everything that `metrics.json` holds."""
    baselines = {
        "untrained": evaluations["untrained"].summary,
        "threshold": {**evaluations["threshold"].summary, **asdict(threshold)},
    }
    training = {
        "scans": options.train_scans,
        **trained.training,
        "device": _device_name(trained.model.device),
        "planned_anchors": options.planned,
        "settings": {**options.training, **trained.model.settings},
    }
    versions = {module.__name__: module.__version__ for module in (softoverlap, torch, monai)}
    return {
        **evaluations["trained"].summary,
        "threshold_rule": trained.model.threshold_rule,
        "seed": options.seed,
        "baselines": baselines,
        "training": training,
        "versions": {**versions, "python": platform.python_version()},
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
