"""From a training folder to scans, and what the command says about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.cli.console import CountBar, print_evaluations, say

if TYPE_CHECKING:
    from softoverlap.data import Case, CaseTable
    from softoverlap.detection import LesionDetector, TrainingScan


def list_cases(table: CaseTable) -> None:
    """Print every case, and every file that could not be paired with the reason."""
    say(patients(table))
    for case in table.cases:
        mask = "mask" if case.mask else "no mask"
        say(f"  {case.name}: patient {case.patient}, {mask}, {len(case.raters)} raters")
    say(f"{len(table.unpaired)} files not paired")
    for file in table.unpaired:
        say(f"  {file.path}: {file.reason}")


def patients(table: CaseTable) -> str:
    """How many patients the cases are of, and how the first are called."""
    names = sorted({case.patient for case in table.cases})
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    end = f": {shown}; if that is wrong, name them in patients.csv" if names else ""
    return f"{len(table.cases)} cases of {len(names)} patients{end}"


def split(table: CaseTable, validation: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Cases to train on and to validate on."""
    from softoverlap.data import split_by_patient

    if not table.cases:
        raise ValueError("--data must hold at least one scan with a mask or raters, found none")
    if not validation:
        cases, held_out = list(table.cases), []
    else:
        try:
            cases, held_out = split_by_patient(table.cases, fraction=validation, seed=seed)
        except ValueError as error:
            raise ValueError(f"{error}, or pass --validation 0") from error
    unpaired = f"; {len(table.unpaired)} files not paired (see --dry-run)" if table.unpaired else ""
    say(patients(table))
    say(f"{len(cases)} scans to train on, {len(held_out)} to validate on{unpaired}")
    return cases, held_out


def free_checkpoint(output: Path, *, resume: bool, overwrite: bool) -> Path:
    """Where the checkpoint will be; one that is there is only taken where that is asked for."""
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists() and not (resume or overwrite):
        raise FileExistsError(
            f"{checkpoint} must not exist yet: pass --resume, --overwrite or another --output"
        )
    output.mkdir(parents=True, exist_ok=True)
    return checkpoint


def load(cases: list[Case]) -> list[TrainingScan]:
    """Read scans with their lesions."""
    from softoverlap.data import load_case
    from softoverlap.detection import training_scan

    with CountBar("reading", len(cases)) as bar:
        scans = []
        for case in cases:
            scans.append(training_scan(load_case(case)))
            bar(f"{case.name}, {len(scans[-1].lesions)} lesions")
    return scans


def validate(model: LesionDetector, cases: list[Case], output: Path) -> None:
    """Judge the detector on scans that it has not seen: a table, and `validation.json`."""
    from softoverlap.data import whole_file
    from softoverlap.detection import detect as find, evaluate, lesion_target

    scans = load(cases)
    found = [find(model, scan.image).prediction for scan in scans]
    result = evaluate(found, [lesion_target(scan.lesions) for scan in scans])
    print_evaluations({"validation": result})
    with whole_file(output / "validation.json") as unfinished:
        unfinished.write_text(json.dumps(result.summary, indent=1))
