"""Write, train, detect, judge, draw."""

from __future__ import annotations

import importlib
import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import monai
import torch

import softoverlap
from softoverlap.app.demo.baselines import Threshold, fit_threshold, judge, untrained
from softoverlap.app.demo.options import DemoOptions, claim
from softoverlap.app.demo.outputs import draw, write_page, write_tables
from softoverlap.app.train import (
    Evaluation,
    LesionDetector,
    Progress,
    TrainingScan,
    choose_threshold,
    detect_files,
    evaluate,
    keep_threshold,
    read_checkpoint,
    scan_target,
    train,
    training_scan,
)
from softoverlap.images import find_cases, load_case, whole_file, write_phantoms

UNSEEN, VALIDATION = 1_000_000, 2_000_000
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

    The score threshold of each is that of the highest F1 on validation phantoms, which are apart
    from those to train on and from those to judge by.

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
        >>> options = replace(options, train_scans=1, validation_scans=1, test_scans=1, overlays=0)
        >>> result = run_demo(tempfile.mkdtemp() + "/demo", options, device="cpu")
        >>> result.metrics["scans"]
        1
    """
    importlib.import_module("softoverlap.app.report")  # fails now, not after the training

    options, output = options or DemoOptions(), Path(output)
    claim(output, options, resume)
    checkpoint = output / "checkpoint.pt"
    count = options.train_scans + options.validation_scans + options.test_scans
    say(f"writing {count} phantoms to {output / 'phantoms'}")
    seen, validation, unseen = _phantoms(output / "phantoms", options)
    say(f"training on {sum(len(scan.lesions) for scan in seen)} lesions")
    model = train(
        seen, options.config, device=device, checkpoint=checkpoint,
        resume=resume, progress=progress,
    )  # fmt: skip
    model, _ = choose_threshold(model, validation)
    keep_threshold(checkpoint, model)
    say(f"detecting in {len(unseen)} unseen scans")
    paths = [case.image for case in find_cases(output / "phantoms" / "unseen").cases]
    results = detect_files(model, paths, output / "detections", overwrite=True)
    detections = [result.detections for result in results if result.detections is not None]
    say("comparing with an untrained network and with a threshold")
    threshold = fit_threshold(seen[:12])
    found, targets = [one.prediction for one in detections], [scan_target(one) for one in unseen]
    evaluations = {
        "trained": evaluate(found, targets, at=model.score_threshold),
        **{
            name: judge(find, unseen, _or_best(judge(find, validation).point.threshold))
            for name, find in (("untrained", untrained(model)), ("threshold", threshold.boxes))
        },
    }
    metrics = _metrics(options, evaluations, threshold, model, checkpoint)
    say(f"writing tables and pictures to {output}")
    write_tables(output, unseen, evaluations)
    draw(output, unseen, detections, evaluations, count=options.overlays)
    with whole_file(output / "metrics.json") as unfinished:
        unfinished.write_text(json.dumps(metrics, indent=1, allow_nan=False), encoding="utf-8")
    say(f"writing the page to {output / 'report.html'}")
    write_page(output, metrics)
    return DemoResult(evaluations, metrics)


def _or_best(threshold: float) -> float | str:
    """The threshold, or where no score gains anything, the best on the scans to judge by."""
    return threshold if math.isfinite(threshold) else "f1"


def _phantoms(folder: Path, options: DemoOptions) -> list[list[TrainingScan]]:
    """Write the scans to train on, to validate on and to judge by, and read them back."""
    parts = {
        "train": (options.train_scans, 0),
        "validation": (options.validation_scans, VALIDATION),
        "unseen": (options.test_scans, UNSEEN),
    }
    scans = []
    for part, (count, apart) in parts.items():
        write_phantoms(folder / part, count, options.seed + apart, shape=options.shape)
        cases, threshold = find_cases(folder / part).cases, options.config.mask_threshold
        scans.append([training_scan(load_case(case, threshold=threshold)) for case in cases])
    return scans


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
    reached, planned = read_checkpoint(checkpoint), options.config.steps
    training = {
        "scans": options.train_scans,
        "steps": reached["step"],
        "planned": planned,
        "stopped_by": "steps" if reached["step"] >= planned else "time",
        "seconds": reached["seconds"],
        "device": _device_name(model.device),
        "config": options.config.to_dict(),
    }
    versions = {module.__name__: module.__version__ for module in (softoverlap, torch, monai)}
    return {
        **evaluations["trained"].summary,
        "threshold_rule": model.threshold_rule,
        "seed": options.seed,
        "baselines": baselines,
        "training": training,
        "versions": {**versions, "python": platform.python_version()},
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
