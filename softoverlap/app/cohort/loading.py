"""The masks of a case, on one grid and as probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.app.cohort.beside import Beside
from softoverlap.app.cohort.islands import CELL, cell_maxima
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.images import (
    SEGMENTATION_SUFFIX,
    Noted,
    Volume,
    is_label_map,
    label_to_read,
    noted_image,
    noted_one_volume,
    noted_probabilities,
    on_common_grid,
)

ONE = 1e-3
"""Tolerance for channels that add up to 1, as softmax or one-hot classes do."""

HAZE = 0.5
"""Share of a scan's voxels that a halo may take without a note."""


@dataclass(frozen=True)
class LoadedMasks:
    """The masks of a case with the values of their files, on one grid.

    That is the grid of the first truth, and if the masks are resampled, as much more of its voxels
    as hold all masks.

    Args:
        pred: The prediction, or None if it is not a mask.
        truths: The truth, one volume or one per rater.
        names: The files of the prediction and of the truths.
        displacement: Largest displacement of any of them, in voxels of the truth's grid.
        notes: What a user should know about the files and their grids.
        truth_argument: The setting that says how to read the truth's values, for messages.
        start: The first voxel of the grid, in voxels of the first truth's file.

    Examples:
        >>> mask = Volume(torch.ones(2, 2, 2), torch.eye(4, dtype=torch.float64))
        >>> loaded = LoadedMasks(mask, (mask,), ("a", "b"), 0.0)
        >>> loaded.prediction(None, ScoreSettings())[0].shape
        torch.Size([2, 2, 2])
    """

    pred: Volume | None
    truths: tuple[Volume, ...]
    names: tuple[str, ...]
    displacement: float
    notes: tuple[str, ...] = ()
    truth_argument: str = "truth_values"
    start: tuple[int, ...] = (0, 0, 0)

    @property
    def reference(self) -> Volume:
        """The first truth, whose grid all share."""
        return self.truths[0]

    def prediction(self, label: int | None, settings: ScoreSettings) -> Noted[Tensor]:
        """Probabilities of the prediction, of one label if it is given."""
        if self.pred is None:
            raise ValueError(f"the prediction must be a mask, got {self.names[0]}")
        return _read(self.pred, ("values", settings.values), label, self.names[0], settings)

    def truth(
        self, label: int | None, settings: ScoreSettings
    ) -> Noted[tuple[Tensor, Tensor | None]]:
        """Probabilities of the truth less what is ignored; those of raters if it is their mean."""
        (truth, raters), notes = self._truth(label, settings)
        ignored, on_ignored = self.ignored(settings)
        if ignored is None:
            return (truth, raters), notes
        counted = 1 - ignored
        raters = None if raters is None else torch.minimum(raters, counted)
        return (torch.minimum(truth, counted), raters), (*notes, *on_ignored)

    def _truth(
        self, label: int | None, settings: ScoreSettings
    ) -> Noted[tuple[Tensor, Tensor | None]]:
        values = self.truth_argument, settings.truth_values
        read = [
            _read(volume, values, label, name, settings)
            for volume, name in zip(self.truths, self.names[1:], strict=True)
        ]
        masks = [mask for mask, _ in read]
        notes = tuple(note for _, on_mask in read for note in on_mask)
        if len(masks) == 1 and masks[0].ndim == 3:
            return (masks[0], None), notes
        masks = [mask.float() if mask.dtype == torch.bool else mask for mask in masks]
        raters = torch.cat([mask.reshape(-1, *self.reference.grid) for mask in masks])
        return (raters.mean(dim=0), raters), notes

    def labels(self, settings: ScoreSettings) -> Iterator[Tensor]:
        """Of each mask that is read as labels, those of its voxels that are not background."""
        preds = () if self.pred is None else (self.pred,)
        for masks, kind in ((preds, settings.values), (self.truths, settings.truth_values)):
            for mask in masks if kind == "labels" else ():
                yield mask.data[mask.data > 0]

    def ignored(self, settings: ScoreSettings) -> Noted[Tensor | None]:
        """Where the truth, or any rater, has a label that is ignored; None if none is asked for."""
        masks: list[Tensor] = []
        notes: tuple[str, ...] = ()
        for label in settings.ignore:
            (mask, raters), on_mask = self._truth(label, settings)
            masks.append(mask if raters is None else raters.amax(dim=0))
            notes += on_mask
        return (torch.stack(masks).amax(dim=0) if masks else None), notes


def load_masks(pred: Path | None, truths: Sequence[Path], settings: ScoreSettings) -> LoadedMasks:
    """Read the masks of a case and bring them onto one grid, see `on_common_grid`.

    Args:
        pred: The prediction, or None if it is not a mask.
        truths: The truth, or the masks of the raters; a fourth axis holds raters too.
        settings: How to read values, and what to do if grids differ.

    Returns:
        The masks.

    Raises:
        ValueError: If a file cannot be read, the prediction has four axes, or grids differ.

    Examples:
        >>> load_masks(None, [Path("gone.nii")], ScoreSettings())
        Traceback (most recent call last):
        FileNotFoundError: gone.nii must be an image, found no such file
    """
    check_label_maps(settings)
    of_pred = None if pred is None else Beside(partial(noted_one_volume, pred, dtype=None))
    try:
        read = [_rater_or_raters(path) for path in truths]
    except Exception:
        if of_pred is not None:
            of_pred.wait()  # else it would go on beside the next case
        raise
    read += [] if of_pred is None else [of_pred.result()]
    (first, *others), on_files = zip(*read, strict=True)
    label = settings.labels[0] if settings.labels else None
    kinds = [settings.truth_values] * len(truths) + [settings.values]
    paths = (*truths, pred) if pred is not None else truths
    common = on_common_grid(
        first, others, geometry=settings.geometry,
        nearest=[is_label_map(kind, label) for kind in kinds[1 : len(paths)]],
        names=list(map(str, paths)),
    )  # fmt: skip
    volumes = [common.reference, *(mask.volume for mask in common.aligned)]
    notes = [mask.notes for mask in common.aligned] + list(on_files)
    return LoadedMasks(
        None if pred is None else volumes.pop(),
        tuple(volumes),
        tuple(map(str, (pred, *truths))),
        max((mask.displacement for mask in common.aligned), default=0.0),
        tuple(itertools.chain(*notes)),
        start=common.start,
    )


def check_label_maps(settings: ScoreSettings) -> None:
    """Check that several labels, and labels that are ignored, are used only with label maps.

    Raises:
        ValueError: If there are several labels for values that are not labels, or ignored ones for
            a truth that has none.

    Examples:
        >>> check_label_maps(ScoreSettings(labels=(1, 2), values="percent"))
        Traceback (most recent call last):
        ValueError: labels must be one label, or `values=` auto or labels, got ...
    """
    for name in ("values", "truth_values"):
        values = getattr(settings, name)
        if len(settings.labels) > 1 and values not in ("auto", "labels"):
            raise refusal(
                "labels",
                f"must be one label, or `{name}=` auto or labels, got labels "
                f"{', '.join(map(str, settings.labels))} of {values}, which are one map",
            )
    if settings.ignore and settings.truth_values not in ("auto", "labels"):
        raise refusal(
            "ignore",
            "must be labels of a truth of `truth_values=` auto or labels, got "
            f"{settings.truth_values}",
        )


def _rater_or_raters(path: Path) -> Noted[Volume]:
    """A mask, or several raters along a fourth axis, but not layers or classes."""
    volume, notes = noted_image(path, dtype=None)
    if volume.data.ndim == 4 and path.name.lower().endswith(SEGMENTATION_SUFFIX):
        raise ValueError(f"{path} must have one layer, got {len(volume.data)}: export a label map")
    if volume.data.ndim == 4 and bool(((volume.data.sum(dim=0) - 1).abs() < ONE).all()):
        raise ValueError(
            f"{path} must hold raters along its fourth axis, got {len(volume.data)} channels that "
            "add up to 1 everywhere, like classes: store a single class, or labels"
        )
    return volume, notes


def _read(
    volume: Volume,
    values: tuple[str, str],
    label: int | None,
    name: str,
    settings: ScoreSettings,
) -> Noted[Tensor]:
    """Probabilities; `values` is the name of the setting and its value."""
    argument, kind = values
    mask, notes = noted_probabilities(
        volume, values=kind, label=label_to_read(kind, label), name=name,
        arguments=(argument, "labels"), floating=bool(settings.ignore),
    )  # fmt: skip
    if is_label_map(kind, label) or mask.dtype == torch.bool:
        return mask, notes
    return mask, notes + _notes_on_haze(mask, name, settings)


def _notes_on_haze(mask: Tensor, name: str, settings: ScoreSettings) -> tuple[str, ...]:
    """A note if the soft edges fill the scan, so that lesions are not separate."""
    volumes = [mask] if mask.ndim == 3 else list(mask)
    cells = sum(int((cell_maxima(one.numpy()) >= settings.halo).sum()) for one in volumes)
    if cells * CELL**3 <= HAZE * mask.numel():  # most scans, without a look at each voxel
        return ()
    slabs = mask.unbind(max(range(mask.ndim), key=mask.stride))  # one after the other, for memory
    halo = sum(int(((slab >= settings.halo) & (slab < settings.threshold)).sum()) for slab in slabs)
    if halo <= HAZE * mask.numel():
        return ()
    return (
        f"{name} has {halo / mask.numel():.0%} of its voxels between the halo "
        f"{settings.halo:g} and the threshold {settings.threshold:g}: lesions reach through "
        "the whole scan; raise `halo=`",
    )
