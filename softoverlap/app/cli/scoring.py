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
        Path | None, typer.Option(help="Folder for the results; needed but for --dry-run.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns case, pred, truth, in place of PRED and TRUTH."),
    ] = None,
    pred_pattern: Annotated[
        str | None, typer.Option(help="Names in PRED, such as {case}_pred.nii.gz.")
    ] = None,
    truth_pattern: Annotated[
        str | None, typer.Option(help="Names in TRUTH, such as {case}_rater{rater}.nii.gz.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what is matched, and what is not.")
    ] = False,
    values: Annotated[
        str,
        typer.Option(help="Values of PRED: auto, probabilities, percent, 0-255 or labels."),
    ] = "auto",
    truth_values: Annotated[str, typer.Option(help="The same of TRUTH.")] = "auto",
    labels: Annotated[
        str | None,
        typer.Option(
            help="Classes of label maps, each by itself: 1,2,3; with probabilities, one. Without "
            "it, --values labels takes all labels for one class."
        ),
    ] = None,
    geometry: Annotated[
        str,
        typer.Option(
            help="Where grids differ: strict (an error), index (trust the voxel grid, up to one "
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
    workers: Annotated[int, typer.Option(min=1, help="Processes of this machine.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask: local:N, or the address of a scheduler; the extra cohort."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")
    ] = False,
) -> None:
    """Score predictions against the truth: soft masks, boxes, or one of each.

    PRED and TRUTH are two files, two folders or two patterns. In folders, a case
    is called as its file without suffix; all folders below are searched. Truths
    CASE_rater1, CASE_rater2, ... or a fourth axis are the raters of one case.

    Results in OUTPUT:

    cases.csv      a row a case, with its error if it could not be scored
    lesions.csv    a row a lesion of the truth
    boxes.csv      a row a found lesion or box
    summary.json   means and intervals, FROC, calibration, volumes
    scores.jsonl   the journal: what is finished is never lost

    Between masks a lesion is found if a predicted one shares a voxel with it: for
    lesion_recall one predicted lesion may find several. FROC, and all that is
    scored by boxes, lets one take one, so its sensitivity may be lower.

    The same command goes on where an earlier run was cut off, and tries failed
    cases again. The exit status is 0 if all cases were scored, 1 if some failed,
    2 if nothing could be done as asked, 3 after an error that nobody foresaw.

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
        raise ValueError("--output must name a folder for the results, or pass --dry-run")
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
    """What is matched and what is not; status 1 if anything is not."""
    say(f"{plural(len(table.matched), 'case')} matched")
    for pair in table.matched:
        say(f"  {pair.case}: {pair.pred} with {', '.join(map(str, pair.truth))}")
    say(f"{plural(len(table.unmatched), 'case')} not matched")
    for pair in table.unmatched:
        files = ", ".join(str(path) for path in (pair.pred, *pair.truth) if path is not None)
        say(f"  {pair.case}: {pair.error} ({files or 'no file'})")
    if table.passed_by:
        say(f"{plural(len(table.passed_by), 'file')} passed by")
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
    """Score; whatever ends it, the words say what is kept."""
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
    """What an ending leaves behind, and how to go on."""
    if overwrite and bar.count == bar.skipped:
        return f"no case was finished, and what {output} held is as it was"
    words = f"finished cases are kept in {output}; the same command goes on from there"
    return f"{words}, without --overwrite" if overwrite else words


def _finish(result: CohortResult, output: Path) -> None:
    """The summary on the terminal, and status 1 if a case failed."""
    scored = len(result.results) - len(result.failed)
    parts: dict[str, Any] = result.summary.get("labels") or {"": result.summary}
    for name, part in parts.items():
        print_metrics(part, title=f"label {name}" if name else "")
        if name and part["n_empty"] == scored:
            say(f"warning: label {name} is in no file: is it the one that is meant?")
    earlier = f", {result.resumed} of them by an earlier run" if result.resumed else ""
    say(f"{plural(scored, 'case')} scored{earlier}, {len(result.failed)} failed; {output}")
    warned = sum(any(row.get("warning") for row in one.rows) for one in result.results)
    if warned:
        say(f"{plural(warned, 'case')} with a warning: see cases.csv")
    if result.failed:
        raise typer.Exit(SOME_FAILED)
