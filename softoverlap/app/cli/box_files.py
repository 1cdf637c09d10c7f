"""Many files in `boxes` and `convert`: errors are collected, tables written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softoverlap.app.cli.console import CountBar, message_of, plural, say

if TYPE_CHECKING:
    from softoverlap.images import BoxFile


@dataclass
class Batch:
    """The outcome for many files: a line for each that failed."""

    failed: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], int], bar: CountBar, name: str) -> None:
        """Do one piece of work, which returns its number of boxes; keep the message if it fails."""
        try:
            count = work()
        except (ValueError, OSError) as error:
            self.failed.append(message_of(error))
            bar(f"{name}: failed")  # the reason is told once, at the end
        else:
            bar(f"{name}: {count} box" + ("" if count == 1 else "es"))

    def summary(self, done: int, noun: str, where: Path | None, verb: str) -> None:
        """Print the last lines; without a place nothing was written."""
        results = "nothing was written" if where is None else f"results in {where}"
        say(f"{plural(done, noun)} {verb}, {len(self.failed)} failed; {results}")
        for line in self.failed:
            say(f"failed: {line}")


@dataclass(frozen=True)
class MaskRow:
    """A mask, its boxes and the volumes of its lesions in mm³, or the error."""

    case: str
    path: Path
    boxes: BoxFile | None = None
    volumes: tuple[float, ...] = ()
    error: str = ""


def boxes_of_mask(
    path: Path,
    case: str,
    *,
    values: str,
    label: int | None,
    **options: Any,
) -> MaskRow:
    """Tight boxes of a mask's lesions, found with the options of `lesions_from_mask`.

    The score of a box is the highest probability of its lesion.
    """
    import torch

    from softoverlap.images import BoxFile, as_probabilities, load_image
    from softoverlap.lesions import lesions_from_mask

    volume = load_image(path)
    if volume.data.ndim != 3:
        raise ValueError(f"{path} must hold one channel, got {len(volume.data)}")
    mask = as_probabilities(volume, values=values, label=label, name=str(path))
    lesions = lesions_from_mask(mask, spacing=volume.lesion_spacing, **options)
    scores = [lesion.crop.max().double() for lesion in lesions]
    boxes = BoxFile(
        torch.stack([lesion.box.double() for lesion in lesions])
        if lesions
        else torch.zeros(0, 6, dtype=torch.float64),
        torch.stack(scores) if scores else torch.zeros(0, dtype=torch.float64),
        torch.tensor([lesion.label for lesion in lesions], dtype=torch.int64),
        volume.affine,
        case,
    )
    return MaskRow(case, path, boxes, tuple(lesion.volume_mm3 for lesion in lesions))


def write_mask_tables(output: Path, rows: Sequence[MaskRow]) -> None:
    """Write `boxes.csv`, one row per lesion, and `cases.csv`, one row per mask."""
    from softoverlap.images import axis_names, write_table

    boxes, cases = [], []
    for row in rows:
        count = "" if row.boxes is None else len(row.boxes.boxes)
        state = "failed" if row.boxes is None else "ok"
        cases.append([row.case, str(row.path), state, count, row.error])
        if row.boxes is not None:
            boxes += _lesion_rows(row.case, row.boxes, row.volumes)
    header = ["case", "score", "label", *axis_names(3), "volume_mm3"]
    write_table(output / "boxes.csv", header, boxes)
    write_table(output / "cases.csv", ["case", "file", "state", "boxes", "error"], cases)


def _lesion_rows(case: str, file: BoxFile, volumes: Sequence[float]) -> list[list[object]]:
    assert file.scores is not None and file.labels is not None  # noqa: PT018
    columns = (file.scores.tolist(), file.labels.tolist(), file.boxes.tolist(), volumes)
    rows = zip(*columns, strict=True)
    return [[case, score, label, *box, volume] for score, label, box, volume in rows]


def targets(
    files: Mapping[str, BoxFile], output: Path, to: str, *, one_file: bool
) -> dict[Path, dict[str, BoxFile]]:
    """The files to write, each with its cases."""
    from softoverlap.images import FORMATS

    if one_file:
        if len(files) > 1 and not FORMATS[to].many:
            raise ValueError(
                f"OUT must be a folder, since {to} holds one case per file and IN has "
                f"{len(files)}, got {output}"
            )
        return {output: dict(files)} if files else {}
    for case in files:
        if Path(case).name != case or case == "..":
            raise ValueError(f"the case {case!r} must be a plain name, since it names a file")
    suffix = FORMATS[to].suffix
    return {output / f"{case}_boxes{suffix}": {case: file} for case, file in files.items()}
