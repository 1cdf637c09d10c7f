"""The command `convert`: boxes from one format into another.

What takes seconds to import is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.box_files import Batch, files_of, targets
from softoverlap.app.cli.cases import check_folder
from softoverlap.app.cli.console import (
    SOME_FAILED,
    CountBar,
    one_line_errors,
    say,
)
from softoverlap.app.cli.options import BOX_FORMATS, DryRun, Overwrite
from softoverlap.app.cli.reading import reads_files

if TYPE_CHECKING:
    from softoverlap.images import BoxFile

Frame = Annotated[str | None, typer.Option(help="Frame of MONAI's lists: RAS or LPS.")]
AxisOrder = Annotated[
    str | None,
    typer.Option(help="Axis order of COCO: xyz (x is the first axis, as in NIfTI) or zyx."),
]


@app.command()
@one_line_errors
@reads_files
def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A file, a folder, or a pattern in quotes.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="A file, or a folder that gets one file per case.")
    ],
    from_format: Annotated[
        str | None, typer.Option("--from", help=f"{BOX_FORMATS}; by default recognised from IN.")
    ] = None,
    to_format: Annotated[
        str | None, typer.Option("--to", help="The same; by default the suffix of OUT decides.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="The scan of the boxes, or a folder with CASE.nii.gz for each case."),
    ] = None,
    frame: Frame = None,
    axis_order: AxisOrder = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Table of a label map's scores, if it is not beside the map."),
    ] = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert boxes from one format into another.

    json           softoverlap: voxels, with the affine (the default for .json)
    monai          MONAI's lists: world boxes cccwhd in mm, many cases (.json)
    nndetection    x1 y1 x2 y2 z1 z2 with reversed axes (.npz, .json)
    coco           x y w h, many cases (.json)
    csv            one row per box, many cases (.csv); cases without boxes are
                   left out and listed; also reads LUNA16's annotations.csv
    slicer         3D Slicer's markups, in LPS mm (.mrk.json)
    labelmap       one value per lesion, scores in a table (.nii.gz)

    Pass what a file does not say itself: the format of a folder, the --frame of
    MONAI's lists, the --axis-order of COCO, and the --image of boxes in mm. If a
    file cannot be read, the command names it, goes on with the others and exits
    with status 1.

    softoverlap convert found/sub-01_boxes.json sub-01.mrk.json
    softoverlap convert found all.json --from json --to coco
    softoverlap convert luna.json boxes --to json --frame LPS --image scans
    """
    from softoverlap._checks import check_choice
    from softoverlap.images import FORMATS, check_written

    for option, name in (("from_format", from_format), ("to_format", to_format)):
        if name is not None:
            check_choice(option, name, FORMATS)
    paths = _inputs(source, from_format)
    if len(paths) > 1 and image is not None and image.is_file():
        raise ValueError(f"--image must be a folder of scans for {len(paths)} files, got {image}")
    to, one_file = _target(output, to_format)
    frame = None if frame is None else frame.upper()
    options = {"image": image, "frame": frame, "axis_order": axis_order}
    batch = Batch()
    files = _read_all(paths, batch, format=from_format, score_table=scores, **options)
    if not (files or batch.failed):
        raise ValueError(f"IN must hold boxes of a case, found none in {source}")
    places = targets(files, output, to, one_file=one_file)
    check_written(files_of(places, to), _read_too(paths, image, scores), overwrite=overwrite)
    written = _write_all(places, batch, dry_run, one_file=one_file, format=to, **options)
    place = output if written and not dry_run else None
    batch.summary(written, "file", place, "would be written" if dry_run else "written")
    if to == "csv" and one_file:
        _say_dropped(files)
    if batch.failed:
        raise typer.Exit(SOME_FAILED)


def _say_dropped(files: dict[str, BoxFile]) -> None:
    """List the cases without boxes, which a table cannot hold."""
    dropped = [case for case, file in files.items() if not len(file.boxes)]
    if dropped:
        say(f"not in the table, since they have no boxes: {', '.join(dropped)}")


def _read_too(paths: list[Path], *more: Path | None) -> list[Path]:
    """All files that may be read: the inputs, the tables of label maps, and the scans."""
    from softoverlap.images import tables_beside

    named = [path for path in more if path is not None]
    inside = [file for folder in named if folder.is_dir() for file in folder.iterdir()]
    return [*paths, *(table for path in paths for table in tables_beside(path)), *named, *inside]


def _inputs(source: str, from_format: str | None) -> list[Path]:
    """The files to read; in a folder or pattern, those of the named format."""
    from softoverlap.images import FORMATS, find_files

    if from_format is None:
        if Path(source).is_dir():
            raise ValueError(f"--from must name the format of the files in the folder {source}")
        suffixes, without = [end for kind in FORMATS.values() for end in kind.suffixes], ()
    else:
        suffixes = list(FORMATS[from_format].suffixes)
        without = () if from_format == "slicer" else (".mrk.json",)
    return find_files([source], suffixes, "source", without=without)


def _target(output: Path, to_format: str | None) -> tuple[str, bool]:
    """The format to write, and whether OUT is one file."""
    from softoverlap.images import FORMATS, format_to_write

    suffixes = tuple(end for kind in FORMATS.values() for end in kind.suffixes)
    if output.is_dir() or not output.name.lower().endswith(suffixes):
        if to_format is None:
            raise ValueError(f"--to must name the format of the files in the folder {output}")
        check_folder(output)
        return to_format, False
    return format_to_write(output, to_format), True


def _read_all(paths: list[Path], batch: Batch, **options: Any) -> dict[str, BoxFile]:
    from softoverlap.images import read_box_files

    files: dict[str, BoxFile] = {}
    origin: dict[str, Path] = {}

    def work(path: Path) -> int:
        by_case = read_box_files(path, **options)
        for case in by_case:
            if case in origin:
                raise ValueError(f"{path} must not repeat the case {case} of {origin[case]}")
        origin.update(dict.fromkeys(by_case, path))
        files.update(by_case)
        return sum(len(file.boxes) for file in by_case.values())

    with CountBar("read", len(paths)) as bar:
        for path in paths:
            batch.attempt(lambda p=path: work(p), bar, path.name)
    return files


def _write_all(
    places: dict[Path, dict[str, BoxFile]],
    batch: Batch,
    dry_run: bool,
    *,
    one_file: bool,
    **options: Any,
) -> int:
    """Number of files written, or that would be."""
    from softoverlap.images import write_box_files

    known = len(batch.failed)

    def work(place: Path, files: dict[str, BoxFile]) -> int:
        if not dry_run:
            if not one_file:
                place.parent.mkdir(parents=True, exist_ok=True)
            write_box_files(place, files, **options)
        return sum(len(file.boxes) for file in files.values())

    with CountBar("would write" if dry_run else "write", len(places)) as bar:
        for place, files in places.items():
            batch.attempt(lambda p=place, f=files: work(p, f), bar, str(place))
    return len(places) - (len(batch.failed) - known)
