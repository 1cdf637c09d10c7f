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
from pathlib import Path

from softoverlap.images.images import IMAGE_SUFFIXES
from softoverlap.images.layouts.names import by_case, files_in, patient_of
from softoverlap.images.layouts.record import Case, Findings
from softoverlap.images.sources import Unpaired

_RATER = re.compile(r"(?P<case>.+)_rater(?P<number>\d+)")


def find(folder: Path) -> Findings:
    """Pair the scans of a folder with their masks and raters, without opening them."""
    if not (folder / "images").is_dir():
        raise FileNotFoundError(
            f"{folder / 'images'} must be a folder with scans, found no such folder"
        )
    found = Findings()
    images = by_case(folder / "images", found.unpaired)
    if not images:
        raise ValueError(
            f"{folder / 'images'} must hold scans ({', '.join(IMAGE_SUFFIXES)}), found none"
        )
    masks = by_case(folder / "masks", found.unpaired)
    raters = _raters(folder / "raters", found.unpaired)
    found.names = set(images)
    for name, image in images.items():
        if name in masks or name in raters:
            ordered = tuple(path for _, path in sorted(raters.get(name, {}).items()))
            found.cases.append(Case(name, patient_of(name), image, masks.get(name), ordered))
        else:
            found.drop([image], "no mask and no raters of this case")
    left = [(name, path) for name, path in masks.items()]
    left += [(name, path) for name, stack in raters.items() for path in stack.values()]
    for name, path in left:
        if name not in images:
            found.drop([path], f"no image of case {name}")
    return found


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


def _raters(folder: Path, unpaired: list[Unpaired]) -> dict[str, dict[int, Path]]:
    """Files by case and number of rater."""
    stacks: dict[str, dict[int, Path]] = {}
    for name, path in files_in(folder, unpaired):
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
