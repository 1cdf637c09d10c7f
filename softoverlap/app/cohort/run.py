"""Score a cohort into a folder of results; a second run continues where the first stopped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from softoverlap import __version__
from softoverlap.app.cohort.cases import score_safely
from softoverlap.app.cohort.names import SUMMARY
from softoverlap.app.cohort.operating import SummarySettings
from softoverlap.app.cohort.outputs import check_outputs, inputs_of, write_outputs
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import CaseResult, ScoreSettings, case_files, case_key
from softoverlap.app.cohort.runners import Runner, serial
from softoverlap.app.cohort.store import Journal
from softoverlap.app.cohort.summary import conclude
from softoverlap.images import current_limits


@dataclass(frozen=True)
class CohortResult:
    """The result of scoring a cohort.

    Args:
        results: One result per case, in the order of the cases.
        summary: The content of `summary.json`.
        resumed: Number of cases that an earlier run had finished.

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
    words: Callable[[str], str] = str,
) -> CohortResult:
    """Score all cases into a folder; each result is saved as soon as it is finished.

    The journal, `scores.jsonl`, is written from the start; `cases.csv`, `lesions.csv`, `boxes.csv`
    and `summary.json` are written at the end. To continue an interrupted run, call this function
    again with the same arguments: cases in the journal are not scored again, unless they failed or
    their files changed. Other files or settings are an error.

    In a script, a runner that starts processes needs the guard `if __name__ == "__main__":`.

    Args:
        pairs: The cases, for example from `find_pairs`.
        output: Folder for the results; created if it does not exist.
        settings: How to score; the defaults if None.
        options: How to sum up; the defaults if None. Other options score no case again.
        runner: `serial`, `ProcessPool(workers)` or `DaskRunner(scheduler)`.
        overwrite: Replace the results of an earlier run, as soon as the first case is finished.
        progress: Called with each new result. If it raises, the run ends there; finished cases are
            kept.
        report: Called with a message about each problem that was solved, such as a killed process.
        start: Called before the first case with the number of cases that are already finished.
        inputs: Other files that must not be overwritten, such as the table of the cases.
        words: Called with each error and warning, for the words of `cases.csv` and of the result;
            the command line puts its options for arguments. The journal keeps what it was given.

    Returns:
        The results and their summary.

    Raises:
        ValueError: If there is no case, two cases have the same name, the folder holds results of
            other settings, files, columns or versions, or an output would replace an input.
        FileExistsError: If the folder holds results without a journal.
        OSError: If the disk is full, or another run is writing to the folder; finished cases are
            kept.

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
                "the journal keeps cases of earlier runs that are not in this one, the tables do "
                f"not: {shown} ({len(left)} in all)"
            )
        keys = {pair.case: case_key(pair, settings) for pair in pairs}
        waiting = [pair for pair in pairs if not _is_finished(journal, pair, keys)]
        (start or _nothing)(len(pairs) - len(waiting))
        score = partial(score_safely, settings=settings, limits=current_limits())
        with contextlib.closing(runner(waiting, score, report or _nothing)) as coming:
            for result in coming:
                if overwrite:
                    (output / SUMMARY).unlink(missing_ok=True)  # it belongs to the earlier run
                journal.append(keys[result.case], result, files[result.case])
                (progress or _nothing)(result)
        results = [_in_words(_known(journal, name, keys), words) for name in names]
        concluded = conclude(results, options, settings=settings)
        summary = _described(concluded.summary, settings)
        write_outputs(output, concluded.results, summary)
    return CohortResult(concluded.results, summary, len(pairs) - len(waiting))


def _is_finished(journal: Journal, pair: ScorePair, keys: dict[str, str]) -> bool:
    """Whether a case is scored; a failed one is tried again, since the cause may be gone."""
    result = journal.finished(pair.case, keys[pair.case])
    return result is not None and result.error is None


def _known(journal: Journal, case: str, keys: dict[str, str]) -> CaseResult:
    result = journal.finished(case, keys[case])
    if result is None:
        raise RuntimeError(f"the runner must give a result for every case, got none for {case}")
    return result


def _in_words(result: CaseResult, words: Callable[[str], str]) -> CaseResult:
    """The result with the caller's words for its errors and warnings."""
    texts = ("error", "warning")
    rows = [
        {name: words(cell) if name in texts and cell else cell for name, cell in row.items()}
        for row in result.rows
    ]
    return replace(result, rows=rows)


def _described(summary: dict[str, Any], settings: ScoreSettings) -> dict[str, Any]:
    """The summary, preceded by its format, version and settings."""
    head = {"format": "softoverlap-summary", "version": __version__}
    return {**head, "settings": settings.as_dict(), **summary}


def _nothing(_: object) -> None:
    """Do nothing: the default of callbacks."""
