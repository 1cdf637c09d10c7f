"""The commands `inspect` and `fuse`.

What takes seconds to import is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.box_words import BoxReading
from softoverlap.app.cli.cases import check_folder
from softoverlap.app.cli.console import SOME_FAILED, message_of, one_line_errors, plural, say
from softoverlap.app.cli.converting import AxisOrder, Frame
from softoverlap.app.cli.drawing import draw
from softoverlap.app.cli.fusing import Fusion, fuse_files, fuse_folder, parse_weights, say_fused
from softoverlap.app.cli.image_words import Reading, check_values
from softoverlap.app.cli.inspecting import COLUMNS, contents_of, is_image, named_files
from softoverlap.app.cli.interrupts import finish_first, stop_if_interrupted
from softoverlap.app.cli.options import Overwrite
from softoverlap.app.cli.reading import reads_files

Values = Annotated[
    str,
    typer.Option(help="auto (0 and 1, or probabilities), probabilities, percent, 0-255 or labels."),
]
Label = Annotated[int | None, typer.Option(min=1, help="Of label maps, use only this label.")]


@app.command()
@one_line_errors
@reads_files
def inspect(
    files: Annotated[
        list[str],
        typer.Argument(help="Scans, masks, boxes, folders, or patterns in quotes."),
    ],
    values: Values = "auto",
    label: Label = None,
    threshold: Annotated[
        float, typer.Option(help="Lowest probability inside a lesion, in (0, 1].")
    ] = 0.5,
    low: Annotated[
        float | None,
        typer.Option(help="Hysteresis: lesions with a voxel at --threshold extend down to this."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", help="Write a table too, with a row for each file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the file in three planes, as PNG; for one file.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help="The scan of boxes in mm, or a folder with CASE.nii.gz for each case; with "
            "--picture the scan to draw the mask or the boxes on."
        ),
    ] = None,
    frame: Frame = None,
    axis_order: AxisOrder = None,
    overwrite: Overwrite = False,
) -> None:
    """Print the contents of files: grid, kind of values, lesions, boxes; draw a picture.

    Reads NIfTI, NRRD, MHA, MHD, MGH (.mgz), Analyze (.img), folders with one DICOM
    series, and files of boxes.
    The kind of the values is binary, probabilities, labels, percent, 0-255 or
    other. Lesions are counted if values are binary or probabilities, or if
    --values or --label says how to read them. Boxes are counted case by case. As
    for `softoverlap convert`, pass what a file of boxes does not say itself: the
    --frame of MONAI's lists, the --axis-order of COCO, the --image of boxes in mm.
    Without --image, 3D Slicer's markups are given by their sizes in mm.

    The picture shows the largest lesion or the best box; of boxes with a score
    threshold it shows those at or above it. If a file cannot be read, the command
    names it, goes on with the others and exits with status 1; its row of the table
    has the error.

    softoverlap inspect scan.nii.gz mask.nrrd found/sub-01_boxes.json
    softoverlap inspect "masks/*.nii.gz" --threshold 0.3
    softoverlap inspect masks boxes.csv --csv files.csv
    softoverlap inspect mask.nii.gz --image scan.nii.gz --picture case.png
    """
    paths = named_files(files)
    reading = Reading(values, label, threshold, low)
    box_reading = BoxReading(image, None if frame is None else frame.upper(), axis_order)
    _check_picture(paths, picture, image, overwrite=overwrite)
    _check_table(paths, table, image, overwrite=overwrite)
    rows: list[dict[str, object]] = []
    try:
        with finish_first("file"):
            for path in paths:
                rows.append(_say_file(path, reading, box_reading))
                stop_if_interrupted()
    finally:
        if table is not None:
            _write_rows(table, rows)
    failed = sum("error" in row for row in rows)
    if failed:
        say(f"{failed} of {plural(len(paths), 'file')} cannot be read")
        raise typer.Exit(SOME_FAILED)
    if picture is not None:
        draw(paths[0], box_reading, picture, reading)
        say(f"picture: {picture}")


def _check_picture(
    paths: list[Path], picture: Path | None, image: Path | None, *, overwrite: bool
) -> None:
    """The picture is of one file, and does not replace an input."""
    from softoverlap.images import check_written

    if picture is None:
        if image is not None and all(map(is_image, paths)):
            raise ValueError("--image goes with --picture or with files of boxes, got neither")
        return
    if len(paths) != 1:
        raise ValueError(f"--picture shows one file, got {len(paths)}")
    if picture.suffix.lower() != ".png":
        raise ValueError(f"--picture must end in .png, got {picture}")
    check_written([picture], [*paths, *([] if image is None else [image])], overwrite=overwrite)


def _check_table(
    paths: list[Path], table: Path | None, image: Path | None, *, overwrite: bool
) -> None:
    """The table does not replace an input."""
    from softoverlap.images import check_written

    if table is None:
        return
    if table.suffix.lower() != ".csv":
        raise ValueError(f"--csv must end in .csv, got {table}")
    check_written([table], [*paths, *([] if image is None else [image])], overwrite=overwrite)


def _say_file(path: Path, reading: Reading, box_reading: BoxReading) -> dict[str, object]:
    """Print the contents of a file, or the error; return its row of the table."""
    say(str(path))
    try:
        contents = contents_of(path, reading, box_reading)
    except (ValueError, OSError) as error:
        say(f"  failed: {message_of(error)}")
        return {"file": path, "error": message_of(error)}
    for line in contents.lines():
        say(f"  {line}")
    return {"file": path, **contents.row()}


def _write_rows(table: Path, rows: list[dict[str, object]]) -> None:
    """The table of the files that were looked at."""
    from softoverlap.images import write_table

    write_table(table, COLUMNS, [[row.get(name) for name in COLUMNS] for row in rows])
    say(f"table: {table}")


@app.command()
@one_line_errors
@reads_files
def fuse(
    raters: Annotated[
        list[Path],
        typer.Argument(
            help="One mask per rater, one 4D file with all of them, or one folder with "
            "CASE_rater1.nii.gz, …"
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="The fused mask, .nii or .nii.gz; for a folder, a folder.")
    ],
    method: Annotated[str, typer.Option(help="mean, majority, weighted or staple.")] = "mean",
    weights: Annotated[
        str | None, typer.Option(help="For weighted: one number per rater, such as 2,1,1.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Threshold soft masks first, in (0, 1]; majority and staple need it."),
    ] = None,
    geometry: Annotated[
        str,
        typer.Option(
            help="Where grids differ by more than 0.1 voxels: strict (an error), index (trust the "
            "voxel grid, up to one voxel) or resample (trust the affines)."
        ),
    ] = "strict",
    values: Values = "auto",
    label: Label = None,
    overwrite: Overwrite = False,
) -> None:
    """Fuse the masks of several raters into one soft mask.

    mean        the share of raters that marked a voxel
    majority    1 if more than half of them marked it
    weighted    the mean with --weights
    staple      the probability estimated by STAPLE, with the quality of each rater

    The result is on the grid of the first rater. Files with another axis order are
    reoriented without loss. A single 4D file holds one rater in each volume.

    With a folder in the layout of `softoverlap train` (raters/CASE_rater1.nii.gz,
    …), OUTPUT gets CASE.nii.gz for each case, and fused.csv with one row per case.
    A case that fails gets an error there; the command goes on and exits with
    status 1. Cases with one rater, or an unusual number of raters, get a warning.

    softoverlap fuse a.nii.gz b.nii.gz c.nii.gz --output mean.nii.gz
    softoverlap fuse a.nii.gz b.nii.gz c.nii.gz --output staple.nii.gz --method staple
    softoverlap fuse a.nii.gz b.nii.gz --output liver.nii.gz --label 3
    softoverlap fuse FOLDER --output fused
    """
    from softoverlap._checks import check_choice, check_threshold
    from softoverlap.images import GEOMETRIES, check_written
    from softoverlap.lesions import FUSION_METHODS

    check_choice("method", method, FUSION_METHODS)
    check_choice("geometry", geometry, GEOMETRIES)
    check_values(values, label)
    if threshold is not None:
        check_threshold(threshold=threshold)
    fusion = Fusion(method, parse_weights(weights, method), threshold, geometry, values, label)
    if len(raters) == 1 and raters[0].is_dir():
        _fuse_folder(raters[0], output, fusion, overwrite=overwrite)
        return
    if not output.name.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"--output must end in .nii or .nii.gz, got {output}")
    check_written([output], raters, overwrite=overwrite)
    say_fused(output, fusion, fuse_files(raters, output, fusion))


def _fuse_folder(folder: Path, output: Path, fusion: Fusion, *, overwrite: bool) -> None:
    """Fuse every case of a folder; list files that are not a rater's."""
    from softoverlap.images import check_written, find_raters

    check_folder(output)
    cases, unpaired = find_raters(folder)
    written = [output / f"{case}.nii.gz" for case in cases]
    read = [path for paths in cases.values() for path in paths]
    check_written([*written, output / "fused.csv"], read, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    rows = fuse_folder(cases, unpaired, output, fusion)
    for row in rows:
        if row["warning"]:
            say(f"warning: {row['case']}: {row['warning']}")
    failed = [row for row in rows if row["error"]]
    done = plural(len(rows) - len(failed), "case")
    say(f"{done} fused, {len(failed)} failed; results in {output}")
    for row in failed:
        say(f"failed: {row['case']}: {row['error']}")
    for file in unpaired:
        say(f"left out: {file.path}: {file.reason}")
    if failed:
        raise typer.Exit(SOME_FAILED)
