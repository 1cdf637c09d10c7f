"""What the command `score` prints: which files match, what was kept, what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from softoverlap.app.cli.console import SOME_FAILED, RateBar, plural, say, say_left_out
from softoverlap.app.cli.score_tables import print_metrics

if TYPE_CHECKING:
    from softoverlap.app.cohort import CohortResult, PairTable, ScorePair


def list_pairs(table: PairTable) -> None:
    """List which files match; exit with status 1 if any do not."""
    say(f"{plural(len(table.matched), 'case')} matched")
    for pair in table.matched:
        say(f"  {pair.case}: {pair.pred} with {', '.join(map(str, pair.truth))}")
    say(f"{plural(len(table.unmatched), 'case')} not matched")
    for pair in table.unmatched:
        files = ", ".join(str(path) for path in (pair.pred, *pair.truth) if path is not None)
        say(f"  {pair.case}: {pair.error} ({files or 'no file'})")
    if table.passed_by:
        say(f"{plural(len(table.passed_by), 'file')} skipped")
    for file in table.passed_by:
        say(f"  {file.path}: {file.reason}")
    _say_missing({pair.case: pair.error for pair in table.unmatched}, table.hint)
    if table.unmatched:
        raise typer.Exit(SOME_FAILED)


def _say_missing(errors: dict[str, str | None], hint: str) -> None:
    """How many cases lack a side and which, and the patterns that would pair more."""
    from softoverlap.app.cohort import NO_PREDICTION, NO_TRUTH

    parts = []
    for reason in (NO_PREDICTION, NO_TRUTH):
        names = [case for case, error in errors.items() if error == reason]
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        parts += [f"{plural(len(names), 'case')} with {reason}: {shown}"] if names else []
    if parts:
        say("; ".join(parts))
    if hint:
        say(f"to pair more files, {hint}")


def say_formats(pairs: Sequence[ScorePair]) -> None:
    """Which formats are compared, where the images of the two sides differ in them."""
    preds = _suffixes(pair.pred for pair in pairs if pair.pred is not None)
    truths = _suffixes(path for pair in pairs for path in pair.truth)
    if preds and truths and preds != truths:
        say(f"images of PRED end in {', '.join(preds)}, those of TRUTH in {', '.join(truths)}")


def _suffixes(paths: Iterable[Path]) -> list[str]:
    """The suffixes of the images among files."""
    from softoverlap.images import image_name, is_image_name

    images = (path.name for path in paths if is_image_name(path))
    return sorted({name[len(image_name(name)) :].lower() for name in images})


def what_is_kept(output: Path, bar: RateBar, overwrite: bool) -> str:
    """What is kept after an early end, and how to continue."""
    if overwrite and bar.count == bar.skipped:
        return f"no case was finished, and what {output} held is as it was"
    words = f"finished cases are kept in {output}; the same command goes on from there"
    return f"{words}, without --overwrite" if overwrite else words


def print_results(result: CohortResult, output: Path, table: PairTable) -> None:
    """Print the summary, what is missing last; exit with status 1 if a case failed."""
    scored = len(result.results) - len(result.failed)
    parts: dict[str, Any] = result.summary.get("labels") or {"": result.summary}
    for name, part in parts.items():
        print_metrics(part, title=f"label {name}" if name else "")
        if name and part["n_empty"] == scored:
            say(f"warning: no file has label {name}: is this the right label?")
    earlier = f", {result.resumed} of them by an earlier run" if result.resumed else ""
    say(f"{plural(scored, 'case')} scored{earlier}, {_not_scored(result)}; {output}")
    if (page := output / "report.html").exists():
        say(f"{page} shows an earlier scoring: softoverlap report {output} --overwrite renews it")
    elif scored:
        say(f"softoverlap report {output} draws them as a page")
    warned = sum(any(row.get("warning") for row in case.rows) for case in result.results)
    if warned:
        say(f"{plural(warned, 'case')} with a warning: see cases.csv")
    say_left_out(table.passed_by)
    _say_missing({case.case: case.error for case in result.failed}, table.hint)
    if result.failed:
        raise typer.Exit(SOME_FAILED)


def _not_scored(result: CohortResult) -> str:
    """How many cases failed, and how many lack a side."""
    from softoverlap.app.cohort import NO_PREDICTION, NO_TRUTH

    missing = sum(case.error in (NO_PREDICTION, NO_TRUTH) for case in result.failed)
    failed = f"{len(result.failed) - missing} failed"
    return f"{failed}, {missing} missing" if missing else failed
