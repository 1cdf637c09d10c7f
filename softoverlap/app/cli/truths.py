"""Probability maps, read alone or beside their truths, and the best threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from softoverlap.app.cli.box_files import Batch, load_map
from softoverlap.app.cli.console import CountBar, plural, say
from softoverlap.app.cli.lesion_words import BEST, Cut

if TYPE_CHECKING:
    from torch import Tensor

    from softoverlap.images import Volume


def grouped(paths: Sequence[Path], *, mean: bool) -> dict[Path, tuple[Path, ...]]:
    """The files of each case, by the first: one, or with `mean` those whose mean is its map.

    Raises:
        ValueError: If names occur twice without `mean`, or not equally often with it.
    """
    from softoverlap._checks import refusal
    from softoverlap.images import is_nnunet_map, map_name

    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(map_name(path), []).append(path)
    for group in groups.values():
        if mean and len({is_nnunet_map(path) for path in group}) > 1:
            complaint = "must be of one kind in all folders, with nnU-Net's .npz in all or in none"
            raise refusal("masks", f"{complaint}, got {group[0]} and {group[-1]}")
    fewest, most = (pick(groups.values(), key=len) for pick in (min, max))
    if not mean and len(most) > 1:
        expected = "must have different names (`mean=True` is for maps of one scan)"
        raise refusal("masks", f"{expected}, got {most[0]} and {most[1]}")
    if mean and not 1 < len(fewest) == len(most):
        seen = f"{len(fewest)} of {map_name(fewest[0])}"
        seen += f" and {len(most)} of {map_name(most[0])}" if len(most) > len(fewest) else ""
        expected = "must have two maps or more of each case, as many of all, with `mean=True`"
        raise refusal("masks", f"{expected}, got {seen}")
    return {group[0]: tuple(group) for group in groups.values()}


@dataclass(frozen=True)
class MapReading:
    """How maps and truths are read; each map is the mean of its files."""

    files: Mapping[Path, tuple[Path, ...]]
    values: str = "auto"
    label: int | None = None
    truth_values: str = "auto"
    beside_truth: bool = True

    def map_of(self, path: Path) -> Volume:
        """The probabilities; a label that is read from truths too must be a class, no region."""
        import torch

        from softoverlap.images import Volume, check_same_grid, label_to_read

        is_value = self.beside_truth and label_to_read(self.truth_values, self.label) is not None
        first, *others = (
            load_map(file, values=self.values, label=self.label, regions=not is_value)
            for file in self.files[path]
        )
        if not others:
            return first
        for file, other in zip(self.files[path][1:], others, strict=True):
            check_same_grid(first, other, names=(str(path), str(file)))
        return Volume(torch.stack([one.data for one in (first, *others)]).mean(dim=0), first.affine)

    def truth_of(self, paths: Sequence[Path], grid: Volume) -> Tensor:
        """The truth on the map's grid, the mean of raters if there are several."""
        import torch

        from softoverlap.images import (
            check_same_grid,
            label_to_read,
            load_image,
            noted_probabilities,
        )

        masks = []
        for path in paths:
            volume = load_image(path)
            check_same_grid(grid, volume, names=("the map", str(path)))
            mask, notes = noted_probabilities(
                volume, values=self.truth_values, name=str(path),
                label=label_to_read(self.truth_values, self.label),
                arguments=("truth_values", "label"),
            )  # fmt: skip
            for note in notes:
                say(f"warning: {note}")
            masks.append(mask.reshape(-1, *grid.grid))
        return torch.cat(masks).mean(dim=0)


def truths_of(
    paths: Iterable[Path],
    truth: Path,
    pred_pattern: str | None = None,
    truth_pattern: str | None = None,
) -> dict[Path, tuple[Path, ...]]:
    """The truths of each map by the rules of `softoverlap score`; truths of no map are passed by.

    Raises:
        FileNotFoundError: If there is no truth at all.
        ValueError: If a map does not match its pattern, has no truth, or more than one.
    """
    from softoverlap.app.cohort import find_pairs, is_same_file

    with TemporaryDirectory() as folder:  # names alone, of maps from any folders
        places = {Path(folder, _image_name_of(path)): path for path in paths}
        for place in places:
            place.touch()
        one = truth.is_file() and len(places) == 1 and not (pred_pattern or truth_pattern)
        try:
            table = find_pairs(
                next(iter(places)) if one else folder, truth,
                pred_pattern=pred_pattern, truth_pattern=truth_pattern,
            )  # fmt: skip
        except ValueError as error:
            if folder not in str(error):
                raise
            raise _unmatched(pred_pattern, next(iter(places.values()))) from None
    found = {places[pair.pred]: pair for pair in table.pairs if pair.pred is not None}
    for path in places.values():
        if path not in found:
            raise _unmatched(pred_pattern, path)
        if found[path].error is not None:
            hint = f"; {table.hint}" if table.hint else ""
            raise ValueError(f"{path} must have a truth in {truth}, got: {found[path].error}{hint}")
        if any(is_same_file(path, file) for file in found[path].truth):
            raise ValueError(f"{path} must have a truth that is another file, got the map itself")
    return {path: pair.truth for path, pair in found.items()}


def _unmatched(pattern: str | None, path: Path) -> ValueError:
    from softoverlap._checks import refusal

    return refusal("pred_pattern", f"must match every map, got {pattern} and {path}")


def _image_name_of(path: Path) -> str:
    """The name of a map as that of an image, which those of nnU-Net and of DICOM are not."""
    from softoverlap.images import is_image_name, map_name

    return path.name if is_image_name(path) else f"{map_name(path)}.nii.gz"


def threshold_for(
    cut: Cut, truth: Path | None, reading: MapReading, **patterns: str | None
) -> tuple[float, bool]:
    """The threshold itself, or the best one, and whether some scan failed on the way."""
    from softoverlap._checks import refusal

    if cut.threshold is None:
        if truth is None:
            raise refusal("threshold", f"must be a number, or go with `truth=`, got {BEST}")
        return best_threshold(truths_of(reading.files, truth, **patterns), cut.low, reading)
    for name, given in {"truth": truth, **patterns}.items():
        if given is not None:
            raise refusal(name, f"must go with `threshold={BEST}`, got {given}")
    return cut.threshold, False


def best_threshold(
    truths: Mapping[Path, Sequence[Path]], low: float | None, reading: MapReading
) -> tuple[float, bool]:
    """The threshold of the highest Dice over all voxels of the scans, and whether one failed.

    Both are told.

    Raises:
        ValueError: If no scan could be read, or none has a lesion.
    """
    import torch

    from softoverlap.lesions import check_low
    from softoverlap.measures import BestThresholdDice

    measure, batch = BestThresholdDice(), Batch()
    sums: list[torch.Tensor] = []

    def work(path: Path) -> str:
        volume = reading.map_of(path)
        target = reading.truth_of(truths[path], volume)
        sums.append(measure.statistics(volume.data[None, None], target[None, None])[0])
        return "read"

    with CountBar("threshold", len(truths)) as bar:
        for path in truths:
            batch.attempt(lambda p=path: work(p), bar, path.name)
    for line in batch.failed:
        say(f"failed: {line}")
    if not sums:
        raise ValueError("no scan could be read to choose a threshold on")
    best = measure.details(torch.cat(sums))
    score, threshold = float(best.score), float(best.threshold)
    if not score > 0:
        raise ValueError("no scan has a lesion that its map finds at any threshold")
    say(f"best threshold {threshold:g}: Dice {score:.3f} in {plural(len(sums), 'scan')}")
    check_low(low, threshold)
    return threshold, bool(batch.failed)
