"""The commands `train`, `demo` and `phantoms`.

What takes seconds to import is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.cases import (
    check_folder,
    check_lesions,
    free_checkpoint,
    is_finished,
    is_judged,
    load,
    threshold_or_rule,
    validate,
    write_validation,
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
from softoverlap.app.cli.data_sets import (
    FoldNumber,
    Folds,
    Frame,
    ImageFolder,
    LayoutName,
    check_fold,
    list_cases,
    show_fold,
    split,
)
from softoverlap.app.cli.interrupts import stop_if_interrupted
from softoverlap.app.cli.reading import reads_files

Seed = Annotated[int, typer.Option(min=0, help="Seed of weights, patches and phantoms.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Patch = Annotated[int, typer.Option(help="Voxels along each edge of a patch, a multiple of 8.")]
Batch = Annotated[int, typer.Option(min=1, help="Patches per step.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of the optimizer.")]
AtScore = Annotated[
    str,
    typer.Option(
        help="How the score threshold is chosen: f1 (highest F1), fp:1 (at most one false positive "
        "a scan, or another number), or the threshold itself."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]


@app.command()
@one_line_errors
@reads_files
def train(
    data: Annotated[Path, typer.Option(help="Folder of a layout above, or a list of boxes.")],
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("runs/train"),
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only read every case, and list its contents and problems."),
    ] = False,
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of patients to validate on; 0 for none.")
    ] = 0.2,
    folds: Folds = None,
    fold: FoldNumber = None,
    layout: LayoutName = None,
    images: ImageFolder = None,
    frame: Frame = None,
    threshold: Annotated[
        float, typer.Option(help="Lowest probability inside a lesion, in (0, 1].")
    ] = 0.5,
    steps: Steps = 1500,
    minutes: Annotated[
        float | None, typer.Option(help="Time limit; the learning rate falls accordingly.")
    ] = None,
    patch: Patch = 48,
    batch: Batch = 4,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of AdamW.")] = 1.5e-3,
    intensity: Annotated[
        str,
        typer.Option(help="Normalise each scan by itself (scan: MR) or all alike (fixed: CT)."),
    ] = "scan",
    at_score: AtScore = "f1",
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

    nnU-Net (imagesTr/, labelsTr/, dataset.json), the Medical Segmentation
    Decathlon, BIDS (sub-*/anat/, derivatives/) and MONAI's detection lists (a
    .json file) are recognised too. --dry-run reads several channels and classes;
    this training takes one of each.

    A lesion is a connected component of the voxels at or above --threshold. With
    raters, lesions are where any rater marked one, and masks/ only gives the
    probabilities there; a warning names cases where the two disagree.

    Scans of one patient are never split between training and validation. Without
    patients.csv, the patient is the part of CASE that starts with sub-, otherwise
    everything up to the first part between underscores that contains a digit:
    sub-01 for sub-01_ses-1, pat03 for pat03_t2, but scan1 for scan1_pat03. Scans
    without lesions can be used. --folds 5 --fold 0 trains on four fifths of the
    patients and validates on the others. Folds are those of splits_final.json in
    FOLDER, as nnU-Net writes it; without it they are drawn, alike for every
    --seed, and written to OUTPUT/splits_final.json.

    Scans are not reoriented: store all of them, also those to detect in, with the
    same axis order. A warning names the scans that differ.

    OUTPUT/checkpoint.pt holds all that `softoverlap detect` needs, including
    spacing, intensities and the score threshold. The threshold is chosen on the
    scans to validate on, without any on scans that were trained on, which is
    optimistic. OUTPUT/validation.json says how good the detector is there, at this
    threshold and at others. Ctrl-C keeps the checkpoint after the step in hand, and --resume
    continues from it.

    softoverlap train --data FOLDER --dry-run
    softoverlap train --data FOLDER --output runs/mine --minutes 60 --resume
    softoverlap train --data FOLDER --output runs/fold0 --folds 5 --fold 0
    """
    from softoverlap.app.train import (
        TrainingConfig,
        check_trainable,
        keep_threshold,
        pick_device,
        train as run_training,
    )
    from softoverlap.images import find_cases

    at = threshold_or_rule(at_score)
    config = TrainingConfig(
        patch_size=patch, batch_size=batch, steps=steps, max_minutes=minutes, seed=seed,
        learning_rate=learning_rate, intensity=intensity, mask_threshold=threshold,
    )  # fmt: skip
    check_fold(folds, fold)
    if dry_run:
        table = find_cases(data, layout=layout, images=images, frame=frame)
        whole = list_cases(table, config)
        show_fold(table, data, folds, fold)
        if not whole:
            raise typer.Exit(SOME_FAILED)
        return
    checkpoint = free_checkpoint(output, resume=resume, overwrite=overwrite)
    pick_device(device)
    table = find_cases(data, layout=layout, images=images, frame=frame)
    check_trainable(table)
    parts = split(table, validation, seed, data=data, folds=folds, fold=fold)
    cases, held_out = parts.train, parts.validation
    if (
        resume
        and is_finished(checkpoint, config, [case.name for case in cases])
        and is_judged(checkpoint, at, output / "validation.json" if held_out else None)
    ):
        return
    scans = load([*cases, *held_out], config)
    scans, unseen = scans[: len(cases)], scans[len(cases) :]
    check_lesions(scans, config)
    output.mkdir(parents=True, exist_ok=True)
    parts.write(output)
    with TrainingBar() as bar:
        model = run_training(
            scans, config, device=device, checkpoint=checkpoint, resume=resume,
            overwrite=overwrite, progress=bar,
        )  # fmt: skip
    model, result = validate(model, scans, unseen, at)
    keep_threshold(checkpoint, model)
    say(f"checkpoint: {checkpoint}")
    if unseen:
        write_validation(output, result)


@app.command()
@one_line_errors
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/demo"),
    seed: Seed = 0,
    minutes: Annotated[float, typer.Option(help="Longest training time.")] = 4.5,
    fast: Annotated[
        bool, typer.Option("--fast", help="Few scans and steps: a quick check, not a result.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimizer.")] = None,
    patch: Annotated[int | None, typer.Option(help="Edge of a patch, a multiple of 8.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches per step.")] = None,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train and test on simulated scans, in about six minutes on two cores.

    Writes simulated scans (phantoms) as NIfTI, trains on some, chooses the score
    threshold on others, finds lesions in unseen ones, and compares with an
    untrained network and an intensity threshold.
    All files are in the output folder; they replace those of an earlier demo. The
    same seed and options give the same results:

    report.html, results/               the report page, and its data
    metrics.json, froc.csv, froc.png    how well lesions were found
    detections.csv, lesions.csv         all boxes and all lesions
    overlays/                           soft contours, true and predicted boxes
    detections/                         boxes for 3D Slicer, heat maps as NIfTI
    phantoms/, checkpoint.pt            the simulated scans, and the detector

    All figures are those of `softoverlap score`, here, in metrics.json and on the
    page: a box hits a lesion if the IoU of their boxes is at least 0.1, and a lesion
    counts by the share of raters that marked it (in average precision each counts
    1). Where time ended the training before its last step, that is said.

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
        say("--fast: a quick check, not a result")
    training = result.metrics["training"]
    cut = "" if training["stopped_by"] == "steps" else ", cut short by --minutes"
    done = f"trained {training['steps']} of {training['planned']} steps"
    say(f"{done} in {clock(training['seconds'])}{cut}; all in {output}")
    say(f"open {output / 'report.html'} in a browser")


@app.command()
@one_line_errors
def phantoms(
    output: Annotated[Path, typer.Option(help="Folder for the scans, with the layout of `train`.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scans.")] = 8,
    seed: Seed = 0,
) -> None:
    """Write simulated scans with soft masks and raters, to train on or to look at.

    The same seed gives the same scans. Incomplete cases in the folder are written
    again. A folder with phantoms of other settings is an error. Ctrl-C keeps
    the finished cases, and the same command continues with the others.

    softoverlap phantoms --output phantoms --count 8
    softoverlap train --data phantoms --dry-run
    """
    from softoverlap.images import write_phantoms

    check_folder(output)
    with CountBar("phantom", count, quiet=True) as bar:
        write_phantoms(output, count, seed, progress=bar)
    say(f"{plural(count, 'phantom')} in {output}")
