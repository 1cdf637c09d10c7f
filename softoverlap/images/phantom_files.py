"""Simulated scans as files, with the layout of a training folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from softoverlap.images.files import whole_file
from softoverlap.images.formats.exchange import write_boxes
from softoverlap.images.nifti import save_nifti
from softoverlap.images.texts import read_table, read_text, write_table
from softoverlap.phantoms import LesionPhantoms, LesionScans, Phantom


def write_phantoms(
    folder: str | os.PathLike[str],
    count: int,
    seed: int,
    *,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> None:
    """Write phantoms as NIfTI files: images, soft masks, raters; and boxes as JSON.

    The layout is that of `find_cases`, with `boxes/CASE.json` in addition: the box of each lesion,
    with its existence as score. Cases are oblique, flipped and anisotropic, each differently. A
    case with boxes is complete and not written again, so a second call continues an interrupted
    one.

    Args:
        folder: Where to write; created if it does not exist.
        count: Number of phantoms.
        seed: Seed of the phantoms, at least 0.
        progress: Called with the name of each case that is complete.
        **options: `shape`, `spacing` and `num_raters` of `LesionPhantoms`.

    Raises:
        ValueError: If a number is out of range, or the folder has phantoms of other settings.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_phantoms(folder, 1, seed=0)
        >>> sorted(path.name for path in folder.iterdir() if path.is_dir())
        ['boxes', 'images', 'masks', 'raters']
    """
    write_lesion_scans(folder, LesionPhantoms(seed, count=count, **options), progress=progress)


def write_lesion_scans(
    folder: str | os.PathLike[str],
    scans: LesionPhantoms | LesionScans,
    *,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write simulated scans as `write_phantoms` does, with a table of their patients.

    `softoverlap train --data FOLDER` reads the folder. Scans without raters have masks alone.

    Args:
        folder: Where to write; created if it does not exist.
        scans: The scans.
        progress: Called with the name of each case that is complete.

    Raises:
        ValueError: If the folder has scans of other settings.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_lesion_scans(folder, LesionScans(0, count=1, shape=(32, 32, 24)))
        >>> sorted(path.name for path in folder.iterdir())
        ['boxes', 'images', 'masks', 'patients.csv', 'phantoms.txt', 'raters']
    """
    folder = Path(folder)
    for room in ("images", "masks", "raters", "boxes"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    _claim(folder, scans)
    numbers = range(len(scans))
    if isinstance(scans, LesionScans):
        _write_patients(folder / "patients.csv", scans)
    for index in numbers:
        case = scans.case(index)
        if not (folder / "boxes" / f"{case}.json").exists():
            _write(folder, case, scans[index])
        if progress is not None:
            progress(case)


def _claim(folder: Path, scans: LesionPhantoms | LesionScans) -> None:
    """Store the settings; it is an error to continue with others."""
    settings = f"{scans!r}\n"
    note = folder / "phantoms.txt"
    if not note.exists():
        with whole_file(note) as unfinished:
            unfinished.write_text(settings, encoding="utf-8")
    noted = read_text(note, "text")
    if noted != settings:
        raise ValueError(
            f"folder {folder} must hold phantoms of {settings.strip()}, got {noted.strip()}"
        )


def _write_patients(table: Path, scans: LesionScans) -> None:
    """The patients of all cases, those of an earlier call with more scans too."""
    count = max(len(scans), len(read_table(table).rows) if table.exists() else 0)
    rows = [(scans.case(index), scans.patient(index)) for index in range(count)]
    write_table(table, ("case", "patient"), rows)


def _write(folder: Path, case: str, phantom: Phantom) -> None:
    """Write all files of a case, the boxes last."""
    save_nifti(folder / "images" / f"{case}.nii.gz", phantom.image, phantom.affine)
    save_nifti(folder / "masks" / f"{case}.nii.gz", phantom.mask, phantom.affine)
    for number, rater in enumerate(phantom.raters, start=1):
        save_nifti(folder / "raters" / f"{case}_rater{number}.nii.gz", rater, phantom.affine)
    boxes = [lesion.box for lesion in phantom.lesions]
    write_boxes(
        folder / "boxes" / f"{case}.json",
        torch.stack(boxes) if boxes else torch.zeros(0, 6),
        scores=torch.tensor([lesion.existence for lesion in phantom.lesions], dtype=torch.float64),
        labels=torch.tensor([lesion.label for lesion in phantom.lesions], dtype=torch.int64),
        affine=phantom.affine,
        case=case,
    )
