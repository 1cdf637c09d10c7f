"""nnU-Net's raw data: one file a channel, one label map a case.

```
FOLDER/imagesTr/CASE_0000.nii.gz    the first channel of a scan; the next is CASE_0001.nii.gz
FOLDER/labelsTr/CASE.nii.gz         its label map
FOLDER/dataset.json                 channels, labels, and in version 2 the ending of the files
```

In version 2 `dataset.json` may also list the files of each case itself, under `dataset`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from softoverlap.images.images import IMAGE_SUFFIXES
from softoverlap.images.layouts.dataset_json import (
    DESCRIPTION,
    Description,
    listed_files,
    read_description,
)
from softoverlap.images.layouts.names import files_in, patient_of
from softoverlap.images.layouts.record import Case, Findings, LabelMap

CHANNEL_NAME = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""Name of the file of a channel, without its suffix: case and channel."""


def find(folder: Path) -> Findings:
    """Gather the channels and the label map of each case."""
    described = read_description(folder / DESCRIPTION)
    found = Findings(channels=described.channels, classes=described.classes)
    if "dataset" in described.content:
        images, labels = _listed(folder, described, found)
    else:
        ending = _ending(described)
        images = _images(folder / "imagesTr", ending, described, found)
        labels = _labels(folder / "labelsTr", ending, found)
    if not images:
        raise ValueError(
            f"{folder / 'imagesTr'} must hold scans named CASE_0000{_ending(described)}, found none"
        )
    found.names = set(images)
    for case, channels in sorted(images.items()):
        _add(case, channels, labels.pop(case, None), described, found)
    for case, path in labels.items():
        found.drop([path], f"no image of case {case}")
    found.notes += described.count_note(len(found.cases))
    return found


def has_channels(folder: Path) -> bool:
    """Whether a folder has the names of nnU-Net's images."""
    return any(CHANNEL_NAME.fullmatch(name) for name, _ in files_in(folder, []))


def missing_channels(names: tuple[str, ...], there: Mapping[int, Path]) -> str:
    """The channels that a case lacks, in words; empty if it has all."""
    lost = [f"{number} ({name})" for number, name in enumerate(names) if number not in there]
    return f"channel {' and '.join(lost)}" if lost else ""


def _add(
    case: str,
    images: Mapping[int, Path],
    labels: Path | None,
    described: Description,
    found: Findings,
) -> None:
    """The case, if it is complete."""
    paths = [path for _, path in sorted(images.items())]
    lost = missing_channels(described.channels, images)
    if labels is None:
        found.drop(paths, f"no label map of case {case}")
    elif lost:
        found.lacks(case, lost, [*paths, labels])
    else:
        found.cases.append(
            Case(
                case, patient_of(case), paths[0], None, (), tuple(paths[1:]), described.channels,
                described.classes, LabelMap(labels, described.values, described.ignore),
            )
        )  # fmt: skip


def _ending(described: Description) -> str:
    """How files end; one that is not read is refused."""
    ending = described.content.get("file_ending", ".nii.gz")
    if not (isinstance(ending, str) and ending.lower() in IMAGE_SUFFIXES):
        raise ValueError(
            f"{described.path} must have a file_ending that is read, {', '.join(IMAGE_SUFFIXES)}, "
            f"got {ending!r:.40}"
        )
    return ending


def _images(
    folder: Path, ending: str, described: Description, found: Findings
) -> dict[str, dict[int, Path]]:
    """Files by case and number of the channel."""
    images: dict[str, dict[int, Path]] = {}
    for _, path in files_in(folder, found.unpaired):
        match = CHANNEL_NAME.fullmatch(path.name.removesuffix(ending))
        if not path.name.endswith(ending):
            found.drop([path], f"does not end in {ending}, as {DESCRIPTION} says")
        elif match is None:
            found.drop([path], "its name must be CASE_0000, CASE_0001, … by channel")
        elif int(match["channel"]) >= len(described.channels):
            known = f"{DESCRIPTION} names {len(described.channels)}"
            found.drop([path], f"no channel {int(match['channel'])} in {DESCRIPTION}: {known}")
        else:
            images.setdefault(match["case"], {})[int(match["channel"])] = path
    return images


def _labels(folder: Path, ending: str, found: Findings) -> dict[str, Path]:
    """Label maps by case."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} must be a folder with label maps, found no such folder")
    labels: dict[str, Path] = {}
    for _, path in files_in(folder, found.unpaired):
        if path.name.endswith(ending):
            labels[path.name.removesuffix(ending)] = path
        else:
            found.drop([path], f"does not end in {ending}, as {DESCRIPTION} says")
    return labels


def _listed(
    folder: Path, described: Description, found: Findings
) -> tuple[dict[str, dict[int, Path]], dict[str, Path]]:
    """The files of each case that the description lists itself."""
    images: dict[str, dict[int, Path]] = {}
    labels: dict[str, Path] = {}
    for case, (names, label) in listed_files(described).items():
        paths = [folder / name for name in (*names, label)]
        lost = [path for path in paths if not path.is_file()]
        found.drop(lost, f"case {case} of {DESCRIPTION} names it, found no such file")
        images[case] = {number: path for number, path in enumerate(paths[:-1]) if path.is_file()}
        if paths[-1].is_file():
            labels[case] = paths[-1]
    return images, labels
