"""All formats by name, and how the format of a file is recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softoverlap._checks import check_choice, refusal
from softoverlap.images.formats import (
    coco,
    label_map,
    label_table,
    markups,
    monai,
    nndetection,
    ours,
    table,
)
from softoverlap.images.formats.npz import load_npz
from softoverlap.images.formats.record import BoxFile, Hints
from softoverlap.images.nifti import NIFTI_SUFFIXES, is_nifti_name
from softoverlap.images.texts import read_json


@dataclass(frozen=True)
class BoxFormat:
    """One format: its reader, its writer, and its suffixes."""

    read: Callable[[Path, Hints], dict[str, BoxFile]]
    write: Callable[[Path, Mapping[str, BoxFile], Hints], None]
    suffix: str
    many: bool = False
    """Whether one file can hold many cases."""
    others: tuple[str, ...] = ()
    """Further suffixes."""
    keeps: tuple[str, ...] = ()
    """Which of the fields that few formats have are read back."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """All suffixes, the usual one first."""
        return (self.suffix, *self.others)


RARE = {
    "score_threshold": "the score threshold",
    "ignored": "which lesions are ignored",
    "smallest_anchor": "the smallest anchor",
}
"""Fields of `BoxFile` that few formats have, in words; the threshold's rule goes with it."""


FORMATS: dict[str, BoxFormat] = {
    "json": BoxFormat(ours.read, ours.write, ".json", keeps=tuple(RARE)),
    "monai": BoxFormat(monai.read, monai.write, ".json", many=True),
    "nndetection": BoxFormat(nndetection.read, nndetection.write, ".npz", others=(".json",)),
    "coco": BoxFormat(coco.read, coco.write, ".json", many=True, keeps=("ignored",)),
    "csv": BoxFormat(table.read, table.write, ".csv", many=True, keeps=("ignored",)),
    "slicer": BoxFormat(markups.read, markups.write, ".mrk.json"),
    "labelmap": BoxFormat(label_map.read, label_map.write, ".nii.gz", others=(".nii",)),
}
"""All formats by name."""


def refuse_unread(path: Path) -> None:
    """Refuse formats that are not read, and say how to bring their files over."""
    if path.suffix.lower() in markups.OLD:
        markups.refuse_old(path)
    if path.suffix.lower() in nndetection.PICKLES:
        nndetection.refuse_pickle(path)


def format_of(path: Path) -> str:
    """The format of an existing file, from its suffix or its content."""
    refuse_unread(path)
    suffix = path.suffix.lower()
    if is_nifti_name(path):
        return "labelmap"
    if suffix == ".csv":
        return "csv"
    content: Any = None
    if suffix == ".npz":
        content = load_npz(path)
    elif suffix == ".json":
        content = read_json(path)
    name = _format_of(content)
    if name is None:
        raise ValueError(
            f"{path} does not say its format: name it with `format=`, one of {', '.join(FORMATS)}"
        )
    return name


def _format_of(content: Any) -> str | None:
    """The format by keys that only it has; shapes alone do not show ours or nnDetection's."""
    if isinstance(content, dict) and content.get("format") == ours.FORMAT:
        return "json"
    if isinstance(content, dict) and {"pred_boxes", "itk_origin"} <= set(content):
        return "nndetection"
    tests = {
        "labelmap": label_table.is_instances,
        "slicer": markups.is_markups,
        "coco": coco.is_coco,
        "monai": monai.is_list,
    }
    return next((name for name, fits in tests.items() if fits(content)), None)


def is_in_mm(path: Path, name: str) -> bool:
    """Whether a file of this format is in mm and knows no voxels: ROIs, and LUNA16's list."""
    return name == "slicer" or (name == "csv" and table.is_in_mm(path))


def notes_on_dropped(path: Path, name: str, files: Mapping[str, BoxFile]) -> tuple[str, ...]:
    """A note on what the files hold and this format does not."""
    dropped = [
        words
        for field, words in RARE.items()
        if field not in FORMATS[name].keeps
        and any(getattr(file, field) is not None for file in files.values())
    ]
    return (f"{path}: {name} does not keep {', '.join(dropped)}",) if dropped else ()


def format_to_write(path: Path, name: str | None) -> str:
    """The format of a file to write: the named one, or by suffix (.json is our own)."""
    if name is None:
        suffixes = {".mrk.json": "slicer", ".npz": "nndetection", ".csv": "csv", ".json": "json"}
        suffixes |= dict.fromkeys(NIFTI_SUFFIXES, "labelmap")
        lower = path.name.lower()
        name = next((kind for end, kind in suffixes.items() if lower.endswith(end)), None)
        if name is None:
            raise refusal("path", f"must end in one of {', '.join(suffixes)}, got {path}")
    check_choice("format", name, FORMATS)
    allowed = FORMATS[name].suffixes
    if not path.name.lower().endswith(allowed):
        raise refusal("path", f"must end in {' or '.join(allowed)} for {name}, got {path}")
    return name
