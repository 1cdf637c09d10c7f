"""A training data set: what it holds, and which of its cases train and which validate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softoverlap.app.cli.console import CountBar, message_of, plural, say

if TYPE_CHECKING:
    from softoverlap.images import Case, CaseTable, LoadedCase, Split

Folds = Annotated[
    int | None, typer.Option(min=2, help="Number of folds by patient, of which --fold is trained.")
]
FoldNumber = Annotated[
    int | None, typer.Option(min=0, help="Validate on this fold, in place of --validation.")
]
LayoutName = Annotated[
    str | None, typer.Option(help="ours, nnunet, decathlon, bids or list; by default recognised.")
]
ImageFolder = Annotated[
    Path | None, typer.Option(help="Folder of the scans that a list of boxes names.")
]
Frame = Annotated[
    str | None, typer.Option(help="RAS or LPS, for a list of boxes that does not say it.")
]


def list_cases(table: CaseTable, threshold: float) -> tuple[bool, dict[str, int]]:
    """Read every case and print its contents, and every file that could not be paired.

    Returns:
        Whether all cases can be used, none lacks a channel, and there is at least one lesion; and
        the number of lesions of each case.
    """
    from softoverlap.app.train import no_lesion, read_case

    lines, bad = [], 0
    lesions: Counter[int] = Counter()
    of_cases: dict[str, int] = {}
    with CountBar("reading", len(table.cases), quiet=True) as bar:
        for case in table.cases:
            loaded, notes = read_case(case, threshold)
            bar(case.name)
            lines += [_line(case, loaded), *(f"    {note}" for note in notes)]
            bad += loaded is None
            found = [] if loaded is None else loaded.lesions
            lesions.update(lesion.label for lesion in found)
            of_cases[case.name] = len(found)
    describe(table)
    for line in lines:
        say(line)
    total = lesions.total()
    say(f"{plural(total, 'lesion')} at --threshold {threshold:g}")
    for label, name in enumerate(table.classes if len(table.classes) > 1 else ()):
        say(f"  {name}: {plural(lesions[label], 'lesion')}")
    say(f"{plural(len(table.unpaired), 'file')} not paired")
    for file in table.unpaired:
        say(f"  {file.path}: {file.reason}")
    for lost in table.incomplete:
        say(f"left out: {lost}")
    if bad:
        say(f"{bad} of {plural(len(table.cases), 'case')} cannot be used")
    elif not total:
        say(no_lesion(len(table.cases), threshold))
    return not bad and not table.incomplete and total > 0, of_cases


def describe(table: CaseTable) -> None:
    """Print layout, channels and classes, cases and patients, and what is odd about the whole."""
    from softoverlap.images import LAYOUTS

    say(f"layout: {LAYOUTS[table.layout].title}")
    channels, classes = table.channels or ("one",), table.classes
    say(f"channels: {', '.join(channels)}; classes: {', '.join(classes)}")
    say(patients(table))
    for note in table.notes:
        say(f"warning: {note}")


def _line(case: Case, loaded: LoadedCase | None) -> str:
    """One line about a case."""
    truth = f"{'mask' if case.mask else 'no mask'}, {plural(len(case.raters), 'rater')}"
    truth = "label map" if case.labels else "boxes" if case.boxes else truth
    files = f"  {case.name}: patient {case.patient}, {truth}"
    if loaded is None:
        return f"{files}, CANNOT BE USED:"
    shape = " x ".join(map(str, loaded.mask.shape))
    spacing = " x ".join(f"{edge:.3g}" for edge in loaded.spacing)
    count = len(loaded.channels)
    channels = f"{count} channels of " if count > 1 else ""
    lesions = plural(len(loaded.lesions), "lesion")
    return f"{files}, {channels}{shape} voxels of {spacing} mm, {lesions}"


def patients(table: CaseTable) -> str:
    """The number of patients, and the names of the first ones."""
    names = sorted({case.patient for case in table.cases})
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    end = f": {shown}; if this is wrong, list the patients in patients.csv" if names else ""
    return f"{plural(len(table.cases), 'case')} of {plural(len(names), 'patient')}{end}"


def check_fold(folds: int | None, fold: int | None) -> None:
    """A number of folds needs the one to train."""
    if folds is not None and fold is None:
        raise ValueError(f"--folds needs --fold, the one to train, in [0, {folds})")


def say_split(table: CaseTable, split: Split) -> None:
    """Print patients and the sizes of both parts, and what is odd about the data set."""
    for note in (*table.notes, *(f"{lost}, and is left out" for lost in table.incomplete)):
        say(f"warning: {note}")
    say(patients(table))
    _say_fold(table, split)
    left = plural(len(table.unpaired), "file")
    unpaired = f"; {left} not paired (see --dry-run)" if table.unpaired else ""
    say(f"{_counts(split)}{unpaired}")


def show_split(
    table: CaseTable, data: Path, values: Mapping[str, Any], lesions: Mapping[str, int]
) -> None:
    """Print which scans a training with these settings would hold out, and with how many lesions.

    That a single patient cannot be split, which stops a training, is a warning here.
    """
    from softoverlap.app.train import few_held_out, training_split

    try:
        split = training_split(table, data, values)
    except ValueError as error:
        if len({case.patient for case in table.cases}) > 1 or values["fold"] is not None:
            raise
        say(f"warning: {message_of(error)}")
        return
    _say_fold(table, split)
    say(_counts(split))
    trained, held = (
        sum(lesions[name] for name in part) for part in (split.fold.train, split.fold.validation)
    )
    say(f"{plural(trained, 'lesion')} to train on, {held} to validate on")
    if few := few_held_out(held):
        say(f"warning: {few}")


def _say_fold(table: CaseTable, split: Split) -> None:
    if split.source.startswith("fold"):
        say(split.source)
    left = len(table.cases) - len(split.fold.train) - len(split.fold.validation)
    if left:
        say(f"warning: {plural(left, 'case')} in neither part of the split")


def _counts(split: Split) -> str:
    trained = plural(len(split.fold.train), "scan")
    return f"{trained} to train on, {len(split.fold.validation)} to validate on"
