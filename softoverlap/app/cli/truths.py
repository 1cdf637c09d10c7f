"""Probability maps beside their truths: which belong together, and the best threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class MapReading:
    """How the values of maps and of truths are read."""

    values: str = "auto"
    label: int | None = None
    truth_values: str = "auto"

    def map_of(self, path: Path) -> Volume:
        """The probabilities; a label that is read from truths too must be a class, no region."""
        from softoverlap.images import label_to_read

        regions = label_to_read(self.truth_values, self.label) is None
        return load_map(path, values=self.values, label=self.label, regions=regions)

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


def truths_of(paths: Sequence[Path], truth: Path) -> dict[Path, tuple[Path, ...]]:
    """The truths of each map by the rules of `softoverlap score`; truths of no map are passed by.

    Raises:
        FileNotFoundError: If there is no truth at all.
        ValueError: If a map has no truth, or more than one.
    """
    from softoverlap.app.cohort import find_pairs
    from softoverlap.images import map_name

    with TemporaryDirectory() as folder:  # names alone, as boxes of the maps will have them
        places = {Path(folder, f"{map_name(path)}_boxes.json"): path for path in paths}
        for place in places:
            place.touch()
        one = truth.is_file() and len(paths) == 1
        pairs = find_pairs(next(iter(places)) if one else folder, truth).pairs
    found = {places[pair.pred]: pair for pair in pairs if pair.pred is not None}
    for path, pair in found.items():
        if pair.error is not None:
            raise ValueError(f"{path} must have a truth in {truth}, got: {pair.error}")
    return {path: pair.truth for path, pair in found.items()}


def threshold_for(
    cut: Cut, paths: Sequence[Path], truth: Path | None, reading: MapReading
) -> tuple[float, bool]:
    """The threshold itself, or the best one, and whether some scan failed on the way."""
    from softoverlap._checks import refusal

    if cut.threshold is None and truth is None:
        raise refusal("threshold", f"must be a number, or go with `truth=`, got {BEST}")
    if cut.threshold is not None:
        if truth is not None:
            raise refusal("truth", f"must go with `threshold={BEST}`, got {truth}")
        return cut.threshold, False
    assert truth is not None
    return best_threshold(truths_of(paths, truth), cut.low, reading)


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
