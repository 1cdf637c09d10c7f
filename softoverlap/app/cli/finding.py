"""The command `detect`: lesions in scans, found by one detector or by several together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from softoverlap.app.cli.app import app
from softoverlap.app.cli.cases import check_checkpoint, check_folder, found_boxes, widen
from softoverlap.app.cli.console import SOME_FAILED, CountBar, one_line_errors, plural, say
from softoverlap.app.cli.options import Device, Overwrite
from softoverlap.app.cli.reading import reads_files


class _Separated(TyperCommand):
    """Lets `--` stand between two kinds of arguments, with options behind it too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [word for word in args if word != "--"])


@app.command(cls=_Separated)
@one_line_errors
@reads_files
def detect(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="Checkpoint of `softoverlap train` or of the bundle; more may follow."),
    ],
    images: Annotated[
        list[str], typer.Argument(help="Scans: files, folders, or patterns in quotes.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the results.")],
    score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Lowest score of a box; by default that of the checkpoint."
        ),
    ] = None,
    max_boxes: Annotated[int, typer.Option(min=1, help="Largest number of boxes per scan.")] = 300,
    config: Annotated[
        list[Path] | None,
        typer.Option(help="A file of your own that follows the bundle's inference.yaml."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Look at the eight flips of each scan too: slower.")
    ] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Find lesions in scans, with or without labels.

    Reads what `softoverlap inspect` reads. For each scan it writes, on the scan's
    grid:

    SCAN_boxes.json        boxes in voxels, with scores and the score threshold
    SCAN_boxes.mrk.json    those at or above the threshold, for 3D Slicer
    SCAN_heatmap.nii.gz    highest score at each voxel

    Boxes at or above the threshold that `softoverlap train` chose are findings;
    a checkpoint without one makes all of them findings. Candidates are written
    down to the lowest score of the checkpoint (0.02 if train made it), for curves
    over all thresholds: raise --score to get fewer. The heat map is interpolated, so its
    peaks are slightly lower than the score of the best box.

    The label of a box is the value of its class in the label maps of the training, or
    where they give it none the number of the class, from 0 on.

    Scans are brought to the axes and the spacing of the training, and results
    back. A checkpoint keeps the settings of its training, no parts: where you
    changed network, detector or preparation, give a file with the same change to
    inference.yaml by --config. Of several channels, each may have a file of its
    own: SCAN_0000.nii.gz, SCAN_0001.nii.gz.

    Further checkpoints, each a name that ends in .pt, such as those of the folds of
    a data set, are joined: boxes by weighted clustering, where a box that only some
    of them found loses score, heat maps and thresholds by their mean. --score and
    --max-boxes apply to the joined boxes. With --tta, what each finds in the scan and
    in its flips is joined in the same way.

    All scans share detections.csv and scans.csv. A scan that cannot be read gets
    an error there; the command goes on and exits with status 1. A scan whose
    voxels are all equal gets a note, and no boxes. --overwrite first removes the
    results that an earlier scans.csv lists in the folder.

    softoverlap detect runs/mine/checkpoint.pt scan.nii.gz --output found
    softoverlap detect runs/mine/checkpoint.pt "scans/*_flair.nii.gz" --output found
    softoverlap detect fold0/checkpoint.pt fold1/checkpoint.pt -- scans --output found
    softoverlap detect fold0/checkpoint.pt fold1/checkpoint.pt -- scans --tta --output found
    """
    from softoverlap.app.train import FileResult, detect_files, find_scans, load_checkpoint

    check_folder(output)
    checkpoints, images = _parted(checkpoint, images)
    for path in checkpoints:
        check_checkpoint(path)
    models = [load_checkpoint(path, device=device, config=config or ()) for path in checkpoints]
    widen(models, score, max_boxes)
    scans = find_scans(images, models[0].settings["in_channels"])
    with CountBar("scan", len(scans)) as bar:

        def report(result: FileResult) -> None:
            bar(f"{result.path.name}: {result.error or found_boxes(result.detections)}")
            if result.note:
                say(f"warning: {result.path.name}: {result.note}")

        results = detect_files(
            models, scans, output, score=score, max_boxes=max_boxes, tta=tta,
            overwrite=overwrite, progress=report,
        )  # fmt: skip
    failed = [result for result in results if not result.ok]
    say(
        f"{plural(len(results) - len(failed), 'scan')} done, {len(failed)} failed; "
        f"results in {output}"
    )
    for result in failed:
        say(f"failed: {result.error}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def _parted(checkpoint: Path, words: list[str]) -> tuple[list[Path], list[str]]:
    """Checkpoints and scans: those which follow the first and end in .pt are checkpoints too."""
    count = next((i for i, word in enumerate(words) if not word.lower().endswith(".pt")), None)
    if count is None:
        raise ValueError(f"IMAGES must name at least one scan, got only {', '.join(words)}")
    return [checkpoint, *map(Path, words[:count])], words[count:]
