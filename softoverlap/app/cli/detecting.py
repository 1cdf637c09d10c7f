"""The commands `train`, `detect`, `demo` and `phantoms`.

What takes seconds to import is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.cases import (
    check_checkpoint,
    check_folder,
    check_lesions,
    free_checkpoint,
    is_finished,
    limit_boxes,
    list_cases,
    load,
    split,
    validate,
)
from softoverlap.app.cli.console import (
    SOME_FAILED,
    CountBar,
    TrainingBar,
    clock,
    one_line_errors,
    plural,
    print_evaluations,
    say,
)
from softoverlap.app.cli.interrupts import stop_if_interrupted

Seed = Annotated[int, typer.Option(min=0, help="Seed of weights, patches and phantoms.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Patch = Annotated[int, typer.Option(help="Voxels along each edge of a patch, a multiple of 8.")]
Batch = Annotated[int, typer.Option(min=1, help="Patches in a step.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of the optimizer.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]


@app.command()
@one_line_errors
def train(
    data: Annotated[Path, typer.Option(help="Folder in the layout above.")],
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("runs/train"),
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only open every case, and list what is in it and what is wrong."
        ),
    ] = False,
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of patients to validate on; 0 for none.")
    ] = 0.2,
    threshold: Annotated[
        float, typer.Option(help="Lowest probability inside a lesion, in (0, 1].")
    ] = 0.5,
    steps: Steps = 1500,
    minutes: Annotated[
        float | None, typer.Option(help="Time limit; the learning rate comes down in time.")
    ] = None,
    patch: Patch = 48,
    batch: Batch = 4,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of AdamW.")] = 1.5e-3,
    intensity: Annotated[
        str,
        typer.Option(help="Normalise by each scan (scan: MR) or by the training set (fixed: CT)."),
    ] = "scan",
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a lesion detector on your own scans.

    Layout of FOLDER:

    images/CASE.nii.gz           the scan; also .nii, .nrrd, .mha or .mhd
    masks/CASE.nii.gz            its soft mask, probabilities in [0, 1]
    raters/CASE_rater1.nii.gz    one mask per rater; then masks/ may be missing
    patients.csv                 optional: columns case, patient

    A lesion is a component of the voxels at --threshold or above. With raters
    it is where any of them marked one: they win over masks/, which then only
    gives the probabilities there; a warning names cases where both disagree.

    Scans of one patient never fall on both sides of the split. Without
    patients.csv, the patient is the part of CASE that starts with sub-, else
    all up to the first part between underscores that holds a digit: sub-01_ses-1
    is of sub-01, pat03_t2 of pat03, but scan1_pat03 of scan1. Scans without
    lesions are welcome.

    Scans are not reoriented: store all in one axis order, those to detect in
    too. A warning names the scans that differ.

    OUTPUT/checkpoint.pt holds all that `softoverlap detect` needs, spacing and
    intensities included. Ctrl-C keeps it after the step in hand, and --resume
    goes on from it.

    softoverlap train --data FOLDER --dry-run
    softoverlap train --data FOLDER --output runs/mine --minutes 60
    softoverlap train --data FOLDER --output runs/mine --minutes 60 --resume
    """
    from softoverlap.app.train import TrainingConfig, pick_device, train as run_training
    from softoverlap.images import find_cases

    config = TrainingConfig(
        patch_size=patch, batch_size=batch, steps=steps, max_minutes=minutes, seed=seed,
        learning_rate=learning_rate, intensity=intensity, mask_threshold=threshold,
    )  # fmt: skip
    if dry_run:
        if not list_cases(find_cases(data), threshold):
            raise typer.Exit(SOME_FAILED)
        return
    checkpoint = free_checkpoint(output, resume=resume, overwrite=overwrite)
    pick_device(device)
    cases, held_out = split(find_cases(data), validation, seed)
    judged = not held_out or (output / "validation.json").exists()
    if resume and is_finished(checkpoint, config, [case.name for case in cases]) and judged:
        return
    scans = load([*cases, *held_out], threshold)
    scans, unseen = scans[: len(cases)], scans[len(cases) :]
    check_lesions(scans, threshold)
    output.mkdir(parents=True, exist_ok=True)
    if overwrite:
        checkpoint.unlink(missing_ok=True)
    with TrainingBar() as bar:
        model = run_training(
            scans, config, device=device, checkpoint=checkpoint, resume=resume, progress=bar
        )
    say(f"checkpoint: {checkpoint}")
    if unseen:
        validate(model, unseen, output)


@app.command()
@one_line_errors
def detect(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of `softoverlap train`.")],
    images: Annotated[
        list[str], typer.Argument(help="Scans: files, folders, or patterns in quotes.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the results.")],
    score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least score of a box; by default the checkpoint's."),
    ] = None,
    max_boxes: Annotated[int, typer.Option(min=1, help="Most boxes of a scan.")] = 300,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Find lesions in scans, with or without labels.

    Reads NIfTI, NRRD, MHA, MHD and folders with one DICOM series. For each scan, on its own grid:

    SCAN_boxes.json        boxes in voxels, with scores
    SCAN_boxes.mrk.json    the same for 3D Slicer
    SCAN_heatmap.nii.gz    highest score at each voxel

    Boxes come with every score down to the checkpoint's floor (0.02 as train
    sets it): raise --score for fewer. The heat map is interpolated between
    places, so its peaks are a little lower than the best box's score.

    For all together: detections.csv and scans.csv. A scan that cannot be read
    is noted there, the others go on, and the exit status is 1. A scan of one
    value alone is noted too, and has no boxes. With --overwrite the results
    that an earlier scans.csv lists in the folder are removed first.

    softoverlap detect runs/mine/checkpoint.pt scan.nii.gz --output found
    softoverlap detect runs/mine/checkpoint.pt "scans/*_flair.nii.gz" --output found
    """
    from softoverlap.app.train import FileResult, detect_files, find_scans, load_checkpoint

    check_folder(output)
    check_checkpoint(checkpoint)
    scans = find_scans(images)
    model = load_checkpoint(checkpoint, device=device)
    limit_boxes(model, score, max_boxes)
    with CountBar("scan", len(scans)) as bar:

        def report(result: FileResult) -> None:
            number = 0 if result.found is None else len(result.found.box)
            boxes = f"{number} box" if number == 1 else f"{number} boxes"
            bar(f"{result.path.name}: {result.error or boxes}")
            if result.note:
                say(f"warning: {result.path.name}: {result.note}")

        results = detect_files(model, scans, output, overwrite=overwrite, progress=report)
    failed = [result for result in results if not result.ok]
    say(
        f"{plural(len(results) - len(failed), 'scan')} done, {len(failed)} failed; "
        f"results in {output}"
    )
    for result in failed:
        say(f"failed: {result.error}")
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command()
@one_line_errors
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/demo"),
    seed: Seed = 0,
    minutes: Annotated[float, typer.Option(help="Longest training.")] = 4.5,
    fast: Annotated[
        bool, typer.Option("--fast", help="A few scans and steps: a check, not a result.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimizer.")] = None,
    patch: Annotated[int | None, typer.Option(help="Edge of a patch, a multiple of 8.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches in a step.")] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """The whole path on simulated scans, in about six minutes on two cores.

    Writes phantoms as NIfTI, trains on them, finds lesions in unseen ones, and
    compares with an untrained network and with a plain intensity threshold.
    Everything lies in the output folder, in place of an earlier demo's results,
    which the same seed and options bring back:

    report.html, results/               the page of it all, and what it was made from
    metrics.json, froc.csv, froc.png    how well the lesions were found
    detections.csv, lesions.csv         every box and every lesion
    overlays/                           soft contours, true and found boxes
    detections/                         boxes for 3D Slicer, heat maps as NIfTI
    phantoms/, checkpoint.pt            what it learned from, and what it learned

    The page's figures are those of `softoverlap score`: a hit is a soft IoU of
    box and raters' mean of 0.1, and lesions count by the share of raters that
    marked them. In metrics.json a hit is a box IoU of 0.1, and lesions count 1.

    softoverlap demo
    softoverlap demo --seed 1 --output runs/demo1
    softoverlap demo --device cuda --patch 96 --output runs/demo_gpu
    """
    from softoverlap.app.demo import DemoOptions, run_demo

    check_folder(output)
    options = DemoOptions.fast(seed) if fast else DemoOptions(seed=seed)
    options = options.with_training(
        max_minutes=minutes, steps=steps, patch_size=patch, batch_size=batch
    )

    def tell(part: str) -> None:
        stop_if_interrupted()
        say(part)

    with TrainingBar() as bar:
        result = run_demo(output, options, device=device, resume=resume, say=tell, progress=bar)
    print_evaluations(result.evaluations)
    if fast:
        say("--fast: a check of the path, not a result")
    training = result.metrics["training"]
    say(f"trained {training['steps']} steps in {clock(training['seconds'])}; all in {output}")
    say(f"open {output / 'report.html'} in a browser")


@app.command()
@one_line_errors
def phantoms(
    output: Annotated[Path, typer.Option(help="Folder for the scans, in the layout of `train`.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scans.")] = 8,
    seed: Seed = 0,
) -> None:
    """Write simulated scans with soft masks and raters, to train on or to look at.

    A case that is not complete in the folder is written anew without asking:
    the same seed gives the same scans. A folder of other settings is refused.
    Ctrl-C keeps the finished cases, and the same command goes on from there.

    softoverlap phantoms --output phantoms --count 8
    softoverlap train --data phantoms --dry-run
    """
    from softoverlap.images import write_phantoms

    check_folder(output)
    with CountBar("phantom", count, quiet=True) as bar:
        write_phantoms(output, count, seed, progress=bar)
    say(f"{plural(count, 'phantom')} in {output}")
