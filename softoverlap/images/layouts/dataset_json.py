"""`dataset.json` of nnU-Net (both versions) and of the Medical Segmentation Decathlon.

| | channels | classes |
| --- | --- | --- |
| nnU-Net 2 | `"channel_names": {"0": "T1"}` | `"labels": {"background": 0, "lump": 1}` |
| nnU-Net 1, Decathlon | `"modality": {"0": "T1"}` | `"labels": {"0": "background", "1": "lump"}` |

In nnU-Net 2 a class may be a region of several numbers (`"whole": [1, 2]`), and a class called
`ignore` marks voxels that nobody has labelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softoverlap.images.formats.record import list_in, naming, objects_in
from softoverlap.images.texts import read_json, whole_number

DESCRIPTION = "dataset.json"
_KIND = "description of a data set"
_IGNORE = "ignore"


@dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    Args:
        path: The file.
        channels: Names of the channels, in the order of their numbers.
        classes: Names of the classes, without background.
        values: The numbers of each class.
        ignore: The number of voxels without a label, or None.
        content: All of it.
    """

    path: Path
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    ignore: int | None
    content: Mapping[str, Any]

    def count_note(self, found: int) -> list[str]:
        """A note if it counts other cases than were found."""
        said = self.content.get("numTraining")
        if said is None or said == found:
            return []
        return [f"{self.path} says numTraining {said!r:.40}, but {found} cases are complete"]


def read_description(path: Path) -> Description:
    """The channels and classes of a data set.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON, or does not say channels and classes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} must describe the data set, found no such file")
    content = read_json(path)
    with naming(path, _KIND):
        if not isinstance(content, dict):
            raise TypeError(f"{content!r:.60}, which is no object")
        key = "channel_names" if "channel_names" in content else "modality"
        channels = _by_number(_object_in(content, key), key)
        labels = _object_in(content, "labels")
        old = bool(labels) and all(name.isdigit() for name in labels)
        named = {name: number for number, name in labels.items()} if old else dict(labels)
        if len(named) < len(labels):
            raise ValueError(f"labels must have different names, got {labels!r:.80}")
        values = {_text(name, "labels"): _numbers(value) for name, value in named.items()}
    return _described(path, channels, values, content)


def _described(
    path: Path, channels: tuple[str, ...], values: dict[str, tuple[int, ...]], content: Any
) -> Description:
    ignore = values.pop(_IGNORE, None)
    classes = {name: numbers for name, numbers in values.items() if 0 not in numbers}
    if not classes:
        raise ValueError(f"{path} must have a label besides the background, got {list(values)}")
    if ignore is not None and len(ignore) != 1:
        raise ValueError(f"{path} must have one number for ignore, got {list(ignore)}")
    return Description(
        path, channels, tuple(classes), tuple(classes.values()), ignore and ignore[0], content
    )


def is_paired_list(content: Any) -> bool:
    """Whether the content of a JSON file lists images with label maps, as the Decathlon's does."""
    entries = content.get("training") if isinstance(content, dict) else None
    first = entries[0] if isinstance(entries, list) and entries else None
    return isinstance(first, dict) and {"image", "label"} <= set(first) and "box" not in first


def training_pairs(description: Description) -> list[tuple[str, str]]:
    """Image and label map of each case that the description lists."""
    with naming(description.path, _KIND):
        entries = objects_in(description.content["training"], "training")
        return [(_text(e["image"], "image"), _text(e["label"], "label")) for e in entries]


def listed_files(description: Description) -> dict[str, tuple[list[str], str]]:
    """Images and label map of each case, where nnU-Net 2 lists them under `dataset`."""
    with naming(description.path, _KIND):
        listed = _object_in(description.content, "dataset")
        return {
            name: (
                [_text(image, "images") for image in list_in(files["images"], "images")],
                _text(files["label"], "label"),
            )
            for name, files in listed.items()
        }


def _object_in(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(content[key], dict):
        raise TypeError(f"{content[key]!r:.60} as {key}, which is no object")
    return content[key]


def _by_number(named: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Names in the order of their numbers, which count from 0."""
    numbers = [str(number) for number in range(len(named))]
    if not named or set(named) != set(numbers):
        raise ValueError(f"{key} must be numbered from 0 on, got {', '.join(named) or 'none'}")
    return tuple(_text(named[number], key) for number in numbers)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} in {key}, which is no text")
    return value


def _numbers(value: Any) -> tuple[int, ...]:
    """The number of a class, or the numbers of a region."""
    values = value if isinstance(value, list) else [value]
    numbers = tuple(int(v) if isinstance(v, str) else whole_number(v) for v in values)
    if not numbers or min(numbers) < 0:
        raise ValueError(f"labels must be whole numbers from 0 on, got {value!r:.60}")
    return numbers
