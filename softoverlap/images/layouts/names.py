"""Images of a folder by case, and the patient of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from softoverlap.images.bids_names import bids_subject
from softoverlap.images.images import image_name, is_image_name
from softoverlap.images.sources import Unpaired, left_out
from softoverlap.images.texts import read_table


def patient_of(case: str) -> str:
    """The patient in the name of a case, for folds that no patient may straddle.

    So where BIDS tells nothing it guesses, and takes rather too many scans for those of one
    patient. Intervals of scores know subjects of BIDS and tables alone: a guess that merges
    patients would leave none.

    Args:
        case: Name of the case.

    Returns:
        The subject of BIDS, otherwise the parts between underscores up to the first one with a
        digit, otherwise the whole name.

    Examples:
        >>> patient_of("sub-01_ses-2"), patient_of("patient07_mni"), patient_of("case_001_t2")
        ('sub-01', 'patient07', 'case_001')
    """
    if subject := bids_subject(case):
        return subject
    parts = case.split("_")
    for count, part in enumerate(parts, start=1):
        if any(letter.isdigit() for letter in part):
            return "_".join(parts[:count])
    return case


def files_in(folder: Path, unpaired: list[Unpaired]) -> Iterator[tuple[str, Path]]:
    """Name without suffix and path of each image, by name; other files are noted."""
    if not folder.is_dir():
        return
    unpaired += left_out([folder])
    for path in sorted(folder.iterdir()):
        if is_image_name(path) and path.is_file() and not path.name.startswith("."):
            yield image_name(path), path


def by_case(folder: Path, unpaired: list[Unpaired]) -> dict[str, Path]:
    """The image of each case; a second one is noted."""
    paths: dict[str, Path] = {}
    for name, path in files_in(folder, unpaired):
        if name in paths:
            unpaired.append(Unpaired(path, f"{paths[name].name} is of the same case"))
        else:
            paths[name] = path
    return paths


def read_patients(path: Path) -> dict[str, str]:
    """Case to patient, empty without a table."""
    if not os.path.lexists(path):  # a link whose target is missing is no missing table
        return {}
    patients: dict[str, str] = {}
    for row in read_table(path).rows:
        case, patient = row.get("case"), row.get("patient")
        if not case or not patient:
            raise ValueError(f"{path} must have the columns case and patient, got {row}")
        if patients.setdefault(case, patient) != patient:
            raise ValueError(f"{path} must name one patient a case, got two for {case}")
    return patients
