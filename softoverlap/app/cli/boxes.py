"""The command `lesions`, which is also called `boxes`: from probability maps to a detector's boxes.

What takes seconds to import is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.box_files import (
    Batch,
    MaskRow,
    boxes_of_mask,
    files_of,
    write_mask_tables,
)
from softoverlap.app.cli.cases import check_folder
from softoverlap.app.cli.console import (
    SOME_FAILED,
    CountBar,
    one_line_errors,
    plural,
    say,
    say_left_out,
)
from softoverlap.app.cli.lesion_words import (
    Connectivity,
    Label,
    Low,
    Maps,
    Mean,
    MinMm3,
    PredPattern,
    Threshold,
    Truth,
    TruthPattern,
    TruthValues,
    Values,
    cut_of,
    score_named,
)
from softoverlap.app.cli.options import BOX_FORMATS, DryRun, Overwrite
from softoverlap.app.cli.reading import reads_files
from softoverlap.app.cli.truths import MapReading, grouped, threshold_for


@app.command("boxes", hidden=True)
@app.command("lesions")
@one_line_errors
@reads_files
def lesions(
    masks: Maps,
    output: Annotated[Path, typer.Option(help="Folder for the results.")],
    threshold: Threshold = None,
    low: Low = None,
    connectivity: Connectivity = None,
    min_mm3: MinMm3 = None,
    values: Values = "auto",
    label: Label = None,
    score: Annotated[
        str | None, typer.Option(help="Score of a lesion: maximum (the default), mean, mass, dice.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="File of `softoverlap calibrate`: probabilities of a hit.")
    ] = None,
    mean: Mean = False,
    truth: Truth = None,
    pred_pattern: PredPattern = None,
    truth_pattern: TruthPattern = None,
    truth_values: TruthValues = "auto",
    format: Annotated[str, typer.Option(help=f"Format of the boxes: {BOX_FORMATS}.")] = "json",
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a detector of any segmentation: a box and a score for each lesion.

    MASKS are probability maps or soft masks, or nnU-Net's: of CASE.npz, as
    `nnUNetv2_predict --save_probabilities` writes it, with CASE.nii.gz beside it.
    The older name `softoverlap boxes` does the same.

    A lesion is a connected component of the voxels at or above --threshold. With
    --low, it is a component of the voxels at or above --low that contains one at
    or above --threshold. `--threshold best` takes that of the highest Dice with
    the masks of --truth, and says which it is. With --mean, maps of one name in
    several folders are averaged first. Each map gets a file:

    CASE_boxes.json    boxes in voxels with their scores, for `softoverlap score`

    The score of a lesion is, over its voxels, by --score:

    maximum    the highest probability
    mean       the mean probability
    mass       Σ probability above that of the 3 mm around it, in mm³
    dice       soft Dice of the lesion with the map in and 3 mm around it

    or with --calibration the probability that it is a hit, fitted to validation
    scans; then --threshold, --low, --connectivity and --min-mm3 are those of the
    file.

    All maps share two tables: boxes.csv (one row per lesion, with its volume in
    mm³) and cases.csv (one row per map, with how it was cut and scored). A map
    without lesions is not an error. A map that cannot be read, or whose values need
    --values, gets an error in cases.csv; the command goes on and exits with status 1.

    softoverlap lesions maps/ --output found
    softoverlap lesions "maps/*.nii.gz" --output found --threshold 0.3 --min-mm3 10
    softoverlap lesions nnunet_predictions --output found --calibration calibration.json
    softoverlap lesions fold_0 fold_1 fold_2 --mean --output found
    softoverlap lesions mask.nii.gz --output found --format slicer
    """
    from softoverlap._checks import check_choice
    from softoverlap.images import (
        FORMATS,
        VALUES,
        check_written,
        find_maps,
        map_name,
        maps_left_out,
    )

    check_folder(output)
    check_choice("format", format, FORMATS)
    check_choice("values", values, VALUES)
    scorer, known = score_named(score, calibration)
    cut = cut_of(threshold, low, connectivity, min_mm3, known)
    paths = find_maps(masks)
    say_left_out(maps_left_out(masks))
    reading = MapReading(grouped(paths, mean=mean), values, label, truth_values, truth is not None)
    places = {
        path: output / f"{map_name(path)}_boxes{FORMATS[format].suffix}" for path in reading.files
    }
    tables = [output / "boxes.csv", output / "cases.csv"]
    read = [*paths, *([] if calibration is None else [calibration])]
    check_written([*files_of(places.values(), format), *tables], read, overwrite=overwrite)
    chosen, unread = threshold_for(
        cut, truth, reading, pred_pattern=pred_pattern, truth_pattern=truth_pattern
    )
    if not dry_run:
        output.mkdir(parents=True, exist_ok=True)
    cutting = {**asdict(cut), "threshold": chosen}
    told = {**cutting, "score": str(calibration or score or "maximum")}
    files = {map_name(path): group for path, group in reading.files.items()}

    def write(rows: Sequence[MaskRow]) -> None:
        if not dry_run:
            write_mask_tables(output, rows, files, told)

    rows, batch = _box_masks(places, format, dry_run, reading, write, score=scorer, **cutting)
    write(rows)
    _say_if_all_one(rows)
    good = len(rows) - len(batch.failed)
    place = None if dry_run else output
    batch.summary(good, "mask", place, "would be boxed" if dry_run else "boxed")
    if batch.failed or unread:
        raise typer.Exit(SOME_FAILED)


def _say_if_all_one(rows: Sequence[MaskRow]) -> None:
    """Lesions that all have the score 1 have no order: masks of 0 and 1 are no probabilities."""
    known = [row.boxes.scores for row in rows if row.boxes is not None]
    count = sum(len(scores) for scores in known if scores is not None)
    if count > 1 and all(scores is None or bool((scores == 1).all()) for scores in known):
        say(
            f"warning: all {count} lesions have the score 1, so none comes before another "
            "in FROC and AP: if these are masks of 0 and 1, pass the maps of probabilities, or "
            "--score mass for the largest first"
        )


def _box_masks(
    places: dict[Path, Path],
    format: str,
    dry_run: bool,
    reading: MapReading,
    write: Callable[[Sequence[MaskRow]], None],
    **settings: Any,
) -> tuple[list[MaskRow], Batch]:
    """Box one mask after another; after Ctrl-C what is done is written."""
    from softoverlap.images import grid_file, map_name, write_box_files

    rows: list[MaskRow] = []
    batch = Batch()

    def work(path: Path, place: Path) -> int:
        row = boxes_of_mask(reading.map_of(path), map_name(path), label=reading.label, **settings)
        assert row.boxes is not None
        if not dry_run:
            write_box_files(place, {row.case: row.boxes}, format=format, image=grid_file(path))
        rows.append(row)
        return len(row.boxes.boxes)

    with CountBar("mask", len(places)) as bar:
        try:
            for path, place in places.items():
                known = len(batch.failed)
                try:
                    batch.attempt(lambda p=path, o=place: work(p, o), bar, path.name)
                finally:
                    if len(batch.failed) > known:
                        rows.append(MaskRow(map_name(path), error=batch.failed[-1]))
        except KeyboardInterrupt:
            if rows:
                write(rows)
            done = f"{len(rows)} of {plural(len(places), 'mask')} are done"
            raise KeyboardInterrupt(done) from None
    return rows, batch
