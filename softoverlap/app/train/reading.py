"""All scans of a training read once before it begins, to see whether they can be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from softoverlap.app.figures import plural
from softoverlap.app.train.facts import scan_facts
from softoverlap.images import Case, CaseTable, Fold, LoadedCase, Split, load_case, split_of

FEW_LESIONS = 20
"""With fewer lesions held out, each moves sensitivity by more than 5 points."""

_NOTHING_TO_FIND = (
    "no scan to validate on has a lesion, so validation can choose neither weights, of which the "
    "last are kept, nor a score threshold"
)


@dataclass(frozen=True)
class CheckedScans:
    """What the scans to train on hold.

    Args:
        scans: Number of scans to train on.
        lesions: Number of lesions in them.
        spacing: Median of the voxels' edges in mm, axis by axis, along the axes of the training.
        intensity: Mean and standard deviation of all their intensities, for each channel.
        extent: Their longest edges in mm, axis by axis.
        notes: What is odd about all scans together.
        held_out: Number of scans to validate on, and of lesions in them.
    """

    scans: int
    lesions: int
    spacing: tuple[float, ...]
    intensity: tuple[tuple[float, ...], tuple[float, ...]]
    extent: tuple[float, ...]
    notes: tuple[str, ...] = ()
    held_out: tuple[int, int] = (0, 0)

    @property
    def counts(self) -> tuple[str, ...]:
        """How much there is to train on and to validate on, a line each."""
        scans, lesions = self.held_out
        train = f"{plural(self.lesions, 'lesion')} in {plural(self.scans, 'scan')} to train on"
        held = f"{plural(lesions, 'lesion')} in {plural(scans, 'scan')} to validate on"
        return (train, held) if scans else (train,)

    @property
    def few(self) -> str | None:
        """What is said where few lesions are held out."""
        return few_held_out(self.held_out[1])


def few_held_out(lesions: int) -> str | None:
    """What is said where few lesions are held out; None where there are none or enough.

    Args:
        lesions: Number of lesions in the scans to validate on.

    Returns:
        A sentence, or None.

    Examples:
        >>> few_held_out(4)
        'only 4 lesions are held out, so each moves sensitivity by 25 points: hold out more ...
        >>> few_held_out(20) is None
        True
    """
    if not 0 < lesions < FEW_LESIONS:
        return None
    are = f"{plural(lesions, 'lesion')} {'is' if lesions == 1 else 'are'}"
    return (
        f"only {are} held out, so each moves sensitivity by {100 / lesions:.0f} points: hold out "
        "more patients (`validation=`), or train all folds (`folds=`) and score them together"
    )


def training_split(
    table: CaseTable, data: str | os.PathLike[str], values: Mapping[str, Any]
) -> Split:
    """Which scans train, and which validate.

    Args:
        table: The cases of a data set.
        data: Its folder, or the list in it.
        values: What `data_settings` says.

    Returns:
        The split.

    Raises:
        FileNotFoundError: As `split_of`.
        ValueError: As `split_of`; where all scans are of one patient, with what to do then.

    Examples:
        >>> table = CaseTable((), ())
        >>> values = {"validation": 0.0, "split_seed": 0, "folds": None, "fold": None}
        >>> training_split(table, "no folder", values).source
        'all train'
    """
    try:
        return split_of(
            table, data, validation=values["validation"], seed=values["split_seed"],
            folds=values["folds"], fold=values["fold"],
        )  # fmt: skip
    except ValueError as error:
        if values["fold"] is None and "two patients" in str(error):
            raise ValueError(f"{error}, or pass `validation=0`") from error
        raise


def check_scans(
    cases: Iterable[Case],
    fold: Fold,
    *,
    threshold: float | int = 0.5,
    axes: str | None = "RAS",
    tell: Callable[[str, LoadedCase | None, list[str]], None] | None = None,
    skip_damaged: bool = False,
) -> CheckedScans:
    """Read every scan of both parts; all damaged ones are told before an error comes.

    Args:
        cases: Cases of a data set.
        fold: Names of those to train on and to validate on.
        threshold: Lowest probability inside a lesion.
        axes: Where the voxel axes of the training point, or None as stored.
        tell: Called with the name of each scan, what was read, or None, and notes or the error.
        skip_damaged: Leave damaged scans out.

    Returns:
        What the scans to train on hold, with a note if those to validate on have no lesion.

    Raises:
        ValueError: If a scan is damaged and none is left out, there is no lesion to train on, or
            all scans to validate on are damaged.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import find_cases, write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0, shape=(32, 32, 24))
        >>> check_scans(find_cases(folder).cases, Fold(("phantom-0000",), ())).spacing
        (1.0, 1.0, 1.5)
    """
    facts: list[_Facts] = []
    held_out: list[int] = []
    chosen = [case for case in cases if case.name in (*fold.train, *fold.validation)]
    for case in chosen:
        loaded, notes = read_case(case, threshold)
        if tell is not None:
            tell(case.name, loaded, notes)
        if loaded is not None and case.name in fold.train:
            facts.append(_facts(loaded, axes))
        elif loaded is not None:
            held_out.append(len(loaded.lesions))
    damaged = len(chosen) - len(facts) - len(held_out)
    if damaged and not skip_damaged:
        it = "it" if damaged == 1 else "them"
        raise ValueError(
            f"{damaged} of {len(chosen)} cases cannot be used, see above: remove or mend {it}, or "
            f"leave {it} out (`skip_damaged=True`)"
        )
    if fold.validation and not held_out:
        raise ValueError("no case to validate on can be used, see above: remove or mend them")
    notes = (_NOTHING_TO_FIND,) if held_out and not sum(held_out) else ()
    held = len(held_out), sum(held_out)
    return replace(_summed(facts, threshold), notes=notes, held_out=held)


def no_lesion(scans: int, threshold: float | int) -> str:
    """The message if there is no lesion to learn.

    Args:
        scans: Number of scans that were read.
        threshold: Lowest probability inside a lesion.

    Returns:
        A sentence.

    Examples:
        >>> no_lesion(1, 0.5)
        'train needs at least one lesion in 1 scan, found none at `threshold=0.5`: every mask is ...
    """
    return (
        f"train needs at least one lesion in {plural(scans, 'scan')}, found none at "
        f"`threshold={threshold:g}`: every mask is empty or named above"
    )


@dataclass(frozen=True)
class _Facts:
    """Number of lesions, edges of a voxel and of the scan, mean and mean square of each channel."""

    lesions: int
    edges: tuple[float, ...]
    extent: tuple[float, ...]
    moments: torch.Tensor


def _summed(facts: list[_Facts], threshold: float | int) -> CheckedScans:
    """What all scans to train on hold together."""
    lesions, scans = sum(one.lesions for one in facts), len(facts)
    if not lesions:
        raise ValueError(no_lesion(scans, threshold))
    edges = torch.tensor([one.edges for one in facts], dtype=torch.float64)
    spacing = tuple(round(float(edge), 6) for edge in edges.quantile(0.5, dim=0))
    extent = tuple(map(max, zip(*(one.extent for one in facts), strict=True)))
    return CheckedScans(scans, lesions, spacing, _pooled([one.moments for one in facts]), extent)


def read_case(case: Case, threshold: float | int) -> tuple[LoadedCase | None, list[str]]:
    """Read a case to train on.

    Args:
        case: Its files.
        threshold: Lowest probability inside a lesion.

    Returns:
        The case with notes about it, or None and the error.

    Examples:
        >>> from pathlib import Path
        >>> read_case(Case("a", "a", Path("none.nii"), Path("none.nii"), ()), 0.5)[0] is None
        True
    """
    try:
        loaded = load_case(case, threshold=float(threshold))
        return loaded, list(loaded.notes)
    except (ValueError, OSError) as error:
        return None, [str(error)]


def _facts(case: LoadedCase, axes: str | None) -> _Facts:
    """Edges of a voxel and of the scan along the axes of the training."""
    edges, shape = case.spacing, tuple(case.image.shape[-3:])
    if axes is not None:
        turned = scan_facts(case, axes=axes)
        edges, shape = turned.spacing, turned.shape
    extent = tuple(edge * side for edge, side in zip(edges, shape, strict=True))
    return _Facts(len(case.lesions), edges, extent, _moments(case.channels))


def _moments(channels: torch.Tensor) -> torch.Tensor:
    """Mean and mean square of each channel, shape (2, C)."""
    values = channels.flatten(1).double()
    return torch.stack([values.mean(dim=1), values.square().mean(dim=1)])


def _pooled(moments: list[torch.Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations over scans, each counting alike; a spread is never 0."""
    mean, square = torch.stack(moments).mean(dim=0)
    spread = (square - mean.square()).clamp(min=0).sqrt()
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return tuple(mean.tolist()), tuple(spread.tolist())
