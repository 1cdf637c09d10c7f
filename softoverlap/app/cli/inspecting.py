"""What `softoverlap inspect` finds in a file: a record that is printed, and a row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from softoverlap.app.cli.box_words import BoxReading, box_contents
from softoverlap.app.cli.console import say_left_out
from softoverlap.app.cli.image_words import Reading, image_contents

COLUMNS = (
    "file", "format", "channels", "shape", "spacing_mm", "axes", "oblique_degrees", "dtype",
    "values", "lowest", "highest", "not_finite", "labels", "lesions", "volume_ml", "cases", "boxes",
    "error",
)  # fmt: skip
"""The columns of `--csv`. Of boxes, `lowest` and `highest` are those of the scores."""


def named_files(sources: Sequence[str]) -> list[Path]:
    """Named files, those of folders, and the images and boxes that match patterns.

    Of a folder its images are read, or, if it has none, its files of boxes.
    """
    from softoverlap.app.cohort import BOX_SUFFIXES
    from softoverlap.images import (
        IMAGE_SUFFIXES,
        find_files,
        is_dicom_folder,
        is_image_name,
        left_out,
    )

    either = (*IMAGE_SUFFIXES, *BOX_SUFFIXES)
    files: list[Path] = []
    for source in sources:
        folder = Path(source)
        entries = folder.iterdir() if folder.is_dir() else ()
        images = is_dicom_folder(folder) or any(map(is_image_name, entries))
        files += find_files([source], IMAGE_SUFFIXES if images else either, "files")
        if images:
            say_left_out(left_out([source]))
    return files


def is_image(path: Path) -> bool:
    """Whether the name is that of an image; other files hold boxes."""
    from softoverlap.images import is_image_name, is_other_image

    return path.is_dir() or is_image_name(path) or is_other_image(path) or not path.suffix


def contents_of(path: Path, reading: Reading, box_reading: BoxReading) -> Contents:
    """What the file holds."""
    return image_contents(path, reading) if is_image(path) else box_contents(path, box_reading)


class Contents(Protocol):
    """What a file holds: all that is printed about it, and its row of a table."""

    def lines(self) -> list[str]:
        """What is printed."""
        ...

    def row(self) -> dict[str, object]:
        """Values by the names of `COLUMNS`."""
        ...
