"""The command `score`: a cohort of predictions against the truth."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.console import (
    SOME_FAILED,
    RateBar,
    one_line_errors,
    plural,
    print_metrics,
    say,
)

if TYPE_CHECKING:
    from softoverlap.app.cohort import CohortResult, PairTable, Runner, ScorePair, ScoreSettings

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@app.command()
@one_line_errors
def score(
    pred: Annotated[
        str | None, typer.Argument(help="Predictions: a file, a folder, or a pattern in quotes.")
    ] = None,
    truth: Annotated[
        str | None, typer.Argument(help="The truth: a file, a folder, or a pattern in quotes.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results; required without --dry-run.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns case, pred, truth, instead of PRED and TRUTH."),
    ] = None,
    pred_pattern: Annotated[
        str | None, typer.Option(help="Names in PRED, such as {case}_pred.nii.gz.")
    ] = None,
    truth_pattern: Annotated[
        str | None, typer.Option(help="Names in TRUTH, such as {case}_rater{rater}.nii.gz.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list which files match and which do not.")
    ] = False,
    values: Annotated[
        str,
        typer.Option(help="Values of PRED: auto, probabilities, percent, 0-255 or labels."),
    ] = "auto",
    truth_values: Annotated[str, typer.Option(help="The same for TRUTH.")] = "auto",
    labels: Annotated[
        str | None,
        typer.Option(
            help="Classes of label maps to score one by one: 1,2,3; with probabilities, one. "
            "Without it, --values labels treats all labels as one class."
        ),
    ] = None,
    geometry: Annotated[
        str,
        typer.Option(
            help="If grids differ: strict (an error), index (trust the voxel grid, up to one "
            "voxel) or resample (trust the affines)."
        ),
    ] = "strict",
    threshold: Annotated[
        float, typer.Option(help="Lowest probability inside a lesion, in (0, 1].")
    ] = 0.5,
    halo: Annotated[
        float, typer.Option(help="Lowest probability of a lesion's soft edge, in (0, 1].")
    ] = 0.01,
    min_mm3: Annotated[float, typer.Option(help="Smallest lesion in mm³.")] = 0.0,
    hit_iou: Annotated[
        float, typer.Option(help="Lowest IoU that makes a box a hit, in (0, 1].")
    ] = 0.1,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this computer.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask: local:N, or the address of a scheduler (extra `cohort`)."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")
    ] = False,
) -> None:
    """Score predictions against the truth: soft masks, boxes, or one of each.

    PRED and TRUTH are two files, two folders or two patterns. In folders, the name
    of a case is its file name without suffix; subfolders are searched too. Truths
    named CASE_rater1, CASE_rater2, ... or a fourth axis are raters of one case.

    Results in OUTPUT:

    cases.csv      one row per case, with its error if it could not be scored
    lesions.csv    one row per true lesion
    boxes.csv      one row per predicted lesion or box
    summary.json   means and intervals, FROC, calibration, volumes
    methods.txt    a paragraph for a methods section
    results.tex    a table in LaTeX
    scores.jsonl   the journal, which keeps every finished case

    A lesion of a mask is found if a predicted lesion shares a voxel with it. For
    lesion_recall, one predicted lesion can find several. For FROC, and whenever
    boxes are scored, it finds one at most, so the sensitivity can be lower.

    Ctrl-C stops after the case in hand, a second one at once. The same command
    continues, and tries failed cases again. The exit status is 0 if all cases were
    scored, 1 if some failed, 2 if the command could not do what was asked, 3 after
    an unexpected error, and 130 after Ctrl-C.

    softoverlap score pred/ truth/ --dry-run
    softoverlap score pred/ truth/ --output results --workers 8
    softoverlap score "pred/{case}_prob.nii.gz" "truth/{case}_seg.nii.gz" --output results
    softoverlap score --table pairs.csv --output results --geometry index
    softoverlap score pred/ truth/ --output results --scheduler tcp://10.0.0.1:8786
    """
    from softoverlap.app.cohort import ScoreSettings, check_label_maps

    settings = ScoreSettings(
        values=values, truth_values=truth_values, geometry=geometry, threshold=threshold,
        labels=_numbers(labels), halo=halo, min_mm3=min_mm3, hit_iou=hit_iou,
    )  # fmt: skip
    check_label_maps(settings)
    runner = _runner(workers, scheduler)
    pairs = _pairs(pred, truth, table, pred_pattern, truth_pattern, output)
    if dry_run:
        _list(pairs)
    elif output is None:
        raise ValueError("--output must name a folder for the results, unless --dry-run is passed")
    else:
        _finish(_run(pairs.pairs, output, settings, runner, overwrite, table), output)


def _pairs(
    pred: str | None,
    truth: str | None,
    table: Path | None,
    pred_pattern: str | None,
    truth_pattern: str | None,
    output: Path | None,
) -> PairTable:
    from softoverlap.app.cohort import find_pairs, read_pairs

    if table is not None:
        if pred or truth or pred_pattern or truth_pattern:
            raise ValueError("--table must stand alone, got PRED, TRUTH or a pattern too")
        return read_pairs(table)
    if pred is None or truth is None:
        raise ValueError("PRED and TRUTH must be given, or --table")
    return find_pairs(
        pred, truth, pred_pattern=pred_pattern, truth_pattern=truth_pattern, output=output
    )


def _runner(workers: int, scheduler: str | None) -> Runner:
    from softoverlap.app.cohort import DaskRunner, ProcessPool, serial

    if scheduler is not None:
        if workers > 1:
            raise ValueError("--workers and --scheduler exclude each other, got both")
        return DaskRunner(scheduler)
    return ProcessPool(workers) if workers > 1 else serial


def _numbers(labels: str | None) -> tuple[int, ...]:
    """`1,2,3` as numbers."""
    parts = [] if labels is None else [part.strip() for part in labels.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"--labels must be whole numbers such as 1,2,3, got {labels!r}")
    return tuple(map(int, parts))


def _list(table: PairTable) -> None:
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
    if table.unmatched:
        raise typer.Exit(SOME_FAILED)


def _run(
    pairs: Sequence[ScorePair],
    output: Path,
    settings: ScoreSettings,
    runner: Runner,
    overwrite: bool,
    table: Path | None,
) -> CohortResult:
    """Score; whatever ends the run, the message says what is kept."""
    from softoverlap.app.cohort import score_cohort

    bar = RateBar("scoring", len(pairs))
    try:
        with bar:
            return score_cohort(
                pairs, output, settings, runner=runner, overwrite=overwrite, report=say,
                progress=lambda result: bar(result.case, result.error),
                start=bar.skip, inputs=() if table is None else (table,),
            )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(output, bar, overwrite)) from None
    except OSError as error:
        if error.errno in _NO_SPACE or isinstance(error, ConnectionError):
            raise OSError(f"{error}; {_kept(output, bar, overwrite)}") from error
        raise


def _kept(output: Path, bar: RateBar, overwrite: bool) -> str:
    """What is kept after an early end, and how to continue."""
    if overwrite and bar.count == bar.skipped:
        return f"no case was finished, and what {output} held is as it was"
    words = f"finished cases are kept in {output}; the same command goes on from there"
    return f"{words}, without --overwrite" if overwrite else words


def _finish(result: CohortResult, output: Path) -> None:
    """Print the summary; exit with status 1 if a case failed."""
    scored = len(result.results) - len(result.failed)
    parts: dict[str, Any] = result.summary.get("labels") or {"": result.summary}
    for name, part in parts.items():
        print_metrics(part, title=f"label {name}" if name else "")
        if name and part["n_empty"] == scored:
            say(f"warning: no file has label {name}: is this the right label?")
    earlier = f", {result.resumed} of them by an earlier run" if result.resumed else ""
    say(f"{plural(scored, 'case')} scored{earlier}, {len(result.failed)} failed; {output}")
    warned = sum(any(row.get("warning") for row in case.rows) for case in result.results)
    if warned:
        say(f"{plural(warned, 'case')} with a warning: see cases.csv")
    if result.failed:
        raise typer.Exit(SOME_FAILED)
