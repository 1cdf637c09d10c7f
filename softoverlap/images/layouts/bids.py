"""BIDS: anatomical images of subjects, and their masks among the derivatives.

```
FOLDER/sub-01/[ses-1/]anat/sub-01[_ses-1]_T1w.nii.gz                the scan; each kind is a channel
FOLDER/derivatives/ANY/sub-01/[…/]sub-01[_ses-1]_desc-lesion_mask.nii.gz    its mask
```

A case is a subject, session and run. Masks end in `_mask` (0 and 1), `_probseg` (probabilities) or
`_dseg` (labels, named by the columns `index` and `name` of a `_dseg.tsv`); they may lie beside the
scans too. `desc-brain` is no lesion. Of several masks those called lesion are taken, and those with
`desc-rater1`, `desc-rater2`, … are raters. Channels are the kinds of image that most cases have.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from softoverlap.images.bids_names import BIDS_MASKS, bids_entities, bids_kind
from softoverlap.images.images import image_name, is_image_name
from softoverlap.images.layouts.label_names import read_label_names
from softoverlap.images.layouts.names import patient_of
from softoverlap.images.layouts.record import ONE_CLASS, Case, Findings, LabelMap
from softoverlap.images.sources import unread

_SUBJECTS = "sub-*"
_NO_LESION = re.compile(r"(?:desc|label)-brain(?:_|$)", re.IGNORECASE)
_RATER = re.compile(r"(?:desc|label)-[A-Za-z]*?rater(\d+)(?=_|$)", re.IGNORECASE)

Grouped = dict[str, list[Path]]
"""Files by case."""


def has_subjects(folder: Path) -> bool:
    """Whether a folder has subjects."""
    return any(path.is_dir() for path in folder.glob(_SUBJECTS))


def find(folder: Path) -> Findings:
    """Gather images and masks by subject, session and run."""
    found = Findings()
    images, masks = _images(folder, found), _masks(folder)
    if not images:
        raise ValueError(f"{folder} must hold images as sub-*/anat/sub-*_T1w.nii.gz, found none")
    found.names = set(images)
    for case in sorted(set(images) - set(masks)):
        found.drop(images[case], f"no mask of case {case}")
    for case in sorted(set(masks) - set(images)):
        found.drop(masks[case], f"no image of case {case}")
    paired = [case for case in images if case in masks]
    found.channels = _common_kinds([images[case] for case in paired])
    for case in sorted(paired):
        _add(case, images[case], masks[case], folder, found)
    _keep_alike(found)
    return found


def _keep_alike(found: Findings) -> None:
    """The cases that have the classes of the first one."""
    found.classes = found.cases[0].classes if found.cases else ONE_CLASS
    for case in [case for case in found.cases if case.classes != found.classes]:
        found.cases.remove(case)
        names = f"{', '.join(case.classes)} of case {case.name}"
        reason = f"its classes, {names}, are not those of {found.cases[0].name}"
        found.drop([*case.images, *_truth_of(case)], reason)


def _truth_of(case: Case) -> list[Path]:
    mask = [] if case.mask is None else [case.mask]
    return [*mask, *case.raters, *([] if case.labels is None else [case.labels.path])]


def _images(folder: Path, found: Findings) -> Grouped:
    """Images of `anat` that are no masks."""
    rooms = [*folder.glob(f"{_SUBJECTS}/anat"), *folder.glob(f"{_SUBJECTS}/ses-*/anat")]
    entries = sorted(path for room in rooms for path in room.iterdir())
    images = [path for path in entries if _is_image(path)]
    beside = [path for path in entries if not path.name.endswith((".json", ".tsv"))]
    found.unpaired += unread(beside, images)
    return _grouped([path for path in images if not image_name(path).endswith(BIDS_MASKS)])


def _masks(folder: Path) -> Grouped:
    """Masks of lesions, among the derivatives or beside the images."""
    below = {
        path
        for room in (_SUBJECTS, "derivatives")
        for path in folder.glob(f"{room}/**/{_SUBJECTS}")
    }
    masks = [path for path in sorted(below) if _is_image(path) and _is_mask(image_name(path))]
    return _grouped(masks)


def _is_image(path: Path) -> bool:
    return is_image_name(path) and path.is_file() and not path.name.startswith(".")


def _is_mask(name: str) -> bool:
    return name.endswith(BIDS_MASKS) and not _NO_LESION.search(name)


def _grouped(paths: list[Path]) -> Grouped:
    cases: Grouped = {}
    for path in paths:
        case = bids_entities(image_name(path))
        if case is not None:
            cases.setdefault(case, []).append(path)
    return cases


def _common_kinds(images: list[list[Path]]) -> tuple[str, ...]:
    """The kinds of image that more than half of the cases have, or else the commonest, by name."""
    counts = Counter(kind for paths in images for kind in {_kind(path) for path in paths})
    least = min(len(images) // 2 + 1, max(counts.values(), default=0))
    return tuple(sorted(kind for kind, count in counts.items() if count >= least))


def _kind(path: Path) -> str:
    return bids_kind(image_name(path))


def _add(case: str, images: list[Path], masks: list[Path], folder: Path, found: Findings) -> None:
    """The case, if it has all channels and its mask is clear."""
    kinds: dict[str, Path] = {}
    for path in images:
        if kinds.setdefault(_kind(path), path) is not path:
            found.drop([path], f"{kinds[_kind(path)].name} is of the same channel")
    others = [path for kind, path in kinds.items() if kind not in found.channels]
    found.drop(others, "a kind of image that most cases lack")
    lost = [kind for kind in found.channels if kind not in kinds]
    used, left = _chosen(masks)
    raters = _raters(used)
    scan = [kinds[kind] for kind in found.channels if kind in kinds]
    if lost:
        found.lacks(case, f"channel {' and '.join(lost)}", [*scan, *masks])
        return
    single = [path for path in used if _rater_of(path) is None]
    if len(single) > 1:
        names = ", ".join(path.name for path in single)
        found.drop([*scan, *masks], f"case {case} must have one mask of lesions, got {names}")
        return
    found.drop(left, f"another mask of case {case} is called lesion")
    again = [path for path in used if path not in (*raters, *single)]
    found.drop(again, "another mask is of the same rater")
    made = Case(
        case, patient_of(case), scan[0], None, tuple(raters), tuple(scan[1:]), found.channels
    )
    found.cases.append(_with_mask(made, single, folder, found))


def _chosen(masks: list[Path]) -> tuple[list[Path], list[Path]]:
    """The masks to use, and the others."""
    called = [p for p in masks if "lesion" in p.name.lower() or _rater_of(p) is not None]
    used = called or masks
    return used, [path for path in masks if path not in used]


def _rater_of(path: Path) -> int | None:
    match = _RATER.search(image_name(path))
    return int(match[1]) if match else None


def _raters(masks: list[Path]) -> list[Path]:
    """Masks of raters in the order of their numbers; of a number the first."""
    numbered: dict[int, Path] = {}
    for path in masks:
        number = _rater_of(path)
        if number is not None:
            numbered.setdefault(number, path)
    return [path for _, path in sorted(numbered.items())]


def _with_mask(case: Case, masks: list[Path], folder: Path, found: Findings) -> Case:
    """The case with its mask of probabilities or its label map."""
    if not masks:
        return case
    (mask,) = masks
    if not image_name(mask).endswith("_dseg"):
        return replace(case, mask=mask)
    names = read_label_names(mask, folder)
    if names is None:
        found.notes.append(f"{mask} has no _dseg.tsv that names its labels: all are one class")
        return replace(case, labels=LabelMap(mask, ((),)))
    classes = tuple(names)
    return replace(case, classes=classes, labels=LabelMap(mask, tuple(names.values())))
