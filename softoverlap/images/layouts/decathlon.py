"""The Medical Segmentation Decathlon: scans with their channels last, listed in `dataset.json`.

```
FOLDER/imagesTr/CASE.nii.gz    the scan; several channels are the fourth axis
FOLDER/labelsTr/CASE.nii.gz    its label map
FOLDER/dataset.json            {"modality": …, "labels": …, "training": [{"image": …, "label": …}]}
```
"""

from __future__ import annotations

from pathlib import Path

from softoverlap.images.images import image_name
from softoverlap.images.layouts.dataset_json import DESCRIPTION, read_description, training_pairs
from softoverlap.images.layouts.names import files_in, patient_of
from softoverlap.images.layouts.record import Case, Findings, LabelMap


def find(folder: Path) -> Findings:
    """The listed pairs whose files are there."""
    described = read_description(folder / DESCRIPTION)
    found = Findings(channels=described.channels, classes=described.classes)
    listed: set[Path] = set()
    for pair in training_pairs(described):
        image, label = (Path(folder, name) for name in pair)
        name = image_name(image)
        if name in found.names:
            raise ValueError(f"{described.path} must list each case once, got {name} again")
        found.names.add(name)
        listed |= {image, label}
        lost = [path for path in (image, label) if not path.is_file()]
        if lost:
            there = [path for path in (image, label) if path.is_file()]
            found.drop(lost, f"{DESCRIPTION} lists it, found no such file")
            found.drop(there, f"the other file of case {name} is missing")
            continue
        labels = LabelMap(label, described.values, described.ignore)
        case = Case(
            name, patient_of(name), image, None, (),
            channels=described.channels, classes=described.classes, labels=labels,
        )  # fmt: skip
        found.cases.append(case)
    if not listed:
        raise ValueError(f"{described.path} must list scans as training, got none")
    for room in ("imagesTr", "labelsTr"):
        others = [path for _, path in files_in(folder / room, found.unpaired)]
        found.drop(
            [path for path in others if path not in listed],
            f"{DESCRIPTION} does not list it as training",
        )
    found.notes += described.count_note(len(found.cases))
    return found
