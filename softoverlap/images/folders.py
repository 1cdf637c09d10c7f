"""A folder of scans to train on.

Layout:

```
FOLDER/images/CASE.nii.gz           the scan
FOLDER/masks/CASE.nii.gz            its soft mask, probabilities in [0, 1]
FOLDER/raters/CASE_rater1.nii.gz    one mask per rater, any number of them
FOLDER/patients.csv                 optional: columns case, patient
```

A case needs a scan, and a mask or raters. With raters, lesions are where any rater marked one, and
the mask only gives the probabilities there; without a mask, the raters' mean does. Without raters,
lesions are the components of the mask at or above the threshold (0.5). Files are NIfTI, or any
other image that `load_image` reads; files whose names start with a dot are skipped.

Scans of one patient must not be split between training and validation. If `patients.csv` does not
name the patient, it is taken from CASE: the part that starts with `sub-`, otherwise the parts
between underscores up to the first one with a digit, otherwise the whole name. So `sub-01_ses-1`
and `sub-01_ses-2` share the patient `sub-01`, `patient07_mni` is of `patient07`, and `case_001_t2`
of `case_001`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from softoverlap.images.images import IMAGE_SUFFIXES, image_name, is_image_name
from softoverlap.images.sources import Unpaired, left_out
from softoverlap.images.texts import read_table

_RATER = re.compile(r"(?P<case>.+)_rater(?P<number>\d+)")


@dataclass(frozen=True)
class Case:
    """The files of one scan.

    Args:
        name: Name of the case: that of the scan without suffix.
        patient: The patient.
        image: The scan's file.
        mask: The soft mask's file, or None.
        raters: One file per rater, in the order of their numbers.

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


@dataclass(frozen=True)
class CaseTable:
    """The cases of a folder, as `find_cases` returns them.

    Args:
        cases: Complete cases, by name.
        unpaired: Files that could not be paired, by path.

    Examples:
        >>> lost = Unpaired(Path("masks/sub-01.nii.gz"), "no image of case sub-01")
        >>> [file.path.name for file in CaseTable((), (lost,)).unpaired]
        ['sub-01.nii.gz']
    """

    cases: tuple[Case, ...]
    unpaired: tuple[Unpaired, ...]


def find_cases(folder: str | os.PathLike[str]) -> CaseTable:
    """Pair the scans of a folder with their masks and raters, without opening them.

    Args:
        folder: A folder with `images/`, and `masks/` or `raters/` or both.

    Returns:
        The cases, and all files that could not be paired, with the reason.

    Raises:
        FileNotFoundError: If the folder or its `images/` does not exist.
        ValueError: If it has no scan, or `patients.csv` is not a table of case and patient.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 2, seed=0)
        >>> [case.name for case in find_cases(folder).cases]
        ['phantom-0000', 'phantom-0001']
    """
    folder = Path(folder)
    for needed in (folder, folder / "images"):
        if not needed.is_dir():
            raise FileNotFoundError(f"{needed} must be a folder with scans, found no such folder")
    unpaired: list[Unpaired] = []
    images = _by_case(folder / "images", unpaired)
    if not images:
        raise ValueError(
            f"{folder / 'images'} must hold scans ({', '.join(IMAGE_SUFFIXES)}), found none"
        )
    masks = _by_case(folder / "masks", unpaired)
    raters = _raters(folder / "raters", unpaired)
    patients = _patients(folder / "patients.csv")
    cases = []
    for name, image in images.items():
        if name in masks or name in raters:
            patient = patients.get(name) or patient_of(name)
            ordered = tuple(path for _, path in sorted(raters.get(name, {}).items()))
            cases.append(Case(name, patient, image, masks.get(name), ordered))
        else:
            unpaired.append(Unpaired(image, "no mask and no raters of this case"))
    left = [(name, path) for name, path in masks.items()]
    left += [(name, path) for name, stack in raters.items() for path in stack.values()]
    left += [(name, folder / "patients.csv") for name in patients]
    unpaired += [
        Unpaired(path, f"no image of case {name}") for name, path in left if name not in images
    ]
    return CaseTable(tuple(cases), tuple(sorted(unpaired, key=lambda file: file.path)))


def find_raters(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, tuple[Path, ...]], list[Unpaired]]:
    """The raters' files of each case, without opening them.

    Args:
        folder: A folder with files `raters/CASE_rater1.nii.gz`, or the folder of such files.

    Returns:
        The files of each case, in the order of the raters' numbers, and all other files.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it has no raters.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0)
        >>> raters, left = find_raters(folder)
        >>> {case: len(files) for case, files in raters.items()}, left
        ({'phantom-0000': 5}, [])
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} must be a folder with raters, found no such folder")
    if (folder / "raters").is_dir():
        folder = folder / "raters"
    unpaired: list[Unpaired] = []
    raters = _raters(folder, unpaired)
    if not raters:
        raise ValueError(f"{folder} must hold masks named CASE_rater1.nii.gz and so on, found none")
    ordered = {
        case: tuple(path for _, path in sorted(stack.items())) for case, stack in raters.items()
    }
    return ordered, unpaired


def patient_of(case: str) -> str:
    """The patient in the name of a case.

    Args:
        case: Name of the case.

    Returns:
        The part that starts with `sub-`, otherwise the parts between underscores up to the first
        one with a digit, otherwise the whole name.

    Examples:
        >>> patient_of("sub-01_ses-2"), patient_of("patient07_mni"), patient_of("case_001_t2")
        ('sub-01', 'patient07', 'case_001')
    """
    parts = case.split("_")
    for part in parts:
        if part.startswith("sub-"):
            return part
    for count, part in enumerate(parts, start=1):
        if any(letter.isdigit() for letter in part):
            return "_".join(parts[:count])
    return case


def _files(folder: Path, unpaired: list[Unpaired]) -> Iterator[tuple[str, Path]]:
    """Name without suffix and path of each image, by name; other files are noted."""
    if not folder.is_dir():
        return
    unpaired += left_out([folder])
    for path in sorted(folder.iterdir()):
        if is_image_name(path) and path.is_file() and not path.name.startswith("."):
            yield image_name(path), path


def _by_case(folder: Path, unpaired: list[Unpaired]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for name, path in _files(folder, unpaired):
        if name in paths:
            unpaired.append(Unpaired(path, f"{paths[name].name} is of the same case"))
        else:
            paths[name] = path
    return paths


def _raters(folder: Path, unpaired: list[Unpaired]) -> dict[str, dict[int, Path]]:
    """Files by case and number of rater."""
    stacks: dict[str, dict[int, Path]] = {}
    for name, path in _files(folder, unpaired):
        match = _RATER.fullmatch(name)
        if match is None:
            unpaired.append(Unpaired(path, "its name must be CASE_rater1, CASE_rater2, …"))
            continue
        stack, number = stacks.setdefault(match["case"], {}), int(match["number"])
        if number in stack:
            unpaired.append(Unpaired(path, f"{stack[number].name} is of the same rater"))
        else:
            stack[number] = path
    return stacks


def _patients(path: Path) -> dict[str, str]:
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
