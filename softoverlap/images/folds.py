"""Parts of a data set for training and validation, never with a patient in both."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softoverlap._checks import refusal
from softoverlap.images.formats.record import list_in, naming, objects_in
from softoverlap.images.layouts.record import Case, CaseTable, Fold
from softoverlap.images.texts import read_json, write_json

SPLITS = "splits_final.json"
"""The file in which nnU-Net keeps folds."""

_FOLDS = 5
_SHOWN = 3


@dataclass(frozen=True)
class Split:
    """Which cases train and which validate, and where that comes from.

    Args:
        fold: Names of the cases.
        drawn: All folds, if they were drawn and stand in no file; else none.
        source: Where the split comes from, in words.

    Examples:
        >>> Split(Fold(("a",), ("b",))).fold.validation
        ('b',)
    """

    fold: Fold
    drawn: tuple[Fold, ...] = ()
    source: str = ""


def split_of(
    table: CaseTable,
    folder: str | os.PathLike[str],
    *,
    validation: float | int = 0.2,
    seed: int = 0,
    folds: int | str | os.PathLike[str] | None = None,
    fold: int | None = None,
) -> Split:
    """Which cases of a data set train, and which validate; no patient is ever in both.

    The first of these holds: `splits_final.json` in the folder of the data set, or the file that
    `folds` names; the data set's own split (`CaseTable.fold`), unless a fold is asked for; folds
    that are drawn, if one is asked for; a share of the patients, drawn. Without a fold asked for
    and with `validation` 0, all cases train.

    Args:
        table: The cases.
        folder: The folder of the data set, or the list in it.
        validation: Share of the patients to validate on, in [0, 1).
        seed: Seed of a share that is drawn. Folds are always drawn alike.
        folds: Number of folds by patient, by default 5; or a file of splits.
        fold: The fold to validate on, from 0; by default the first, where there are folds.

    Returns:
        The split.

    Raises:
        FileNotFoundError: If the file of splits does not exist.
        ValueError: If the fold is out of range, the file has another number of folds, is broken or
            does not fit, a patient is in both parts, or there are too few patients.

    Examples:
        >>> cases = tuple(Case(n, n[0], Path(n), None, ()) for n in ("a1", "a2", "b1"))
        >>> split_of(CaseTable(cases, ()), "no folder", validation=0.5).fold
        Fold(train=('b1',), validation=('a1', 'a2'))
    """
    asked = folds is not None or fold is not None
    if not asked and not validation:
        return Split(Fold(tuple(case.name for case in table.cases), ()), source="all train")
    place = Path(folder)
    path, count = (place if place.is_dir() else place.parent) / SPLITS, _FOLDS
    if isinstance(folds, int):
        count = folds
    elif folds is not None:
        path = Path(folds)
    if path.exists() or not (folds is None or isinstance(folds, int)):
        stored = read_splits(path, table.cases)
        if isinstance(folds, int) and folds != len(stored):
            raise refusal("folds", f"must be that of {path}, {len(stored)}, got {folds}")
        return _numbered(stored, fold or 0, f"as in {path}")
    if asked:
        every = folds_by_patient(table.cases, count)
        return _numbered(every, fold or 0, "drawn by patient", drawn=True)
    if table.fold is not None:
        patients = {case.name: case.patient for case in table.cases}
        _check_fold(table.fold, "its own split", place, patients)
        return Split(table.fold, source=f"as in {place}")
    parts = split_by_patient(table.cases, fraction=float(validation), seed=seed)
    train, held = (tuple(case.name for case in part) for part in parts)
    return Split(Fold(train, held), (Fold(train, held),), "drawn by patient")


def _numbered(every: Sequence[Fold], fold: int, source: str, *, drawn: bool = False) -> Split:
    if not 0 <= fold < len(every):
        raise refusal("fold", f"must lie in [0, {len(every)}), got {fold}")
    source = f"fold {fold} of {len(every)}, {source}"
    return Split(every[fold], tuple(every) if drawn else (), source)


def split_by_patient(
    cases: Sequence[Case], *, fraction: float, seed: int
) -> tuple[list[Case], list[Case]]:
    """Split cases into training and validation so that no patient is in both.

    Args:
        cases: The cases, of at least two patients.
        fraction: Share of the patients for validation, in (0, 1); each side gets at least one
            patient.
        seed: Seed of the draw; the order of the cases does not matter.

    Returns:
        Training and validation cases, by name.

    Raises:
        ValueError: If the fraction is out of range or there are fewer than two patients.

    Examples:
        >>> from softoverlap.images import patient_of
        >>> names = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
        >>> cases = [Case(n, patient_of(n), Path(n), None, ()) for n in names]
        >>> train, validation = split_by_patient(cases, fraction=0.5, seed=0)
        >>> len(train) + len(validation)
        3
    """
    if not 0 < fraction < 1:
        raise refusal("fraction", f"must lie between 0 and 1, got {fraction!r}")
    patients = sorted({case.patient for case in cases})
    if len(patients) < 2:
        raise ValueError(
            f"cases must be of two patients at least, got {len(cases)} cases of {patients}; "
            "if this is wrong, list the patients in patients.csv"
        )
    count = min(max(round(fraction * len(patients)), 1), len(patients) - 1)
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = {patients[index] for index in order[:count]}
    ordered = sorted(cases, key=lambda case: case.name)
    train = [case for case in ordered if case.patient not in chosen]
    return train, [case for case in ordered if case.patient in chosen]


def folds_by_patient(cases: Sequence[Case], folds: int = 5, seed: int = 0) -> list[Fold]:
    """Part cases into folds, each of which validates once on patients that it does not train on.

    Patients are shuffled, those with most cases first, and each goes to the fold that has fewest
    cases so far, so that folds are nearly alike in cases and in patients.

    Args:
        cases: The cases, of at least as many patients as folds.
        folds: Number of folds, at least 2.
        seed: Seed of the draw; the order of the cases does not matter.

    Returns:
        The folds, with names of cases. Every case is in the validation part of one of them.

    Raises:
        ValueError: If there are fewer than two folds, or fewer patients than folds.

    Examples:
        >>> cases = [Case(n, n[0], Path(n), None, ()) for n in ("a1", "a2", "b1", "c1", "c2")]
        >>> for fold in folds_by_patient(cases, folds=3):
        ...     print(fold.validation)
        ('c1', 'c2')
        ('a1', 'a2')
        ('b1',)
    """
    if folds < 2:
        raise refusal("folds", f"must be at least 2, got {folds!r}")
    counts = Counter(case.patient for case in cases)
    patients = sorted(counts)
    if len(patients) < folds:
        raise ValueError(
            f"cases must be of at least {folds} patients for {folds} folds, got {len(cases)} cases "
            f"of {len(patients)} patients; if this is wrong, list the patients in patients.csv"
        )
    order = np.random.default_rng(seed).permutation(len(patients))
    shuffled = sorted((patients[index] for index in order), key=lambda name: -counts[name])
    held: list[set[str]] = [set() for _ in range(folds)]
    loads = [0] * folds
    for patient in shuffled:
        smallest = min(range(folds), key=lambda part: (loads[part], len(held[part])))
        held[smallest].add(patient)
        loads[smallest] += counts[patient]
    return [_fold(cases, part) for part in held]


def _fold(cases: Sequence[Case], held: set[str]) -> Fold:
    """The fold that validates on the scans of these patients."""
    ordered = sorted((case.name, case.patient in held) for case in cases)
    train = tuple(name for name, is_held in ordered if not is_held)
    return Fold(train, tuple(name for name, is_held in ordered if is_held))


def write_splits(path: str | os.PathLike[str], folds: Sequence[Fold]) -> None:
    """Write folds as nnU-Net's `splits_final.json`, completely or not at all.

    Args:
        path: The file; an existing one is replaced.
        folds: The folds.

    Raises:
        FileNotFoundError: If the folder of `path` does not exist.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "splits_final.json"
        >>> write_splits(path, [Fold(("a",), ("b",)), Fold(("b",), ("a",))])
        >>> read_splits(path)[1]
        Fold(train=('b',), validation=('a',))
    """
    content = [{"train": list(fold.train), "val": list(fold.validation)} for fold in folds]
    write_json(path, content)


def read_splits(path: str | os.PathLike[str], cases: Sequence[Case] | None = None) -> list[Fold]:
    """Read nnU-Net's `splits_final.json`, and check that no fold validates on what it trains on.

    Args:
        path: The file: a list of objects with the lists `train` and `val` of names.
        cases: The cases of the data set; with them, names and patients are checked too.

    Returns:
        The folds, in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is broken, a fold has an empty part, or a case in both, or twice;
            with cases, if it names an unknown case or has a patient in both parts. The message
            names file and fold.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "splits_final.json"
        >>> _ = path.write_text('[{"train": ["a"], "val": ["a"]}]')
        >>> read_splits(path)
        Traceback (most recent call last):
        ValueError: ... must not have a case in both parts of fold 0, got a
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a file of splits, found no such file")
    content = read_json(path)
    with naming(path, "list of splits with train and val"):
        folds = [_read_fold(part) for part in objects_in(content, "splits")]
        if not folds:
            raise ValueError("no split")
    patients = None if cases is None else {case.name: case.patient for case in cases}
    for number, fold in enumerate(folds):
        _check_fold(fold, f"fold {number}", path, patients)
    return folds


def _read_fold(content: Mapping[str, Any]) -> Fold:
    parts = [tuple(list_in(content[key], key)) for key in ("train", "val")]
    for name in (*parts[0], *parts[1]):
        if not isinstance(name, str):
            raise TypeError(f"{name!r:.60} as a name, which is no text")
    return Fold(*parts)


def _check_fold(fold: Fold, name: str, path: Path, patients: Mapping[str, str] | None) -> None:
    """No case and no patient is in both parts, and all are known."""
    train, held = set(fold.train), set(fold.validation)
    if not (train and held):
        raise ValueError(f"{path} must have cases in both parts of {name}, got an empty one")
    if both := train & held:
        raise ValueError(f"{path} must not have a case in both parts of {name}, got {_shown(both)}")
    if len(train) + len(held) < len(fold.train) + len(fold.validation):
        raise ValueError(f"{path} must name each case of {name} once, got one twice")
    if patients is None:
        return
    if unknown := (train | held) - set(patients):
        raise ValueError(
            f"{path} must name cases of the data set, got {_shown(unknown)} in {name}; it has "
            f"{_shown(patients)}"
        )
    if shared := {patients[case] for case in train} & {patients[case] for case in held}:
        raise ValueError(
            f"{path} must not have a patient in both parts of {name}, got {_shown(shared)}; if "
            "this is wrong, list the patients in patients.csv"
        )


def _shown(names: Iterable[str]) -> str:
    """The first names."""
    listed = sorted(names)
    return ", ".join(listed[:_SHOWN]) + (", …" if len(listed) > _SHOWN else "")
