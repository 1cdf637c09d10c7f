"""From cases to scans, checkpoints and thresholds, and what commands print about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.app.cli.console import CountBar, plural, print_evaluations, say
from softoverlap.app.cli.data_sets import no_lesion, read_case

if TYPE_CHECKING:
    from softoverlap.app.train import (
        Detections,
        Evaluation,
        LesionDetector,
        TrainingConfig,
        TrainingScan,
    )
    from softoverlap.images import Case


MOST_JUDGES = 20
"""Training scans on which a threshold is chosen where no scan is held out."""


def check_folder(output: Path) -> None:
    """The output is a folder, or does not exist yet."""
    for path in (output, *output.parents):
        if path.exists():
            if not path.is_dir():
                raise NotADirectoryError(f"--output must be a folder, got the file {path}")
            return


def check_checkpoint(path: Path) -> None:
    """It is not a scan: the order of the arguments is easily mistaken."""
    from softoverlap.images import is_image_name

    if is_image_name(path):
        raise ValueError(f"CHECKPOINT must be a file of `softoverlap train`, got the scan {path}")


def limit_boxes(models: list[LesionDetector], score: float | None, most: int) -> None:
    """Set the lowest score and the number of boxes; None keeps the score of the training."""
    for model in models:
        model.detector.set_box_selector_parameters(
            score_thresh=model.settings["lowest_score"] if score is None else score,
            nms_thresh=model.settings["nms_threshold"],
            detections_per_img=most,
        )


def found_boxes(detections: Detections | None) -> str:
    """How many boxes were found, and how many of them are candidates alone."""
    if detections is None:
        return "no boxes"
    count, above = len(detections.box), int(detections.above.sum())
    if detections.score_threshold is None:
        return _boxes(count)
    level = f"at or above {detections.score_threshold:.4g}"
    return f"{_boxes(above)} {level}, {plural(count - above, 'candidate')} below"


def _boxes(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"


def free_checkpoint(output: Path, *, resume: bool, overwrite: bool) -> Path:
    """The path of the checkpoint; an existing one needs `resume` or `overwrite`."""
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other, got both")
    check_folder(output)
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists() and not (resume or overwrite):
        raise FileExistsError(
            f"{checkpoint} must not exist yet: pass --resume, --overwrite or another --output"
        )
    if resume and not checkpoint.exists():
        raise FileNotFoundError(
            f"--resume needs {checkpoint}, found none: leave it out to start anew"
        )
    return checkpoint


def threshold_or_rule(at_score: str) -> float | str:
    """How to choose the score threshold, checked."""
    from softoverlap._checks import refusal
    from softoverlap.measures import operating_rule

    try:
        at = operating_rule(at_score)
    except ValueError as error:
        raise refusal("at_score", str(error).removeprefix("at ")) from error
    assert at is not None  # as only None is
    return at


def is_judged(checkpoint: Path, at: float | str, validation: Path | None) -> bool:
    """Whether the threshold was chosen in this way, and the results of validation are there."""
    from softoverlap.app.train import read_checkpoint

    values = read_checkpoint(checkpoint)
    rule = values.get("threshold_rule") or ""
    given = rule == "given" and values.get("score_threshold") == at
    return (given or rule.startswith(f"{at} on ")) and (validation is None or validation.exists())


def is_finished(checkpoint: Path, config: TrainingConfig, names: list[str]) -> bool:
    """Whether the training to resume is finished; it must fit settings and scans."""
    from softoverlap.app.train import resumable

    values = resumable(checkpoint, config, names)
    minutes, step = values["seconds"] / 60, values["step"]
    if step < config.steps and (config.max_minutes is None or minutes < config.max_minutes):
        return False
    say(f"already {step}/{config.steps} steps in {minutes:.1f} minutes: pass more to continue")
    return True


def opened(case: Case, config: TrainingConfig) -> tuple[TrainingScan | None, list[str]]:
    """The scan with its lesions and notes about it, or None and the error."""
    from softoverlap.app.train import training_scan

    loaded, notes = read_case(case, config)
    try:
        return (None if loaded is None else training_scan(loaded)), notes
    except ValueError as error:
        return None, [str(error)]


def load(cases: list[Case], config: TrainingConfig) -> list[TrainingScan]:
    """Read scans with their lesions; the error comes after all bad scans are named."""
    scans = []
    with CountBar("reading", len(cases)) as bar:
        for case in cases:
            scan, notes = opened(case, config)
            bar(f"{case.name}, {plural(len(scan.lesions), 'lesion') if scan else 'failed'}")
            for note in notes:
                say(f"{'warning' if scan else 'failed'}: {note}")
            scans += [scan] if scan else []
    if len(scans) < len(cases):
        raise ValueError(
            f"{len(cases) - len(scans)} of {plural(len(cases), 'case')} cannot be used, see above"
        )
    return scans


def check_lesions(scans: list[TrainingScan], config: TrainingConfig) -> None:
    """Print the number of lesions to learn; none is an error."""
    lesions = sum(len(scan.lesions) for scan in scans)
    if not lesions:
        raise ValueError(no_lesion(len(scans), config))
    say(f"{plural(lesions, 'lesion')} in {plural(len(scans), 'scan')} to train on")


def validate(
    model: LesionDetector, scans: list[TrainingScan], unseen: list[TrainingScan], at: float | str
) -> tuple[LesionDetector, Evaluation]:
    """Choose the score threshold on unseen scans, without any on some that were trained on."""
    from softoverlap.app.train import choose_threshold

    judges, kind = (unseen, "validation") if unseen else (scans[:MOST_JUDGES], "training")
    with CountBar("choosing the threshold", len(judges), quiet=True) as bar:
        model, result = choose_threshold(model, judges, at, kind=kind, progress=bar)
    rule, threshold = model.threshold_rule, model.score_threshold
    if threshold is None:
        say(f"score threshold: none, since no box hits a lesion ({rule})")
    else:
        say(f"score threshold: {threshold:.4g} ({rule})")
    return model, result


def write_validation(output: Path, result: Evaluation) -> None:
    """Print a table, write `validation.json`."""
    from softoverlap.images import write_json

    print_evaluations({"validation": result})
    write_json(output / "validation.json", result.summary)
