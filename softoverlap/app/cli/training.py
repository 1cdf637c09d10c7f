"""The command `train`: the bundle with a plan and the command's options filled in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.cases import check_folder, threshold_or_rule
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
    say_split,
    show_split,
)
from softoverlap.app.cli.interrupts import finish_first
from softoverlap.app.cli.options import AtScore, Device, Overwrite, Resume
from softoverlap.app.cli.reading import reads_files

if TYPE_CHECKING:
    from softoverlap.app.train import Trained, TrainingRun
    from softoverlap.images import LoadedCase


@app.command()
@one_line_errors
@reads_files
def train(
    data: Annotated[Path, typer.Option(help="Folder of a layout above, or a list of boxes.")],
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/train"),
    plan: Annotated[Path | None, typer.Option(help="A plan of `softoverlap plan`.")] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(help="File of settings (YAML, JSON) that follows the bundle's train.yaml."),
    ] = None,
    chosen: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, such as max_epochs=50 or trainer#amp=false."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only read every case, and list its contents and problems."),
    ] = False,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.9, help="Share of patients to validate on, 0 for none.  \\[default: 0.2]"
        ),
    ] = None,
    folds: Folds = None,
    fold: FoldNumber = None,
    layout: LayoutName = None,
    images: ImageFolder = None,
    frame: Frame = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Lowest probability inside a lesion, in (0, 1].  \\[default: 0.5]"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the optimizer.  \\[default: 1500, without epochs]"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time limit, of a resumed run in all; the learning rate falls with it."),
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(help="Voxels along each edge of a patch.  \\[default: the plan's, or 48]"),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Patches per step.  \\[default: the plan's, or 4]")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", "--lr", help="Highest learning rate of AdamW.  \\[default: 0.0015]"
        ),
    ] = None,
    intensity: Annotated[
        str | None,
        typer.Option(help="Normalise each scan by itself (scan: MR) or all alike (fixed: CT)."),
    ] = None,
    at_score: AtScore = "f1",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights and patches.  \\[default: 0]")
    ] = None,
    device: Device = "auto",
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Train without cases that cannot be used; status 1."),
    ] = False,
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
    .json file) are recognised too, with several channels and classes.

    A lesion is a connected component of the voxels at or above --threshold. With
    raters, lesions are where any rater marked one, and masks/ only gives the
    probabilities there; a warning names cases where the two disagree.

    All scans are read before the first step. A case that cannot be used stops the
    training there, after all of them are named; with --skip-damaged it trains on
    the others, OUTPUT/failed.csv lists them, and the status is 1.

    Scans of one patient are never split between training and validation. Without
    patients.csv, the patient is the part of CASE that starts with sub-, otherwise
    everything up to the first part between underscores that contains a digit:
    sub-01 for sub-01_ses-1, pat03 for pat03_t2, but scan1 for scan1_pat03. Scans
    without lesions can be used. --folds 5 --fold 0 trains on four fifths of the
    patients and validates on the others. Folds are those of splits_final.json in
    FOLDER, as nnU-Net writes it; without it they are drawn, alike for every
    --seed, and written to OUTPUT/folds/splits_final.json.

    The training is the bundle lesion_detection of this package under MONAI's
    engines. --plan gives it anchors, patches and sampling that fit your lesions.
    Every part of it can be exchanged by --config and --set, which take names of
    the bundle's train.yaml: matcher, overlap, losses, network, augmentation.
    Later ones win: plan, files, options, --set.

    OUTPUT holds checkpoint.pt, which `softoverlap detect` takes, best.pt and
    last.pt, curve.csv, the detections of the held-out scans in evaluation/, and
    validation.json, which says how good the detector is there. A checkpoint keeps
    weights and settings, no parts: a network, detector or preparation of your own
    goes with it to `softoverlap detect`, in a file for --config. The score
    threshold is chosen on the scans to validate on. With --validation 0, it is
    chosen on up to 20 scans that were trained on, which is optimistic, and
    evaluation/ holds the detections of those. Ctrl-C stops after the step in
    hand, and --resume goes on from the last epoch.

    softoverlap train --data FOLDER --dry-run
    softoverlap train --data FOLDER --plan plan.json --minutes 60
    softoverlap train --data FOLDER --output runs/fold0 --folds 5 --fold 0
    softoverlap train --data FOLDER --set matcher#num_candidates=9
    """
    from softoverlap.app.train import TrainingRun, data_settings, pick_device, training_config

    at = threshold_or_rule(at_score)
    check_fold(folds, fold)
    check_folder(output)
    pick_device(device)
    options = {
        "validation": validation, "folds": folds, "fold": fold, "layout": layout, "frame": frame,
        "images": images and str(images), "threshold": threshold, "steps": steps,
        "minutes": minutes, "patch_size": patch and [patch] * 3, "batch_size": batch,
        "learning_rate": learning_rate, "seed": seed,
    }  # fmt: skip
    settings = {name: value for name, value in options.items() if value is not None}
    settings |= _intensity(intensity) | _named(chosen or [])
    if dry_run:
        made = training_config(data, output, plan=plan, config=config or [], settings=settings)
        _show(data, data_settings(made))
        return
    run = TrainingRun(
        data, output, plan=plan, config=config or [], settings=settings, device=device,
        skip_damaged=skip_damaged,
    )  # fmt: skip
    run.claim(resume=resume, overwrite=overwrite)
    say_split(run.table, run.split)
    if run.is_finished():
        _say_finished(run)
    else:
        if not run.resuming:
            _check(run)
        with TrainingBar() as bar:
            training = run.fit(bar)
        if training["stopped_by"] != "steps":
            say(_ended(training, minutes))
    if not run.is_judged(at):
        with CountBar("choosing the threshold", 1, quiet=True), finish_first("threshold"):
            trained = run.judge(at)
        _say_trained(trained, bool(run.split.fold.validation))
    if left := len(run.folder.damaged):
        say(f"{plural(left, 'case')} left out, see {run.folder.path / 'failed.csv'}")
        raise typer.Exit(SOME_FAILED)


def _show(data: Path, asked: dict[str, Any]) -> None:
    """What the training would read and learn from; status 1 if it could not."""
    from softoverlap.images import find_cases

    how = {name: asked[name] for name in ("layout", "images", "frame")}
    table = find_cases(data, **how)
    whole, lesions = list_cases(table, asked["threshold"])
    if table.cases:
        show_split(table, data, asked, lesions)
    if not whole:
        raise typer.Exit(SOME_FAILED)


def _intensity(method: str | None) -> dict[str, Any]:
    """What `train.yaml` calls it: None for each scan by itself."""
    from softoverlap._checks import check_choice

    if method is None:
        return {}
    check_choice("intensity", method, ("scan", "fixed"))
    return {"intensity": None if method == "scan" else method}


def _named(pairs: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` as settings; values are YAML, as in the files."""
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise ValueError(f"--set must be NAME=VALUE, got {pair}")
        try:
            settings[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            words = " ".join(str(error).split())
            raise ValueError(
                f"--set {name} must be a value in YAML, got {text}: {words}"
            ) from error
        if isinstance(settings[name], str):
            settings[name] = _number_or_text(settings[name])
    return settings


def _number_or_text(text: str) -> float | str:
    """YAML takes 1e-3 for a text, since it has no point."""
    try:
        return float(text)
    except ValueError:
        return text


def _check(run: TrainingRun) -> None:
    """Read all scans, and print what they hold; the error comes after all bad ones are named."""
    count = len(run.split.fold.train) + len(run.split.fold.validation)
    with CountBar("reading", count) as bar:

        def tell(name: str, case: LoadedCase | None, notes: list[str]) -> None:
            bar(f"{name}, {plural(len(case.lesions), 'lesion') if case else 'failed'}")
            for note in notes:
                say(f"{'warning' if case else 'failed'}: {note}")

        found = run.check(tell)
    for line in found.counts:
        say(line)
    for note in (*found.notes, *([found.few] if found.few else [])):
        say(f"warning: {note}")


def _say_finished(run: TrainingRun) -> None:
    training = run.folder.training
    steps, minutes = f"{training['steps']}/{training['planned']}", training["seconds"] / 60
    timed = training["stopped_by"] == "minutes"
    total = ", all of which --minutes counts" if timed else ""
    say(f"already {steps} steps in {minutes:.1f} minutes{total}: pass more to continue")


def _ended(training: dict[str, Any], minutes: float | None) -> str:
    """What ended the training before its last step."""
    steps = f"at {training['steps']} of {training['planned']} steps"
    if training["stopped_by"] == "minutes":
        which = "--minutes" if minutes is not None else "minutes"
        return f"stopped by {which} {steps}, after {clock(training['seconds'])}"
    return f"stopped {steps}, since validation gained nothing any more"


def _say_trained(trained: Trained, held_out: bool) -> None:
    rule, threshold = trained.model.threshold_rule, trained.model.score_threshold
    if threshold is None:
        say(f"score threshold: none, since no box hits a lesion ({rule})")
    else:
        say(f"score threshold: {threshold:.4g} ({rule})")
    say(f"checkpoint: {trained.checkpoint}")
    if held_out:
        of_classes = {f"  {name}": one for name, one in trained.evaluation.classes.items()}
        print_evaluations({"validation": trained.evaluation, **of_classes})
    else:
        folder = trained.checkpoint.parent / "evaluation"
        say(f"{folder} holds detections in scans that were trained on, since none is held out")
