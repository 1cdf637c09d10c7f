"""The command `plan`: from a training folder to anchors, and to the settings that go with them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from softoverlap._units import MAX_LESION_MM
from softoverlap.app.cli.app import app
from softoverlap.app.cli.console import (
    SOME_FAILED,
    CountBar,
    console,
    message_of,
    one_line_errors,
    plural,
    say,
)
from softoverlap.app.cli.data_sets import (
    FoldNumber,
    Folds,
    Frame,
    ImageFolder,
    LayoutName,
    check_fold,
    say_split,
)
from softoverlap.app.cli.reading import reads_files

if TYPE_CHECKING:
    from softoverlap.app.train import PlannedScans, ScanFacts
    from softoverlap.images import Case, CaseTable, Split


@app.command()
@one_line_errors
@reads_files
def plan(
    data: Annotated[
        Path, typer.Option(help="Folder of a layout that `train` reads, or a list of boxes.")
    ],
    output: Annotated[Path, typer.Option(help="File for the plan.")] = Path("plan.json"),
    layout: LayoutName = None,
    images: ImageFolder = None,
    frame: Frame = None,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            help="Share of patients that `train` validates on, left out here; 0 for none.  "
            "\\[default: 0.2]",
        ),
    ] = None,
    folds: Folds = None,
    fold: FoldNumber = None,
    axes: Annotated[
        str, typer.Option(help="Where the voxel axes of the training point; scans are turned.")
    ] = "RAS",
    max_anchors_per_voxel: Annotated[
        float, typer.Option(help="Most anchors a voxel; more cover lesions better and cost time.")
    ] = 0.55,
    threshold: Annotated[
        float, typer.Option(help="Lowest probability inside a lesion, in (0, 1].")
    ] = 0.5,
    patch: Annotated[
        int | None,
        typer.Option(help="Voxels along each edge of a patch; by default as the scans ask for."),
    ] = None,
    step_memory: Annotated[
        float, typer.Option(help="Memory that a step of the training may take, in GB.")
    ] = 4.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier plan.")
    ] = False,
) -> None:
    """Plan anchors, patches and sampling by the lesions of your scans.

    Anchors are chosen by exact soft overlap: of all candidate strides and shapes
    those that cover the lesions best, with at most --max-anchors-per-voxel. It
    prints the plan and the best overlap (soft Dice) that an anchor can have with
    the lesions of each size class, beside that of any box.

    OUTPUT is JSON: axes, spacing, patch_size, strides, sizes, batch_size,
    foreground (the share of patches around a lesion), expected_quality. It may be
    edited; every field is checked when it is read. Scans may be stored with any
    order of axes: all are turned to --axes first, as the bundle does. A picture
    beside it, OUTPUT with .png, shows lesions of each class with their best
    anchors, if the extra `report` of this package is installed.

    The plan is made of the scans that `train` trains on. Those to validate on are
    left out, so that figures of validation come from scans that nothing was
    fitted to: give --validation, --folds and --fold as you give them to `train`.
    All scans of a folder with one patient are planned for.

    A case that cannot be read is named, the others are planned for, and the
    status is 1. Lesions with an edge above 32 mm are left out, as in scoring.

    softoverlap plan --data FOLDER --output plan.json
    softoverlap plan --data FOLDER --output fine.json --max-anchors-per-voxel 2
    softoverlap plan --data FOLDER --output fold0.json --folds 5 --fold 0
    """
    from softoverlap._checks import check_axes
    from softoverlap.app.train import plan_scans
    from softoverlap.images import check_written, find_cases, write_json

    check_axes(axes, 3)
    check_fold(folds, fold)
    table = find_cases(data, layout=layout, images=images, frame=frame)
    if not table.cases:
        raise ValueError("--data must hold at least one scan with a mask or raters, found none")
    if output.suffix == ".png":
        raise ValueError(f"--output must be a JSON file, got {output}")
    picture = output.with_suffix(".png") if find_spec("matplotlib") else None
    written = [output] if picture is None else [output, picture]
    check_written(written, _files(data, table), overwrite=overwrite)
    split = _split(table, data, validation, folds, fold)
    say_split(table, split)
    cases = [case for case in table.cases if case.name in split.fold.train]
    scans, failed = _read(cases, threshold, axes)
    planned = plan_scans(
        scans, max_anchors_per_voxel=max_anchors_per_voxel, patch_size=patch, memory_gb=step_memory
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, planned.plan.to_dict())
    say_plan(planned, len(scans))
    if picture is not None:
        _draw(planned, picture)
    say(f"plan: {output}" + ("" if picture is None else f"; picture: {picture}"))
    if failed:
        say(f"{failed} of {plural(len(cases), 'case')} could not be read, see above")
        raise typer.Exit(SOME_FAILED)


def _files(data: Path, table: CaseTable) -> list[Path]:
    """All files that are read, and those that describe the data set where it has them."""
    about = [data, data / "dataset.json", data / "patients.csv"]
    return about + [path for case in table.cases for path in _files_of(case)]


def _files_of(case: Case) -> list[Path]:
    truth = [case.mask, *case.raters, *(one.path for one in (case.labels, case.boxes) if one)]
    return [*case.images, *(path for path in truth if path)]


def _split(
    table: CaseTable, data: Path, validation: float | None, folds: int | None, fold: int | None
) -> Split:
    """The split of a training with the same options."""
    from softoverlap.app.train import data_settings, training_config, training_split

    if validation is None and len({case.patient for case in table.cases}) == 1:
        validation = 0.0  # a training on one patient validates on nobody
    options = {"validation": validation, "folds": folds, "fold": fold}
    settings = {name: value for name, value in options.items() if value is not None}
    asked = data_settings(training_config(data, "", settings=settings))
    return training_split(table, data, asked)


def _read(cases: list[Case], threshold: float, axes: str) -> tuple[list[ScanFacts], int]:
    """What is known of each scan, and the number of those that cannot be read."""
    scans: list[ScanFacts] = []
    with CountBar("reading", len(cases)) as bar:
        for case in cases:
            facts, notes = _opened(case, threshold, axes)
            bar(f"{case.name}, {plural(len(facts.lesions), 'lesion') if facts else 'failed'}")
            for note in notes:
                say(f"{'warning' if facts else 'failed'}: {note}")
            scans += [facts] if facts else []
    if not scans:
        raise ValueError(f"none of {plural(len(cases), 'case')} can be read, see above")
    if not any(scan.lesions for scan in scans):
        raise ValueError(
            f"plan needs at least one lesion in {plural(len(scans), 'scan')}, found none at "
            f"--threshold {threshold:g}: every mask is empty or named above"
        )
    return scans, len(cases) - len(scans)


def _opened(case: Case, threshold: float, axes: str) -> tuple[ScanFacts | None, list[str]]:
    """What is known of a case and notes about it, or None and the error."""
    from softoverlap.app.train import scan_facts
    from softoverlap.images import load_case

    try:
        loaded = load_case(case, threshold=threshold)
        return scan_facts(loaded, axes=axes), list(loaded.notes)
    except (ValueError, OSError) as error:
        return None, [message_of(error)]


def say_plan(planned: PlannedScans, scans: int) -> None:
    """Print the plan, and what it reaches in each size class."""
    plan, wide = planned.plan, planned.step_bytes / 1e9
    say(f"axes: {plan.axes}")
    say(f"spacing: {_by(plan.spacing)} mm, the median of {plural(scans, 'scan')}")
    for number, (stride, shapes) in enumerate(zip(plan.strides, plan.sizes, strict=True), start=1):
        edges = ", ".join(_by(shape) for shape in shapes)
        say(f"level {number}: stride {_by(stride)}, {plural(len(shapes), 'shape')}: {edges}")
    say(f"anchors: {plan.anchors_per_voxel:.3g} a voxel")
    say(f"patch: {_by(plan.patch_size)} voxels, {plan.batch_size} in a step, about {wide:.2g} GB")
    say(
        f"sampling: {100 * (plan.foreground or 0):.0f} % of the patches around a lesion, since a "
        f"patch anywhere shows one in {100 * planned.shown:.0f} %"
    )
    if planned.too_large:
        most = f"{MAX_LESION_MM:g} mm"
        say(f"left out: {plural(planned.too_large, 'lesion')} with an edge above {most}")
    if plan.ndim == 2:
        say("note: the bundle lesion_detection trains in 3D only; this plan is in 2D")
    table = Table(
        title=f"Best soft Dice of {plural(len(planned.lesions), 'lesion')} with an anchor"
    )
    table.add_column("size")
    for name in ("lesions", "median", "mean", "any box, median", "share of any box"):
        table.add_column(name, justify="right")
    for name, figures in (plan.expected_quality or {}).items():
        row = [figures.get(key) for key in ("median", "mean", "any_box_median", "share_of_any_box")]
        cells = ["–" if value is None else f"{value:.2f}" for value in row]
        table.add_row(name, f"{figures['lesions']}", *cells)
    Console(width=None if console.is_terminal else 120, highlight=False).print(table)


def _by(numbers: object) -> str:
    """`2 x 2 x 1`."""
    return " x ".join(f"{number:g}" for number in numbers)  # pyright: ignore


def _draw(planned: PlannedScans, picture: Path) -> None:
    from softoverlap.app.report import plot_plan, save_figure

    figure = plot_plan(planned.plan, planned.lesions, planned.quality, planned.classes)
    save_figure(figure, picture)
