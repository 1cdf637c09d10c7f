"""What `softoverlap fuse` does with files: one case, or a folder of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from softoverlap.cli.console import CountBar, plural, say

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
    """What was written: its volume, what to know about it, and how good the raters are."""

    volume_ml: float
    warnings: tuple[str, ...]
    raters: tuple[str, ...] = ()


def parse_weights(text: str | None, method: str) -> tuple[float, ...] | None:
    """`2,1,1` as numbers; they belong to one method alone."""
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
    """Read the masks of one case, fuse them, write the mask on the grid of the first."""
    from softoverlap.data import fuse_raters, load_raters, save_nifti, staple
    from softoverlap.data.geometry import MM3_PER_ML, voxel_volume

    hard = fusion.method in ("majority", "staple") and fusion.threshold is None
    stack = load_raters(
        paths, geometry=fusion.geometry, values=fusion.values, label=fusion.label, nearest=hard
    )
    quality: tuple[str, ...] = ()
    if fusion.method == "staple":
        found = staple(stack.raters, threshold=fusion.threshold)
        mask = found.probability
        rates = zip(paths, found.sensitivity.tolist(), found.specificity.tolist(), strict=True)
        quality = tuple(
            f"{path.name}: sensitivity {sensitivity:.4f}, specificity {specificity:.6f}"
            for path, sensitivity, specificity in rates
        )
    else:
        mask = fuse_raters(
            stack.raters, method=fusion.method, weights=fusion.weights, threshold=fusion.threshold
        )
    save_nifti(output, mask, stack.affine)
    volume_ml = float(mask.double().sum()) * voxel_volume(stack.affine) / MM3_PER_ML
    return Fused(volume_ml, stack.warnings, quality)


def fuse_folder(
    cases: Mapping[str, Sequence[Path]], output: Path, fusion: Fusion
) -> list[dict[str, object]]:
    """Fuse case by case; a bad one is noted and the others go on. A row a case, and `fused.csv`."""
    from softoverlap.data.tables import write_table

    rows: list[dict[str, object]] = []
    try:
        with CountBar("fused", len(cases)) as bar:
            for case, paths in cases.items():
                rows.append(_row(case, paths, output, fusion))
                bar(f"{case}: {rows[-1]['error'] or plural(len(paths), 'rater')}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(rows)} of {plural(len(cases), 'case')} are done, with results in {output}"
        ) from None
    finally:
        table = [[row[name] for name in COLUMNS] for row in rows]
        write_table(output / "fused.csv", COLUMNS, table)
    return rows


def _row(case: str, paths: Sequence[Path], output: Path, fusion: Fusion) -> dict[str, object]:
    row: dict[str, object] = {"case": case, "raters": len(paths)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            found = fuse_files(paths, output / f"{case}.nii.gz", fusion)
        except (ValueError, OSError) as error:
            message = " ".join(str(error).split())
            return row | {"volume_ml": "", "warning": "", "error": message}
    notes = [*found.warnings, *(str(one.message) for one in caught)]
    return row | {"volume_ml": found.volume_ml, "warning": "; ".join(notes), "error": ""}


def say_fused(output: Path, count: int, fusion: Fusion, found: Fused) -> None:
    """What became of one case."""
    for line in found.warnings:
        say(f"warning: {line}")
    for line in found.raters:
        say(line)
    say(f"{output}: {plural(count, 'rater')} by {fusion.method}, {found.volume_ml:.4g} ml")
