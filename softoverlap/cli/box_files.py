"""What `boxes` and `convert` do with files: find them, keep them safe, note what failed."""

from __future__ import annotations

import csv
import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.cli.console import CountBar, plural, say

if TYPE_CHECKING:
    from softoverlap.data import BoxFile


def find_sources(
    sources: Sequence[str], suffixes: Sequence[str], what: str, *, without: Sequence[str] = ()
) -> list[Path]:
    """Files that are named, and those of folders and patterns with one of the suffixes; each once.

    A file that is named need not exist: it fails by itself, and the others go on.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        for path in _matches(source, tuple(suffixes), tuple(without), what):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _matches(
    source: str, suffixes: tuple[str, ...], without: tuple[str, ...], what: str
) -> list[Path]:
    path, is_pattern = Path(source), glob.has_magic(source)
    if path.is_file() or not (path.is_dir() or is_pattern):
        return [path]
    files = path.iterdir() if path.is_dir() else map(Path, glob.glob(source))
    fits = [file for file in files if file.is_file() and file.name.endswith(suffixes)]
    kept = [
        f for f in fits if not (f.name.startswith(".") or (without and f.name.endswith(without)))
    ]
    if not kept:
        raise FileNotFoundError(
            f"{what} must be files ending in {' or '.join(suffixes)}, found none in {source}"
        )
    return sorted(kept)


def check_free(written: Iterable[Path], read: Iterable[Path], *, overwrite: bool) -> None:
    """No input is ever replaced, an earlier result only where that is asked for."""
    sources = {path.resolve() for path in read}
    for path in written:
        if path.resolve() in sources:
            raise FileExistsError(f"{path} is read and must not be replaced by a result")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} must not exist yet: pass --overwrite or another output")


def check_names(paths: Sequence[Path], name: Callable[[Path], str], what: str) -> None:
    """No two files would share the name of a result."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(name(path), path)
        if other != path:
            raise ValueError(f"{what} must have names of their own, got {other} and {path}")


@dataclass
class Batch:
    """What became of many files: results as they come, and a line for each that failed."""

    failed: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], int], bar: CountBar, name: str) -> None:
        """Do one piece of work, which returns its number of boxes; note it if it fails."""
        try:
            count = work()
        except (ValueError, OSError) as error:
            self.failed.append(" ".join(str(error).split()))
            bar(f"{name}: failed: {self.failed[-1]}")
        else:
            bar(f"{name}: {count} box" + ("" if count == 1 else "es"))

    def summary(self, done: int, noun: str, where: Path, verb: str) -> None:
        """The last lines."""
        say(f"{plural(done, noun)} {verb}, {len(self.failed)} failed; results in {where}")
        for line in self.failed:
            say(f"failed: {line}")


@dataclass(frozen=True)
class MaskRow:
    """A mask, its boxes and the volumes of its lesions in mm³, or why there are none."""

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
    threshold: float,
    low: float | None,
    connectivity: int,
    min_mm3: float,
) -> MaskRow:
    """Tight boxes of a mask's lesions; the score is the mean probability of their voxels."""
    import torch

    from softoverlap.data import BoxFile, as_probabilities, lesions_from_mask, load_image

    volume = load_image(path)
    if volume.data.ndim != 3:
        raise ValueError(f"{path} must hold one channel, got {len(volume.data)}")
    mask = as_probabilities(volume, values=values, label=label, name=str(path))
    lesions = lesions_from_mask(
        mask, spacing=volume.spacing, threshold=threshold, low=low,
        connectivity=connectivity, min_mm3=min_mm3,
    )  # fmt: skip
    least = threshold if low is None else low
    scores = [lesion.crop[lesion.crop >= least].double().mean() for lesion in lesions]
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
    """`boxes.csv`, a row a lesion, and `cases.csv`, a row a mask."""
    from softoverlap.data.formats.ours import axis_names

    boxes, cases = [], []
    for row in rows:
        count = "" if row.boxes is None else len(row.boxes.boxes)
        state = "failed" if row.boxes is None else "ok"
        cases.append([row.case, str(row.path), state, count, row.error])
        if row.boxes is not None:
            boxes += _lesion_rows(row.case, row.boxes, row.volumes)
    header = ["case", "score", "label", *axis_names(3), "volume_mm3"]
    write_csv(output / "boxes.csv", header, boxes)
    write_csv(output / "cases.csv", ["case", "file", "state", "boxes", "error"], cases)


def _lesion_rows(case: str, file: BoxFile, volumes: Sequence[float]) -> list[list[object]]:
    assert file.scores is not None and file.labels is not None  # noqa: PT018
    columns = (file.scores.tolist(), file.labels.tolist(), file.boxes.tolist(), volumes)
    rows = zip(*columns, strict=True)
    return [[case, score, label, *box, volume] for score, label, box, volume in rows]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in full precision, whole or not at all."""
    from softoverlap.data import whole_file

    with whole_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        writer.writerows(rows)


def targets(
    files: Mapping[str, BoxFile], output: Path, to: str, *, one_file: bool
) -> dict[Path, dict[str, BoxFile]]:
    """Which cases go into which file."""
    from softoverlap.data import FORMATS

    if one_file:
        if len(files) > 1 and not FORMATS[to].many:
            raise ValueError(
                f"OUT must be a folder, since {to} holds one case a file and IN {len(files)}, "
                f"got {output}"
            )
        return {output: dict(files)} if files else {}
    for case in files:
        if Path(case).name != case or case == "..":
            raise ValueError(f"the case {case!r} must be a plain name to become a file's")
    suffix = FORMATS[to].suffix
    return {output / f"{case}_boxes{suffix}": {case: file} for case, file in files.items()}
