"""Many files in `lesions` and `convert`: errors are collected, tables written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softoverlap.app.cli.console import CountBar, message_of, plural, say

if TYPE_CHECKING:
    from torch import Tensor

    from softoverlap.images import BoxFile, Volume
    from softoverlap.lesions import LesionCandidate, LesionScore


@dataclass
class Batch:
    """The outcome for many files: a line for each that failed."""

    failed: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], int | str], bar: CountBar, name: str) -> None:
        """Do one piece of work, which returns its number of boxes or words; keep its error."""
        try:
            count = work()
        except (ValueError, OSError) as error:
            self.failed.append(message_of(error))
            bar(f"{name}: failed")  # the reason is told once, at the end
        else:
            text = f"{count} box" + ("" if count == 1 else "es")
            bar(f"{name}: {count if isinstance(count, str) else text}")

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
    boxes: BoxFile | None = None
    volumes: tuple[float, ...] = ()
    error: str = ""


def load_map(path: Path, *, values: str, label: int | None, regions: bool = True) -> Volume:
    """A soft mask or a probability map, also nnU-Net's, as probabilities with their place.

    A label chooses from label maps and nnU-Net's maps; other maps are of that label already.
    """
    from softoverlap.images import (
        Volume,
        as_probabilities,
        check_map_is_there,
        is_nnunet_map,
        label_to_read,
        load_image,
        load_nnunet_map,
    )

    if is_nnunet_map(path):
        return load_nnunet_map(path, label=label, regions=regions)
    volume = load_image(path)
    if volume.data.ndim != 3:
        raise ValueError(f"{path} must hold one channel, got {len(volume.data)}")
    if values == "auto":
        check_map_is_there(path, volume.data)
    label = label_to_read(values, label)
    mask = as_probabilities(volume, values=values, label=label, name=str(path))
    return Volume(mask, volume.affine)


def boxes_of_mask(
    volume: Volume, case: str, *, label: int | None, score: LesionScore, **options: Any
) -> MaskRow:
    """Tight boxes of a mask's lesions, found with the options of `lesion_candidates`, and scored.

    The label of a box is that of its class in label maps, if one was chosen, else 0.
    """
    from softoverlap.lesions import lesion_candidates

    candidates = lesion_candidates(volume.data, spacing=volume.lesion_spacing, **options)
    boxes = box_file(candidates, volume.affine, case, label=label, score=score)
    return MaskRow(case, boxes, tuple(one.lesion.volume_mm3 for one in candidates))


def box_file(
    candidates: Sequence[LesionCandidate],
    affine: Tensor,
    case: str,
    *,
    label: int | None,
    score: LesionScore | None,
) -> BoxFile:
    """Boxes of candidates, without scores if there is none."""
    import torch

    from softoverlap.images import BoxFile

    rows = [one.lesion.box.tolist() for one in candidates]
    scores = None if score is None else [float(score(one)) for one in candidates]
    return BoxFile(
        torch.tensor(rows, dtype=torch.float64).reshape(-1, 6),
        None if scores is None else torch.tensor(scores, dtype=torch.float64),
        torch.full((len(rows),), label or 0),
        affine,
        case,
    )


def files_of(places: Iterable[Path], to: str) -> list[Path]:
    """All files that will be written: a label map comes with its table."""
    from softoverlap.images import written_files

    if to != "labelmap":
        return list(places)
    return [file for place in places for file in written_files(place)]


def write_mask_tables(
    output: Path,
    rows: Sequence[MaskRow],
    files: Mapping[str, Iterable[Path]],
    cut: Mapping[str, object],
) -> None:
    """Write `boxes.csv`, one row per lesion, and `cases.csv`, one row per mask.

    Args:
        output: The folder.
        rows: The masks that are done.
        files: The files of each case.
        cut: How all masks were cut and scored, a column of `cases.csv` each.
    """
    from softoverlap.images import axis_names, write_table

    boxes, cases = [], []
    for row in rows:
        count = "" if row.boxes is None else len(row.boxes.boxes)
        state = "failed" if row.boxes is None else "ok"
        names = "; ".join(map(str, files[row.case]))
        cases.append([row.case, names, state, count, *cut.values(), row.error])
        if row.boxes is not None:
            boxes += _lesion_rows(row.case, row.boxes, row.volumes)
    header = ["case", "score", "label", *axis_names(3), "volume_mm3"]
    write_table(output / "boxes.csv", header, boxes)
    header = ["case", "file", "state", "boxes", *cut, "error"]
    write_table(output / "cases.csv", header, cases)


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
