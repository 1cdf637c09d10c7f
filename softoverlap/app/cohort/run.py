"""Score a cohort into a folder of results, so that a second run goes on where the first ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from softoverlap.app.cohort.cases import score_safely
from softoverlap.app.cohort.names import SUMMARY
from softoverlap.app.cohort.operating import SummarySettings
from softoverlap.app.cohort.outputs import check_outputs, inputs_of, write_outputs
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, ScoreSettings, case_files, case_key
from softoverlap.app.cohort.runners import Runner, serial
from softoverlap.app.cohort.store import Journal
from softoverlap.app.cohort.summary import conclude


@dataclass(frozen=True)
class CohortResult:
    """What scoring a cohort gave.

    Args:
        results: A result a case, in the order of the cases.
        summary: As `summary.json` has it.
        resumed: How many cases an earlier run had finished.

    Examples:
        >>> lost = CaseResult("a", [{"case": "a", "error": "no truth"}])
        >>> len(CohortResult([lost], {}, 0).failed)
        1
    """

    results: list[CaseResult]
    summary: dict[str, Any]
    resumed: int

    @property
    def failed(self) -> list[CaseResult]:
        """Cases that could not be scored."""
        return [result for result in self.results if result.error is not None]


def score_cohort(
    pairs: Iterable[ScorePair],
    output: str | os.PathLike[str],
    settings: ScoreSettings | None = None,
    *,
    options: SummarySettings | None = None,
    runner: Runner = serial,
    overwrite: bool = False,
    progress: Callable[[CaseResult], None] | None = None,
    report: Callable[[str], None] | None = None,
    start: Callable[[int], None] | None = None,
    inputs: Sequence[Path] = (),
) -> CohortResult:
    """Score all cases into a folder; each is kept as soon as it is finished.

    The folder holds `cases.csv`, `lesions.csv`, `boxes.csv` and `summary.json` at the end, and
    `scores.jsonl`, the journal, from the start. A run that was cut off is called again with the
    same arguments: cases in the journal are not scored again, unless they failed or their files
    changed. Other files or settings are refused.

    In a script, a runner with processes needs the guard `if __name__ == "__main__":`.

    Args:
        pairs: The cases, as of `find_pairs`.
        output: Folder of the results; it is made if need be.
        settings: How to score; the defaults if None.
        options: How to sum up; the defaults if None. Other options score no case again.
        runner: `serial`, `ProcessPool(workers)` or `DaskRunner(scheduler)`.
        overwrite: Replace the results of an earlier run, as soon as a first case is finished.
        progress: Called with each result as it is finished, earlier ones left out. If it raises,
            the run ends there; finished cases are kept.
        report: Called with words on what went wrong and was mended, such as a killed process.
        start: Called before the first case with the number of cases that are finished already.
        inputs: Other files that must not be written over, such as the table of the cases.

    Returns:
        The results and their summary.

    Raises:
        ValueError: If there is no case, two have one name, the folder holds results of other
            settings, files or versions, or an output would take the place of an input.
        FileExistsError: If the folder holds results without a journal.
        OSError: If the disk is full, or another run writes the folder; finished cases are kept.

    Examples:
        >>> import tempfile
        >>> pairs = [ScorePair("sub-01", None, (), "no prediction")]
        >>> score_cohort(pairs, tempfile.mkdtemp()).summary["n_failed"]
        1
    """
    settings, output = settings or ScoreSettings(), Path(output)
    pairs = [pair.absolute() for pair in pairs]
    names = [pair.case for pair in pairs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"pairs must hold cases of different names, got {len(names)} cases")
    check_outputs(output, [*inputs_of(pairs), *inputs], overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    with Journal(output, settings, overwrite=overwrite) as journal:
        files = {pair.case: case_files(pair) for pair in pairs}
        journal.check_files(files)
        if left := journal.others(names):
            shown = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
            (report or _nothing)(
                f"cases of earlier runs that are not among these stay in the journal and leave the "
                f"tables: {shown} ({len(left)} in all)"
            )
        keys = {pair.case: case_key(pair, settings) for pair in pairs}
        waiting = [pair for pair in pairs if not _is_finished(journal, pair, keys)]
        (start or _nothing)(len(pairs) - len(waiting))
        score = partial(score_safely, settings=settings)
        with contextlib.closing(runner(waiting, score, report or _nothing)) as coming:
            for result in coming:
                if overwrite:
                    (output / SUMMARY).unlink(missing_ok=True)  # the journal is another now
                journal.append(keys[result.case], result, files[result.case])
                (progress or _nothing)(result)
        results = [_known(journal, name, keys) for name in names]
        concluded = conclude(results, options, settings=settings)
        summary = _described(concluded.summary, settings)
        write_outputs(output, concluded.results, summary)
    return CohortResult(concluded.results, summary, len(pairs) - len(waiting))


def _is_finished(journal: Journal, pair: ScorePair, keys: dict[str, str]) -> bool:
    """Failed cases are tried again: the disk may be back, the memory free."""
    result = journal.finished(pair.case, keys[pair.case])
    return result is not None and result.error is None


def _known(journal: Journal, case: str, keys: dict[str, str]) -> CaseResult:
    result = journal.finished(case, keys[case])
    if result is None:
        raise RuntimeError(f"the runner must give a result for every case, got none for {case}")
    return result


def _described(summary: dict[str, Any], settings: ScoreSettings) -> dict[str, Any]:
    """The summary after what it was made with."""
    head = {"format": "softoverlap-summary", "version": version("softoverlap")}
    return {**head, "settings": settings.as_dict(), **summary}


def _nothing(_: object) -> None:
    """Nobody wants to know."""
