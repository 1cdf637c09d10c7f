"""From a training folder to scans, and what the command says about them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.app.cli.console import CountBar, plural, print_evaluations, say

if TYPE_CHECKING:
    from softoverlap.app.train import LesionDetector, TrainingConfig, TrainingScan
    from softoverlap.images import Case, CaseTable


def list_cases(table: CaseTable, threshold: float) -> bool:
    """Open every case and print what is in it, and every file that could not be paired.

    Returns:
        Whether all cases can be used and there is a lesion to learn.
    """
    lines, bad, lesions = [], 0, 0
    with CountBar("reading", len(table.cases), quiet=True) as bar:
        for case in table.cases:
            scan, notes = opened(case, threshold)
            bar(case.name)
            lines += [_line(case, scan), *(f"    {note}" for note in notes)]
            bad += scan is None
            lesions += 0 if scan is None else len(scan.lesions)
    say(patients(table))
    for line in lines:
        say(line)
    say(f"{plural(lesions, 'lesion')} at --threshold {threshold:g}")
    say(f"{plural(len(table.unpaired), 'file')} not paired")
    for file in table.unpaired:
        say(f"  {file.path}: {file.reason}")
    if bad:
        say(f"{bad} of {plural(len(table.cases), 'case')} cannot be used")
    elif not lesions:
        say(no_lesion(len(table.cases), threshold))
    return not bad and lesions > 0


def _line(case: Case, scan: TrainingScan | None) -> str:
    """A case of the dry run."""
    mask = "mask" if case.mask else "no mask"
    files = f"  {case.name}: patient {case.patient}, {mask}, {plural(len(case.raters), 'rater')}"
    if scan is None:
        return f"{files}, CANNOT BE USED:"
    shape = " x ".join(map(str, scan.image.data.shape))
    spacing = " x ".join(f"{edge:.3g}" for edge in scan.image.spacing)
    return f"{files}, {shape} voxels of {spacing} mm, {plural(len(scan.lesions), 'lesion')}"


def no_lesion(scans: int, threshold: float) -> str:
    """Why there is nothing to learn."""
    return (
        f"train needs at least one lesion in {plural(scans, 'scan')}, found none at --threshold "
        f"{threshold:g}; every mask is empty or one of those named above"
    )


def patients(table: CaseTable) -> str:
    """How many patients the cases are of, and how the first are called."""
    names = sorted({case.patient for case in table.cases})
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    end = f": {shown}; if that is wrong, name them in patients.csv" if names else ""
    return f"{plural(len(table.cases), 'case')} of {plural(len(names), 'patient')}{end}"


def split(table: CaseTable, validation: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Cases to train on and to validate on."""
    from softoverlap.images import split_by_patient

    if not table.cases:
        raise ValueError("--data must hold at least one scan with a mask or raters, found none")
    if not validation:
        cases, held_out = list(table.cases), []
    else:
        try:
            cases, held_out = split_by_patient(table.cases, fraction=validation, seed=seed)
        except ValueError as error:
            raise ValueError(f"{error}, or pass --validation 0") from error
    left = plural(len(table.unpaired), "file")
    unpaired = f"; {left} not paired (see --dry-run)" if table.unpaired else ""
    say(patients(table))
    say(f"{plural(len(cases), 'scan')} to train on, {len(held_out)} to validate on{unpaired}")
    return cases, held_out


def check_folder(output: Path) -> None:
    """Results can go there: it is a folder, or nothing yet."""
    for path in (output, *output.parents):
        if path.exists():
            if not path.is_dir():
                raise NotADirectoryError(f"--output must be a folder, got the file {path}")
            return


def check_checkpoint(path: Path) -> None:
    """It is no scan: the order of arguments is easily mistaken."""
    from softoverlap.images import is_image_name

    if is_image_name(path):
        raise ValueError(f"CHECKPOINT must be a file of `softoverlap train`, got the scan {path}")


def limit_boxes(model: LesionDetector, score: float | None, most: int) -> None:
    """Set the least score and the number of boxes; None leaves the score of the training."""
    model.detector.set_box_selector_parameters(
        score_thresh=model.config.score_threshold if score is None else score,
        nms_thresh=model.config.nms_threshold,
        detections_per_img=most,
    )


def free_checkpoint(output: Path, *, resume: bool, overwrite: bool) -> Path:
    """Where the checkpoint will be; one that is there is only taken where that is asked for."""
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other, got both")
    check_folder(output)
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists() and not (resume or overwrite):
        raise FileExistsError(
            f"{checkpoint} must not exist yet: pass --resume, --overwrite or another --output"
        )
    if resume and not checkpoint.exists():
        raise FileNotFoundError(f"--resume needs {checkpoint}, found none: leave it out to start")
    return checkpoint


def is_finished(checkpoint: Path, config: TrainingConfig, names: list[str]) -> bool:
    """Whether the checkpoint to resume has nothing left to do; it must fit settings and scans."""
    from softoverlap.app.train.training import resumable

    values = resumable(checkpoint, config, names)
    minutes, step = values["seconds"] / 60, values["step"]
    if step < config.steps and (config.max_minutes is None or minutes < config.max_minutes):
        return False
    say(f"already {step}/{config.steps} steps in {minutes:.1f} minutes: pass more to go on")
    return True


def opened(case: Case, threshold: float) -> tuple[TrainingScan | None, list[str]]:
    """The scan with its lesions, or None, and what is wrong or doubtful about it."""
    from softoverlap.app.train import training_scan
    from softoverlap.images import load_case

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            scan = training_scan(load_case(case, threshold=threshold))
        except (ValueError, OSError) as error:
            return None, [str(error)]
    return scan, [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


def load(cases: list[Case], threshold: float) -> list[TrainingScan]:
    """Read scans with their lesions; all that cannot be read are named before that is an error."""
    scans = []
    with CountBar("reading", len(cases)) as bar:
        for case in cases:
            scan, notes = opened(case, threshold)
            bar(f"{case.name}, {plural(len(scan.lesions), 'lesion') if scan else 'failed'}")
            for note in notes:
                say(f"{'warning' if scan else 'failed'}: {note}")
            scans += [scan] if scan else []
    if len(scans) < len(cases):
        raise ValueError(
            f"{len(cases) - len(scans)} of {plural(len(cases), 'case')} cannot be used, see above"
        )
    return scans


def check_lesions(scans: list[TrainingScan], threshold: float) -> None:
    """Say how many lesions there are to learn; none is an error."""
    lesions = sum(len(scan.lesions) for scan in scans)
    if not lesions:
        raise ValueError(no_lesion(len(scans), threshold))
    say(f"{plural(lesions, 'lesion')} in {plural(len(scans), 'scan')} to train on")


def validate(model: LesionDetector, scans: list[TrainingScan], output: Path) -> None:
    """Judge the detector on scans that it has not seen: a table, and `validation.json`."""
    from softoverlap.app.train import detect as find, evaluate
    from softoverlap.for_monai import lesion_target
    from softoverlap.images import whole_file

    found = []
    with CountBar("validating", len(scans), quiet=True) as bar:
        for scan in scans:
            found.append(find(model, scan.image).prediction)
            bar(scan.name)
    result = evaluate(found, [lesion_target(scan.lesions) for scan in scans])
    print_evaluations({"validation": result})
    with whole_file(output / "validation.json") as unfinished:
        unfinished.write_text(json.dumps(result.summary, indent=1), encoding="utf-8")
