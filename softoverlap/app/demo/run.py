"""Write, train, detect, judge, draw."""

from __future__ import annotations

import importlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import monai
import torch

import softoverlap
from softoverlap.app.demo.baselines import Threshold, fit_threshold, untrained
from softoverlap.app.demo.options import DemoOptions, claim
from softoverlap.app.demo.outputs import draw, write_page, write_tables
from softoverlap.app.train import (
    Evaluation,
    LesionDetector,
    Progress,
    TrainingScan,
    detect_files,
    evaluate,
    train,
    training_scan,
)
from softoverlap.app.train.checkpoint import read_checkpoint
from softoverlap.for_monai import lesion_target
from softoverlap.images import find_cases, load_case, whole_file, write_phantoms

UNSEEN = 1_000_000
"""Added to the seed for the scans that judge: another panel of raters, other scans."""


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
        >>> options = DemoOptions.fast().with_training(steps=1)
        >>> options = replace(options, train_scans=1, test_scans=1, overlays=0)
        >>> result = run_demo(tempfile.mkdtemp() + "/demo", options, device="cpu")
        >>> result.metrics["scans"]
        1
    """
    importlib.import_module("softoverlap.app.report")  # fails now, not after the training

    options, output = options or DemoOptions(), Path(output)
    claim(output, options, resume)
    checkpoint = output / "checkpoint.pt"
    say(f"writing {options.train_scans} + {options.test_scans} phantoms to {output / 'phantoms'}")
    seen, unseen = _phantoms(output / "phantoms", options)
    say(f"training on {sum(len(scan.lesions) for scan in seen)} lesions")
    model = train(
        seen, options.config, device=device, checkpoint=checkpoint,
        resume=resume, progress=progress,
    )  # fmt: skip
    say(f"detecting in {len(unseen)} unseen scans")
    paths = [case.image for case in find_cases(output / "phantoms" / "unseen").cases]
    results = detect_files(model, paths, output / "detections", overwrite=True)
    detections = [result.found for result in results if result.found is not None]
    say("comparing with an untrained network and with a threshold")
    targets = [lesion_target(scan.lesions) for scan in unseen]
    threshold = fit_threshold(seen[:12])
    evaluations = {
        "trained": evaluate([detected.prediction for detected in detections], targets),
        "untrained": evaluate(untrained(model, unseen), targets),
        "threshold": evaluate([threshold.boxes(scan) for scan in unseen], targets),
    }
    metrics = _metrics(options, evaluations, threshold, model, checkpoint)
    say(f"writing tables and pictures to {output}")
    write_tables(output, unseen, evaluations)
    draw(output, unseen, detections, evaluations, count=options.overlays)
    with whole_file(output / "metrics.json") as unfinished:
        unfinished.write_text(json.dumps(metrics, indent=1, allow_nan=False), encoding="utf-8")
    say(f"writing the page to {output / 'report.html'}")
    write_page(output)
    return DemoResult(evaluations, metrics)


def _phantoms(folder: Path, options: DemoOptions) -> tuple[list[TrainingScan], list[TrainingScan]]:
    """Write the scans to train on and the unseen ones, and read them back."""
    write_phantoms(folder / "train", options.train_scans, options.seed, shape=options.shape)
    unseen_seed = options.seed + UNSEEN
    write_phantoms(folder / "unseen", options.test_scans, unseen_seed, shape=options.shape)
    train_cases, unseen_cases = (find_cases(folder / part).cases for part in ("train", "unseen"))
    return (
        [training_scan(load_case(case)) for case in train_cases],
        [training_scan(load_case(case)) for case in unseen_cases],
    )


def _metrics(
    options: DemoOptions,
    evaluations: Mapping[str, Evaluation],
    threshold: Threshold,
    model: LesionDetector,
    checkpoint: Path,
) -> dict[str, Any]:
    """Everything that `metrics.json` holds."""
    baselines = {
        "untrained": evaluations["untrained"].summary,
        "threshold": {**evaluations["threshold"].summary, **asdict(threshold)},
    }
    reached = read_checkpoint(checkpoint)
    training = {
        "scans": options.train_scans,
        "steps": reached["step"],
        "seconds": reached["seconds"],
        "device": _device_name(model.device),
        "config": options.config.to_dict(),
    }
    versions = {module.__name__: module.__version__ for module in (softoverlap, torch, monai)}
    return {
        **evaluations["trained"].summary,
        "seed": options.seed,
        "baselines": baselines,
        "training": training,
        "versions": {**versions, "python": platform.python_version()},
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
