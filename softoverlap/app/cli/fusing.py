"""What `softoverlap fuse` does with files: one case, or a folder of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.app.cli.console import CountBar, message_of, plural, say
from softoverlap.app.cli.flags import in_flags

if TYPE_CHECKING:
    from torch import Tensor

    from softoverlap.images import RaterStack, Unpaired

COLUMNS: tuple[str, ...] = ("case", "raters", "volume_ml", "warning", "error")


@dataclass(frozen=True)
class Fusion:
    """How to fuse."""

    method: str
    weights: tuple[float, ...] | None = None
    threshold: float | None = None
    geometry: str = "strict"
    values: str = "auto"
    label: int | None = None


@dataclass(frozen=True)
class Fused:
    """A fused mask: number of raters, volume, notes, and the quality of each rater."""

    count: int
    volume_ml: float
    notes: tuple[str, ...]
    raters: tuple[str, ...] = ()


def parse_weights(text: str | None, method: str) -> tuple[float, ...] | None:
    """`2,1,1` as numbers; only one method takes them."""
    if (text is None) == (method == "weighted"):
        raise ValueError(
            "--weights must be given for --method weighted and no other, "
            f"got {'none' if text is None else text} for {method}"
        )
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--weights must be numbers with commas, got {text!r}") from None


def fuse_files(paths: Sequence[Path], output: Path, fusion: Fusion) -> Fused:
    """Read the masks of one case, fuse them, and write the result on the grid of the first."""
    from softoverlap._units import MM3_PER_ML
    from softoverlap.images import save_nifti, voxel_volume
    from softoverlap.lesions import fuse_raters, staple

    stack, names = _read(paths, fusion)
    quality: tuple[str, ...] = ()
    if fusion.method == "staple":
        estimate = staple(stack.raters, threshold=fusion.threshold)
        mask = estimate.probability
        rates = estimate.sensitivity.tolist(), estimate.specificity.tolist()
        quality = tuple(
            f"{name}: sensitivity {sensitivity:.4f}, specificity {specificity:.6f}"
            for name, sensitivity, specificity in zip(names, *rates, strict=True)
        )
    else:
        mask = fuse_raters(
            stack.raters, method=fusion.method, weights=fusion.weights, threshold=fusion.threshold
        )
    save_nifti(output, mask, stack.affine)
    volume_ml = float(mask.double().sum()) * voxel_volume(stack.affine) / MM3_PER_ML
    return Fused(len(names), volume_ml, stack.notes, quality)


def _read(paths: Sequence[Path], fusion: Fusion) -> tuple[RaterStack, list[str]]:
    """The masks of one case, and a name for each: its file, or its number in a 4D file."""
    from softoverlap.images import load_raters

    hard = fusion.method in ("majority", "staple") and fusion.threshold is None
    stack = load_raters(
        paths, geometry=fusion.geometry, values=fusion.values, label=fusion.label, nearest=hard
    )
    names, files = [path.name for path in paths], list(paths)
    if len(stack.raters) > len(paths) > 1:
        raise ValueError(
            f"{', '.join(names)} must hold one 3D volume each, got {len(stack.raters)} in all: "
            "fuse a 4D file of raters alone"
        )
    if len(stack.raters) > len(paths):
        names = [f"{paths[0].name}, rater {number + 1}" for number in range(len(stack.raters))]
        files = [paths[0]] * len(names)
    if hard:
        for path, mask in zip(files, stack.raters, strict=True):
            _check_hard(path, mask, fusion.method)
    return stack, names


def _check_hard(path: Path, mask: Tensor, method: str) -> None:
    """The mask holds 0 and 1 only."""
    soft = mask[(mask != 0) & (mask != 1)]
    if len(soft):
        raise ValueError(
            f"{path} must hold 0 and 1 for --method {method}, got {float(soft[0]):g}: pass "
            "--threshold 0.5 or another"
        )


def fuse_folder(
    cases: Mapping[str, Sequence[Path]], left_out: Iterable[Unpaired], output: Path, fusion: Fusion
) -> list[dict[str, object]]:
    """Fuse case by case, go on after errors, and write `fused.csv` with one row per case.

    A case of which a rater's file is left out says so in its row.
    """
    from softoverlap.images import write_table

    rows: list[dict[str, object]] = []
    others = list(left_out)
    try:
        with CountBar("fused", len(cases)) as bar:
            for case, paths in cases.items():
                left = [file for file in others if file.path.name.startswith(f"{case}_rater")]
                rows.append(_row(case, paths, left, output, fusion))
                bar(f"{case}: {rows[-1]['error'] or plural(len(paths), 'rater')}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(rows)} of {plural(len(cases), 'case')} are done, with results in {output}"
        ) from None
    finally:
        _note_odd_counts(rows)
        table = [[row[name] for name in COLUMNS] for row in rows]
        write_table(output / "fused.csv", COLUMNS, table)
    return rows


def _row(
    case: str, paths: Sequence[Path], left: Sequence[Unpaired], output: Path, fusion: Fusion
) -> dict[str, object]:
    row: dict[str, object] = {"case": case, "raters": len(paths)}
    try:
        fused = fuse_files(paths, output / f"{case}.nii.gz", fusion)
    except (ValueError, OSError) as error:
        return row | {"volume_ml": "", "warning": "", "error": message_of(error)}
    return row | {
        "raters": fused.count,
        "volume_ml": fused.volume_ml,
        "warning": in_flags(
            "; ".join([f"{file.path.name} left out" for file in left] + _doubts(fused))
        ),
        "error": "",
    }


def _note_odd_counts(rows: Sequence[dict[str, object]]) -> None:
    """Note the cases with an unusual number of raters: a file may be missing."""
    fused = [row for row in rows if not row["error"]]
    counts = Counter(row["raters"] for row in fused)
    usual = max(counts, key=lambda count: (counts[count], count), default=None)
    for row in fused:
        if row["raters"] != usual:
            notes = filter(None, (f"most cases have {usual} raters", row["warning"]))
            row["warning"] = "; ".join(map(str, notes))


def _doubts(fused: Fused) -> list[str]:
    """Notes about one case."""
    alone = ["this is the mask of a single rater"] if fused.count == 1 else []
    return [*alone, *fused.notes]


def say_fused(output: Path, fusion: Fusion, fused: Fused) -> None:
    """Print the result of one case."""
    for line in _doubts(fused):
        say(f"warning: {line}")
    for line in fused.raters:
        say(line)
    say(f"{output}: {plural(fused.count, 'rater')} by {fusion.method}, {fused.volume_ml:.4g} ml")
