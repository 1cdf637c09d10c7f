"""What `softoverlap inspect` finds in files of boxes, of one case or many."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softoverlap.app.cli.console import plural

if TYPE_CHECKING:
    from torch import Tensor

    from softoverlap.images import BoxFile

MOST_CASES = 20
"""Cases of one file that are listed one by one."""


@dataclass(frozen=True)
class BoxReading:
    """Options for what a file of boxes may not say itself, as in `softoverlap convert`."""

    image: Path | None = None
    frame: str | None = None
    axis_order: str | None = None


def read_files(path: Path, reading: BoxReading) -> dict[str, BoxFile]:
    """The boxes of each case; the scan is read only if the file does not say its own grid."""
    from softoverlap.images import read_box_files

    options: dict[str, Any] = {"frame": reading.frame, "axis_order": reading.axis_order}
    try:
        files = read_box_files(path, **options)
    except ValueError:
        if reading.image is None:
            raise
        return read_box_files(path, image=reading.image, **options)
    if reading.image is None or all(file.affine is not None for file in files.values()):
        return files
    if len(files) > 1 and not reading.image.is_dir():  # one scan cannot belong to all cases
        return files
    return read_box_files(path, image=reading.image, **options)


@dataclass(frozen=True, eq=False)
class BoxContents:
    """The boxes of each case of a file; of markups without their scan, only the sizes in mm."""

    files: Mapping[str, BoxFile]
    sizes_mm: Tensor | None = None

    def lines(self) -> list[str]:
        """What is printed."""
        if self.sizes_mm is not None:
            return [
                "format   3D Slicer's markups, in mm (--image SCAN adds the voxels)",
                f"boxes    {len(self.sizes_mm)}{_edges(self.sizes_mm, 'mm')}",
            ]
        if len(self.files) == 1:
            return box_lines(next(iter(self.files.values())))
        return _case_lines(self.files)

    def row(self) -> dict[str, object]:
        """Values by the names of the table's columns."""
        if self.sizes_mm is not None:
            return {"format": "3D Slicer's markups", "boxes": len(self.sizes_mm)}
        files = self.files.values()
        scores = [
            score for file in files if file.scores is not None for score in file.scores.tolist()
        ]
        labels = {k for file in files if file.labels is not None for k in file.labels.tolist()}
        return {
            "format": "boxes",
            "values": "scores" if scores else None,
            "lowest": min(scores, default=None),
            "highest": max(scores, default=None),
            "labels": ";".join(map(str, sorted(labels))),
            "cases": len(files),
            "boxes": sum(len(file.boxes) for file in files),
        }


def box_contents(path: Path, reading: BoxReading) -> BoxContents:
    """What a file of boxes holds."""
    from softoverlap.images import roi_sizes

    if reading.image is None and path.name.lower().endswith(".mrk.json"):
        return BoxContents({}, roi_sizes(path))
    return BoxContents(read_files(path, reading))


def _case_lines(files: Mapping[str, BoxFile]) -> list[str]:
    """The number of boxes, then a line for each of the first cases."""
    count = sum(len(file.boxes) for file in files.values())
    lines = ["format   boxes of many cases", f"boxes    {count} in {plural(len(files), 'case')}"]
    for case, file in list(files.items())[:MOST_CASES]:
        ndim = file.boxes.shape[1] // 2
        words = f"{_boxes(len(file.boxes))} in {ndim}D{_edges(_sizes(file), 'voxels')}"
        scores = "" if file.scores is None else _scores(file.scores, ", scores ")
        lines.append(f"case     {case}: {words}{scores}")
    omitted = len(files) - MOST_CASES
    return [*lines, f"case     and {omitted} more"] if omitted > 0 else lines


def box_lines(file: BoxFile) -> list[str]:
    """Number, scores and position of the boxes of one case."""
    boxes, ndim = file.boxes, file.boxes.shape[1] // 2
    lines = [f"format   boxes in {ndim}D" + (f", of {file.case}" if file.case else "")]
    lines += [f"boxes    {len(boxes)}{_edges(_sizes(file), 'voxels')}"]
    if file.scores is None:
        lines += ["scores   none"]
    elif len(boxes):
        median = statistics.median(file.scores.tolist())
        lines += [f"{_scores(file.scores, 'scores   ')}, median {median:.4g}"]
    lines += _operating_lines(file)
    if file.labels is not None and len(boxes):
        lines += [f"labels   {', '.join(map(str, file.labels.unique().tolist()))}"]
    affine = "none: their position in mm is unknown" if file.affine is None else "known (RAS)"
    return [*lines, f"affine   {affine}"]


def _operating_lines(file: BoxFile) -> list[str]:
    """The score threshold, the lesions that are ignored, and the smallest anchor, if known."""
    lines = []
    if file.score_threshold is not None:
        rule = f" ({file.threshold_rule})" if file.threshold_rule else ""
        above, count = int(file.above.sum()), len(file.boxes)
        lines += [f"above    {above} of {count} at or above {file.score_threshold:.4g}{rule}"]
    if file.ignored is not None:
        lines += [f"ignored  {int(file.ignored.sum())} of {len(file.boxes)}"]
    if file.smallest_anchor is not None:
        edges = " x ".join(f"{edge:.4g}" for edge in file.smallest_anchor)
        lines += [f"anchor   smallest {edges} voxels"]
    return lines


def _boxes(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"


def _sizes(file: BoxFile) -> Tensor:
    low, high = file.boxes.chunk(2, dim=1)
    return high - low


def _edges(sizes: Tensor, unit: str) -> str:
    """Shortest and longest edge, empty without boxes."""
    if not len(sizes):
        return ""
    return f", edges from {float(sizes.min()):.4g} to {float(sizes.max()):.4g} {unit}"


def _scores(scores: Tensor, lead: str) -> str:
    """Lowest and highest score, empty without boxes."""
    if not len(scores):
        return ""
    return "{}from {:.4g} to {:.4g}".format(lead, *map(float, scores.aminmax()))
