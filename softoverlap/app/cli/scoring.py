"""The command `score`: a cohort of predictions against the truth."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.console import RateBar, one_line_errors, say
from softoverlap.app.cli.flags import in_flags
from softoverlap.app.cli.reading import reads_files
from softoverlap.app.cli.score_words import list_pairs, print_results, say_formats, what_is_kept

if TYPE_CHECKING:
    from softoverlap.app.cohort import (
        CohortResult,
        PairTable,
        Runner,
        ScorePair,
        ScoreSettings,
        SummarySettings,
    )

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@app.command()
@one_line_errors
@reads_files
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
    cases: Annotated[
        Path | None,
        typer.Option(
            help="All cases, one name a line, such as LUNA16's seriesuids.csv: others are left "
            "out, and one without a row in a CSV of boxes counts as a scan without boxes."
        ),
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
            "voxel, or where an affine was lost) or resample (trust the affines; scores are "
            "formed on the union of the grids)."
        ),
    ] = "strict",
    threshold: Annotated[
        float, typer.Option(help="Lowest probability inside a lesion, in (0, 1].")
    ] = 0.5,
    halo: Annotated[
        float, typer.Option(help="Lowest probability of a lesion's soft edge, in (0, 1].")
    ] = 0.01,
    min_mm3: Annotated[float, typer.Option(help="Smallest lesion in mm³.")] = 0.0,
    hit: Annotated[
        str | None,
        typer.Option(
            help="What hits a lesion: NAME or NAME:THRESHOLD. By default box IoU of at least 0.1, "
            "as in nnDetection, and between masks any voxel in common. See below."
        ),
    ] = None,
    hit_iou: Annotated[
        float, typer.Option(help="The same as --hit box_iou:NUMBER, in (0, 1].")
    ] = 0.1,
    max_lesion_mm: Annotated[
        float | None,
        typer.Option(
            help="Lesions with a longer edge are too large for a box, and reported apart: 32 by "
            "default where a side is boxes."
        ),
    ] = None,
    ignore: Annotated[
        str | None, typer.Option(help="Labels of TRUTH that are neither found nor missed: 2,3.")
    ] = None,
    ignore_below_existence: Annotated[
        float,
        typer.Option(help="The same of lesions that a smaller share of the raters marked."),
    ] = 0.0,
    at_score: Annotated[
        str | None,
        typer.Option(
            help="Score from which boxes count: a number, f1 or fp:1 (chosen on these cases, "
            "which is optimistic). By default as stored with the boxes, else f1."
        ),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns case, patient, for intervals by patient; by default the "
            "BIDS subject, or the case."
        ),
    ] = None,
    fp_rates: Annotated[
        str | None,
        typer.Option(help="False positives a scan at which FROC is read: 0.125,0.25,0.5,1,2,4,8."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this computer.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask: local:N, or the address of a scheduler (extra `cohort`)."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")
    ] = False,
) -> None:
    r"""Score predictions against the truth: soft masks, boxes, or one of each.

    PRED and TRUTH are two files, two folders or two patterns. In folders, the
    name of a case is its file name without suffix; subfolders are searched too.
    Files of `softoverlap lesions` and `detect`, CASE_boxes.json, are of CASE.
    A CSV that names the case of each box, such as LUNA16's, is a whole side; its
    candidates, points without a size, need --hit ball_centreness. Scans that no
    CSV names count where --cases lists them.
    Truths named CASE_rater1, CASE_rater2, ... or a fourth axis are raters of
    one case. BIDS files whose names differ are paired by subject, session, run.

    Results in OUTPUT:

    cases.csv      one row per case, with its error if it could not be scored
    lesions.csv    one row per true lesion
    boxes.csv      one row per predicted lesion or box
    summary.json   means and intervals, FROC, calibration, volumes
    methods.txt    a paragraph for a methods section
    results.tex    a table in LaTeX
    scores.jsonl   the journal, which keeps every finished case

    Between masks, a lesion is found if a predicted one shares a voxel with it,
    and one predicted lesion may find several. Where a side is boxes, a lesion
    is found by a box whose IoU with its tight box (the mask cut at --threshold)
    is at least 0.1, and a box finds one lesion; a second figure counts boxes
    whose centre lies within the larger of the lesion's radius and 2 mm. Boxes
    count from one score on: see --at-score.

    --hit takes another rule, by its name or as NAME:THRESHOLD. Without one, 0.1
    hits, or the lesion's radius. Between masks, tight boxes are then compared.

    box_iou: IoU with the tight box: 0.1 in nnDetection, 0.5 and more in COCO
    box_dice: Dice with the tight box: IoU on another scale
    box_iof: share of the found box in the tight box: crowds in COCO
    box_giou: IoU less the empty part of the box around both: ranks misses too
    box_diou: IoU less the distance of the centres: Distance-IoU loss and NMS
    box_ciou: IoU less distance and difference in shape: YOLO's loss
    box_eiou: IoU less the distance of centres and of edges
    box_nwd: likeness of the boxes as Gaussians: detection of tiny objects
    ball_iou: IoU of the balls in both boxes: SCPM-Net, CircleNet
    ball_dice: Dice of the balls in both boxes: IoU on another scale
    ball_centreness: centre in the ball in the tight box, of any size: LUNA16
    box_ball_iou: IoU of the box and the ball in the tight box
    box_ball_dice: Dice of the box and the ball in the tight box
    soft_box_iou: IoU of boxes with uncertain faces: else equal to box_iou
    soft_box_dice: Dice of boxes with uncertain faces: else equal to box_dice
    mask_box_dice: Dice of the box and the lesion's soft mask
    mask_box_iou: IoU of the box and the lesion's soft mask
    mask_box_tversky: Tversky index of the box and the lesion's soft mask
    mask_box_diou: IoU with the soft mask less the distance from its centre
    relative_mask_box_dice: mask_box_dice over the best of any box
    relative_mask_box_iou: mask_box_iou over the best of any box
    relative_mask_box_tversky: mask_box_tversky over the best of any box
    centre_in_mask: probability under the box's centre: pointing games
    centre_within_radius: centre within the lesion's radius, or 2 mm: LUNA16
    any_voxel: any voxel in common: lesion-wise F1 of challenges

    Ctrl-C stops after the case in hand, a second one at once. The same command
    continues, and tries failed cases again. The exit status is 0 if all cases
    were scored, 1 if some failed, 2 if the command could not do what was asked,
    3 after an unexpected error, and 130 after Ctrl-C.

    softoverlap score pred/ truth/ --dry-run
    softoverlap score pred/ truth/ --output results --workers 8
    softoverlap score found/ truth/ --output results
    softoverlap score bids/derivatives/net bids --output results
    softoverlap score "pred/{case}_prob.nii.gz" "truth/{case}_seg.nii.gz" --output results
    softoverlap score found.csv annotations.csv --hit ball_centreness --output results
    softoverlap score --table pairs.csv --output results --geometry index
    softoverlap score pred/ truth/ --output results --scheduler tcp://10.0.0.1:8786
    """
    from softoverlap.app.cohort import ScoreSettings, check_label_maps, check_lists

    settings = ScoreSettings(
        values=values, truth_values=truth_values, geometry=geometry, threshold=threshold,
        labels=_numbers(labels, "labels"), halo=halo, min_mm3=min_mm3, hit=hit, hit_iou=hit_iou,
        max_lesion_mm=max_lesion_mm, ignore=_numbers(ignore, "ignore"),
        ignore_below_existence=ignore_below_existence,
    )  # fmt: skip
    check_label_maps(settings)
    runner = _runner(workers, scheduler)
    pairs = _pairs(pred, truth, table, pred_pattern, truth_pattern, output, cases)
    check_lists(pairs.matched, settings)
    options = _options(at_score, patients, fp_rates, [pair.case for pair in pairs.pairs])
    if dry_run:
        list_pairs(pairs)
    elif output is None:
        raise ValueError("--output must name a folder for the results, unless --dry-run is passed")
    else:
        inputs = [path for path in (table, patients, cases) if path is not None]
        say_formats(pairs.pairs)
        result = _run(pairs.pairs, output, (settings, options), runner, overwrite, inputs)
        print_results(result, output, pairs)


def _pairs(
    pred: str | None,
    truth: str | None,
    table: Path | None,
    pred_pattern: str | None,
    truth_pattern: str | None,
    output: Path | None,
    cases: Path | None,
) -> PairTable:
    from softoverlap.app.cohort import find_pairs, read_case_names, read_pairs

    if table is not None:
        if pred or truth or pred_pattern or truth_pattern or cases:
            raise ValueError("--table must stand alone, got PRED, TRUTH, a pattern or --cases too")
        return read_pairs(table)
    if pred is None or truth is None:
        raise ValueError("PRED and TRUTH must be given, or --table")
    return find_pairs(
        pred, truth, pred_pattern=pred_pattern, truth_pattern=truth_pattern, output=output,
        cases=None if cases is None else read_case_names(cases),
    )  # fmt: skip


def _runner(workers: int, scheduler: str | None) -> Runner:
    from softoverlap.app.cohort import DaskRunner, ProcessPool, serial

    if scheduler is not None:
        if workers > 1:
            raise ValueError("--workers and --scheduler exclude each other, got both")
        return DaskRunner(scheduler)
    return ProcessPool(workers) if workers > 1 else serial


def _options(
    at_score: str | None, patients: Path | None, fp_rates: str | None, cases: Sequence[str]
) -> SummarySettings:
    from softoverlap.app.cohort import SummarySettings, read_patients

    rates: dict[str, Any] = {}
    if fp_rates is not None:
        try:
            rates = {"fp_rates": tuple(float(part) for part in fp_rates.split(","))}
        except ValueError:
            raise ValueError(
                f"--fp-rates must be numbers such as 0.5,1,2, got {fp_rates!r}"
            ) from None
    known = None if patients is None else read_patients(patients, cases)
    return SummarySettings(at_score=at_score, patients=known, **rates)


def _numbers(labels: str | None, option: str) -> tuple[int, ...]:
    """`1,2,3` as numbers."""
    parts = [] if labels is None else [part.strip() for part in labels.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"--{option} must be whole numbers such as 1,2,3, got {labels!r}")
    return tuple(map(int, parts))


def _run(
    pairs: Sequence[ScorePair],
    output: Path,
    settings: tuple[ScoreSettings, SummarySettings],
    runner: Runner,
    overwrite: bool,
    inputs: Sequence[Path],
) -> CohortResult:
    """Score; whatever ends the run, the message says what is kept."""
    from softoverlap.app.cohort import score_cohort

    bar = RateBar("scoring", len(pairs))
    try:
        with bar:
            return score_cohort(
                pairs, output, settings[0], options=settings[1], runner=runner,
                overwrite=overwrite, report=say, inputs=inputs, start=bar.skip, words=in_flags,
                progress=lambda result: bar(result.case, result.error),
            )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what_is_kept(output, bar, overwrite)) from None
    except OSError as error:
        if error.errno in _NO_SPACE or isinstance(error, ConnectionError):
            raise OSError(f"{error}; {what_is_kept(output, bar, overwrite)}") from error
        raise
