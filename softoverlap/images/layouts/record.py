"""The records of a training data set: its cases, and what could not be paired."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from softoverlap.images.formats.monai import ListEntry
from softoverlap.images.sources import Unpaired

ONE_CLASS = ("lesion",)
"""The classes of a data set that names none."""


@dataclass(frozen=True)
class LabelMap:
    """A file of whole numbers that say of which class a voxel is; 0 is the background.

    Args:
        path: The file.
        values: For each class the numbers that belong to it; a region has several, and a class
            without any takes all above 0.
        ignore: The number of voxels that nobody has labelled, or None.

    Examples:
        >>> LabelMap(Path("labelsTr/a.nii.gz"), ((1, 2), (2,)), ignore=3).ignore
        3
    """

    path: Path
    values: tuple[tuple[int, ...], ...]
    ignore: int | None = None


@dataclass(frozen=True)
class Case:
    """The files of one scan.

    Args:
        name: Name of the case: that of the scan without suffix.
        patient: The patient.
        image: The scan's file; where each channel has its own, that of the first.
        mask: The soft mask's file, or None.
        raters: One file per rater, in the order of their numbers.
        further: Files of the other channels, one a channel, after that of `image`.
        channels: Names of the channels; none where there is one and it has no name.
        classes: Names of the classes.
        labels: The map of classes, or None.
        boxes: The boxes of a list, or None.

    Examples:
        >>> scan = Path("images/sub-01_ses-1.nii.gz")
        >>> Case("sub-01_ses-1", "sub-01", scan, Path("masks/sub-01_ses-1.nii.gz"), ()).patient
        'sub-01'
    """

    name: str
    patient: str
    image: Path
    mask: Path | None
    raters: tuple[Path, ...]
    further: tuple[Path, ...] = ()
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ONE_CLASS
    labels: LabelMap | None = None
    boxes: ListEntry | None = None

    @property
    def images(self) -> tuple[Path, ...]:
        """All files of the scan: one, or one a channel."""
        return (self.image, *self.further)


@dataclass(frozen=True)
class Fold:
    """One way to part a data set.

    Args:
        train: Names of the cases to train on.
        validation: Names of the cases to validate on.

    Examples:
        >>> Fold(("a", "b"), ("c",)).validation
        ('c',)
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class CaseTable:
    """The cases of a data set, as `find_cases` returns them.

    Args:
        cases: Complete cases, by name.
        unpaired: Files that could not be paired, by path.
        layout: How the data set is laid out, one of `LAYOUTS`.
        channels: Names of the channels of every case; none where there is one without a name.
        classes: Names of the classes.
        fold: How the data set itself parts its cases, or None.
        notes: What a user should know about the data set.
        incomplete: For each case that is left out since it lacks a channel, which one, in words.

    Examples:
        >>> lost = Unpaired(Path("masks/sub-01.nii.gz"), "no image of case sub-01")
        >>> [file.path.name for file in CaseTable((), (lost,)).unpaired]
        ['sub-01.nii.gz']
    """

    cases: tuple[Case, ...]
    unpaired: tuple[Unpaired, ...]
    layout: str = "ours"
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ONE_CLASS
    fold: Fold | None = None
    notes: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()

    @property
    def class_values(self) -> tuple[int, ...] | None:
        """The value of each class in all label maps; None if a class has none, or several."""
        known = {case.labels.values if case.labels else () for case in self.cases}
        values = known.pop() if len(known) == 1 else ()
        single = [numbers[0] for numbers in values if len(numbers) == 1]
        is_told = bool(values) and len(single) == len(values) == len(set(single))
        return tuple(single) if is_told else None


@dataclass
class Findings:
    """What a layout finds, while it looks; patients are still those that the names tell."""

    cases: list[Case] = field(default_factory=list)
    unpaired: list[Unpaired] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """Names of all cases with a scan, complete or not."""
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ONE_CLASS
    fold: Fold | None = None
    notes: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)

    def drop(self, paths: list[Path], reason: str) -> None:
        """Files of a case that is not complete."""
        self.unpaired += [Unpaired(path, reason) for path in paths]

    def lacks(self, case: str, channels: str, paths: list[Path]) -> None:
        """A case with a truth that cannot be used, for want of these channels."""
        self.incomplete.append(f"case {case} lacks {channels}")
        self.drop(paths, self.incomplete[-1])
