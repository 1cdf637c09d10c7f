"""The phantoms of the demo as files, and the plan that is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softoverlap.app.demo.options import DemoOptions
from softoverlap.app.train import plan_scans, scan_facts
from softoverlap.images import (
    SPLITS,
    Case,
    Fold,
    LoadedCase,
    find_cases,
    load_case,
    write_json,
    write_phantoms,
    write_splits,
)

UNSEEN = 1_000_000
"""Added to the seed for the scans that judge: another panel of raters, other scans."""


@dataclass(frozen=True, eq=False)
class DemoScans:
    """The folder to train on, with a `splits_final.json`, and all scans of the demo.

    Args:
        folder: The folder that `train` takes.
        seen: Scans to train on.
        validation: Scans to choose the score threshold on.
        unseen: Scans to judge by.
    """

    folder: Path
    seen: Sequence[LoadedCase]
    validation: Sequence[LoadedCase]
    unseen: Sequence[LoadedCase]


def write_scans(folder: Path, options: DemoOptions) -> DemoScans:
    """Write the scans to train on, to validate on and to judge by, and read them back."""
    known, unseen, seed = folder / "train", folder / "unseen", options.seed
    count = options.train_scans + options.validation_scans
    write_phantoms(known, count, seed, shape=options.shape)
    write_phantoms(unseen, options.test_scans, seed + UNSEEN, shape=options.shape)
    cases = find_cases(known).cases
    train, validation = cases[: options.train_scans], cases[options.train_scans :]
    write_splits(known / SPLITS, [Fold(_names(train), _names(validation))])
    return DemoScans(known, _read(train), _read(validation), _read(find_cases(unseen).cases))


def write_plan(path: Path, scans: Sequence[LoadedCase]) -> None:
    """Plan a training on these scans, as `softoverlap plan` does, if there is no plan yet."""
    if not path.exists():
        write_json(path, plan_scans([scan_facts(scan) for scan in scans]).plan.to_dict())


def _read(cases: Sequence[Case]) -> list[LoadedCase]:
    return [load_case(case) for case in cases]


def _names(cases: Sequence[Case]) -> tuple[str, ...]:
    return tuple(case.name for case in cases)
