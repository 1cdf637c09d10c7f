"""The curves of growth that take a cohort on disk: journal, summing up, page, processes.

The application is imported where it is called, which keeps the processes of other curves short.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from _curves import Curve, Run, pair

if TYPE_CHECKING:
    from softoverlap.app.cohort import CaseResult, Runner, ScorePair

SCORED = 8  # different cases, whose results stand for all
SHARED = 24  # scans that the workers share


def write_pair(folder: Path, case: str, side: int, count: int) -> ScorePair:
    """The compressed files of a case."""
    from softoverlap.app.cohort import ScorePair
    from softoverlap.images import save_nifti

    paths = [folder / name / f"{case}.nii.gz" for name in ("pred", "truth")]
    for path, mask in zip(paths, pair(side, count), strict=True):
        path.parent.mkdir(exist_ok=True)
        save_nifti(path, mask[0, 0], torch.eye(4))
    return ScorePair(case, paths[0], (paths[1],))


def scored(folder: Path, scans: int) -> tuple[list[ScorePair], Runner]:
    """Cases, and a runner that has their results already: only the cohort's part is left."""
    from softoverlap.app.cohort import score_case

    pairs = [write_pair(folder, f"sub-{number:04d}", 12, 1) for number in range(scans)]
    seen = Path(tempfile.mkdtemp(dir=folder))
    results = [score_case(write_pair(seen, f"case-{n}", 48, 1 + n)) for n in range(SCORED)]

    def runner(waiting: Sequence[ScorePair], score: Any, report: Callable[[str], None]) -> Any:
        for number, one in enumerate(waiting):
            yield renamed(results[number % SCORED], one.case, number)

    return pairs, runner


def renamed(result: CaseResult, case: str, number: int) -> CaseResult:
    """The result under another name, its scores a little different."""
    parts = {
        name: [row | {"case": case} if "case" in row else row for row in getattr(result, name)]
        for name in ("rows", "lesions", "matches", "statistics")
    }
    for row in parts["rows"]:
        row["soft_dice"] *= 1 - 1e-5 * number
    return replace(result, case=case, **parts)


def stored(scans: int) -> Run:
    """From the results of every case: journal, tables and summary, into a new folder each time."""
    from softoverlap.app.cohort import score_cohort

    folder = tempfile.TemporaryDirectory()
    pairs, runner = scored(Path(folder.name), scans)
    outputs = (Path(folder.name) / f"results-{number}" for number in itertools.count())
    return lambda: score_cohort(pairs, next(outputs), runner=runner)


def continued(scans: int) -> Run:
    """A run whose cases are all in the journal."""
    from softoverlap.app.cohort import score_cohort

    folder = tempfile.TemporaryDirectory()
    pairs, runner = scored(Path(folder.name), scans)
    output = Path(folder.name) / "results"
    score_cohort(pairs, output, runner=runner)

    def run() -> None:
        if score_cohort(pairs, output, runner=runner).resumed != scans:
            raise RuntimeError(f"cases of {folder.name} were scored again")

    return run


def page(scans: int) -> Run:
    """The report, with its pictures of the worst cases."""
    from softoverlap.app.cohort import score_cohort
    from softoverlap.app.report import write_report

    folder = tempfile.TemporaryDirectory()
    pairs, runner = scored(Path(folder.name), scans)
    score_cohort(pairs, Path(folder.name) / "results", runner=runner)
    return lambda: write_report(Path(folder.name) / "results", overwrite=True)


def shared(workers: int) -> Run:
    """The same scans by so many processes, their start included."""
    from softoverlap.app.cohort import ProcessPool, score_cohort

    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name)
    pairs = [write_pair(path, f"sub-{number:04d}", 128, 20) for number in range(SHARED)]
    outputs = (path / f"results-{number}" for number in itertools.count())
    return lambda: score_cohort(pairs, next(outputs), runner=ProcessPool(workers))


CURVES = {
    "score: journal, tables, summary": Curve("scans", stored),
    "score: continue from the journal": Curve("scans", continued),
    "report: the page": Curve("scans", page),
    f"score: {SHARED} scans of 128³": Curve("workers", shared, "1/n", None),
}
