"""The folders that each command is given: damaged files, and what is whole beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.support.corpus import (
    BOXES,
    FAMILIES,
    IMAGES,
    Damaged,
    box_format,
    every_box_file,
    nifti_bytes,
)

COMMANDS = ("inspect", "score", "boxes", "convert", "train")
KINDS = {**FAMILIES, "every_box": every_box_file}
"""What goes through a command as one folder: each family, and all files of boxes at once."""


def commands_of(kind: str) -> tuple[str, ...]:
    """The commands that take a kind; those that take no boxes get all of them at once."""
    if kind in IMAGES:
        return COMMANDS
    return ("boxes", "train") if kind == "every_box" else ("inspect", "score", "convert")


_ENDS = (
    ".mrk.json",
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".hdr",
    ".img",
    ".mgz",
    ".mgh",
)
_ENDS += (".json", ".csv", ".npz", ".dcm")


def case_of(item: Damaged) -> str:
    """The name of the file without its suffix."""
    end = next((end for end in _ENDS if item.name.lower().endswith(end)), "")
    return item.name[: len(item.name) - len(end)]


class Folders:
    """Folders below `work`, written as a command needs them."""

    def __init__(self, work: Path, family: str, items: Sequence[Damaged]) -> None:
        self.family, self.items, self.work = family, items, work
        self.damaged, self.whole, self.output = (work / n for n in ("damaged", "whole", "output"))
        for folder in (self.damaged, self.whole):
            folder.mkdir(parents=True)

    def arguments(self, command: str) -> list[str]:
        """The words behind the name of the command, after its folders are written."""
        if command == "train":
            return ["--data", str(self._training_folder()), "--dry-run"]
        paths = [item.write(self.damaged) for item in self.items]
        if command == "score":
            return self._score()
        if self.family != "dicom":  # nor a pipe, nor a folder without a series, is a file
            pairs = zip(paths, self.items, strict=True)
            self.items = [item for path, item in pairs if path.is_file() or not path.exists()]
        return self._convert() if command == "convert" else self._named(command)

    def _named(self, command: str) -> list[str]:
        """Every file by its name."""
        names = [str(self.damaged / item.name) for item in self.items]
        if command == "boxes":
            return [*names, "--output", str(self.output)]
        image = ["--image", str(self._masks())] if self.family in BOXES else []
        self.output.mkdir()
        return [*names, *image, "--csv", str(self.output / "files.csv")]

    def _score(self) -> list[str]:
        pred, options = str(self.damaged), ["--output", str(self.output)]
        if self.family in ("json", "box_places"):
            options += ["--at-score", "0.5"]  # the files hold different ones
        ends = {item.name[len(case_of(item)) :] for item in self.items}
        if ends <= {".csv", ".npz", ".mrk.json"}:
            pred = f"{self.damaged}/{{case}}{ends.pop()}"
        return [pred, str(self._masks()), *options]

    def _convert(self) -> list[str]:
        """Boxes are read as their format, NIfTI as label maps, others as the grids of boxes."""
        if self.family in BOXES:
            options = [
                "--from",
                box_format(self.family),
                "--image",
                str(self._masks()),
                "--to",
                "json",
            ]
            return [str(self.damaged), str(self.output), *options]
        if self.family in ("nifti", "nifti2"):
            return [str(self.damaged), str(self.output), "--from", "labelmap", "--to", "json"]
        options = ["--from", "json", "--to", "slicer", "--image", str(self.damaged)]
        return [str(self._boxes()), str(self.output), *options]

    def _masks(self) -> Path:
        """A mask that is whole for each damaged file."""
        for item in self.items:
            (self.whole / f"{case_of(item)}.nii").write_bytes(nifti_bytes())
        return self.whole

    def _boxes(self) -> Path:
        """A box that is whole for each damaged scan."""
        for item in self.items:
            content = {
                "format": "softoverlap-boxes", "version": 1, "case": None, "ndim": 3,
                "affine": None, "boxes": [{"box": [2, 3, 2, 6, 7, 5]}],
            }  # fmt: skip
            (self.whole / f"{case_of(item)}.json").write_text(json.dumps(content))
        return self.whole

    def _training_folder(self) -> Path:
        """Damaged scans with whole masks, and whole scans with damaged masks, by turns."""
        folders = [self.work / "data" / name for name in ("images", "masks")]
        for folder in folders:
            folder.mkdir(parents=True)
        for number, item in enumerate(self.items):
            bad, good = folders[:: 1 if number % 2 else -1]
            item.write(bad)
            (good / f"{case_of(item)}.nii").write_bytes(nifti_bytes())
        return self.work / "data"
