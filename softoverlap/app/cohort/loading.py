"""The masks of a case, on one grid and as probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.images import (
    SEGMENTATION_SUFFIX,
    AlignedVolume,
    Volume,
    align_to,
    as_probabilities,
    is_label_map,
    label_to_read,
    load_image,
    load_one_volume,
)

ONE = 1e-3
"""How near to 1 channels add up that are the classes of a softmax, or one-hot."""

HAZE = 0.5
"""Share of a scan's voxels that a halo may take without a warning."""


@dataclass(frozen=True)
class LoadedMasks:
    """The values of a case's masks as their files have them, on the grid of the truth.

    Args:
        pred: The prediction, or None if it is not a mask.
        truths: The truth, one volume or one for each rater.
        names: The files of the prediction and of the truths.
        displacement: Largest displacement of any of them, in voxels of the truth's grid.
        warning: What a user should know, or None.

    Examples:
        >>> mask = Volume(torch.ones(2, 2, 2), torch.eye(4, dtype=torch.float64))
        >>> loaded = LoadedMasks(mask, (mask,), ("a", "b"), 0.0, None)
        >>> loaded.prediction(None, ScoreSettings()).shape
        torch.Size([2, 2, 2])
    """

    pred: Volume | None
    truths: tuple[Volume, ...]
    names: tuple[str, ...]
    displacement: float
    warning: str | None

    @property
    def reference(self) -> Volume:
        """The first truth, whose grid all share."""
        return self.truths[0]

    def prediction(self, label: int | None, settings: ScoreSettings) -> Tensor:
        """Probabilities of the prediction: of a label, or of what there is."""
        if self.pred is None:
            raise ValueError(f"the prediction must be a mask, got {self.names[0]}")
        return _read(self.pred, settings.values, label, self.names[0], settings)

    def truth(self, label: int | None, settings: ScoreSettings) -> tuple[Tensor, Tensor | None]:
        """Probabilities of the truth, and those of the raters that they are the mean of, if any."""
        truths = [
            _read(volume, settings.truth_values, label, name, settings)
            for volume, name in zip(self.truths, self.names[1:], strict=True)
        ]
        if len(truths) == 1 and truths[0].ndim == 3:
            return truths[0], None
        raters = torch.cat([one.reshape(-1, *self.reference.grid) for one in truths])
        return raters.mean(dim=0), raters


def load_masks(pred: Path | None, truths: Sequence[Path], settings: ScoreSettings) -> LoadedMasks:
    """Read the masks of a case and bring them onto the grid of the truth.

    Args:
        pred: The prediction, or None if it is not a mask.
        truths: The truth, or the masks of the raters; a fourth axis is raters too.
        settings: What to do where grids differ.

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
    first = _rater_or_raters(truths[0])
    volumes, aligned = [first], []
    for path in truths[1:]:
        names = (path, truths[0])
        aligned.append(
            _on_grid(_rater_or_raters(path), first, names, settings, settings.truth_values)
        )
        volumes.append(aligned[-1].volume)
    found = None
    if pred is not None:
        volume = load_one_volume(pred)
        aligned.append(_on_grid(volume, first, (pred, truths[0]), settings, settings.values))
        found = aligned[-1].volume
    names = tuple(map(str, (pred, *truths)))
    displacement = max((one.displacement for one in aligned), default=0.0)
    told = [one.warning for one in aligned if one.warning]
    return LoadedMasks(found, tuple(volumes), names, displacement, "; ".join(told) or None)


def check_label_maps(settings: ScoreSettings) -> None:
    """Several labels need label maps: a map of probabilities is not that of each of them.

    Raises:
        ValueError: If several labels are asked for of values that are none.

    Examples:
        >>> check_label_maps(ScoreSettings(labels=(1, 2), values="percent"))
        Traceback (most recent call last):
        ValueError: labels (--labels) must be one label, or values (--values) auto or labels, ...
    """
    sides = {
        "values (--values)": settings.values,
        "truth_values (--truth-values)": settings.truth_values,
    }
    for name, values in sides.items():
        if len(settings.labels) > 1 and values not in ("auto", "labels"):
            raise ValueError(
                f"labels (--labels) must be one label, or {name} auto or labels, got labels "
                f"{', '.join(map(str, settings.labels))} of {values}, which are one map for all"
            )


def _rater_or_raters(path: Path) -> Volume:
    """A mask, or those of several raters along a fourth axis, never its layers or classes."""
    volume = load_image(path)
    if volume.data.ndim == 4 and path.name.lower().endswith(SEGMENTATION_SUFFIX):
        raise ValueError(f"{path} must have one layer, got {len(volume.data)}: export a label map")
    if volume.data.ndim == 4 and bool(((volume.data.sum(dim=0) - 1).abs() < ONE).all()):
        raise ValueError(
            f"{path} must hold raters along its fourth axis, got {len(volume.data)} channels that "
            "add up to 1 everywhere, as those of classes do: store the class by itself, or labels"
        )
    return volume


def _on_grid(
    moving: Volume,
    reference: Volume,
    names: tuple[Path, Path],
    settings: ScoreSettings,
    values: str,
) -> AlignedVolume:
    called = (str(names[0]), str(names[1]))
    label = settings.labels[0] if settings.labels else None
    nearest = is_label_map(values, label)
    return align_to(moving, reference, geometry=settings.geometry, nearest=nearest, names=called)


def _read(
    volume: Volume, values: str, label: int | None, name: str, settings: ScoreSettings
) -> Tensor:
    """Probabilities; a warning tells where they are a haze."""
    mask = as_probabilities(volume, values=values, label=label_to_read(values, label), name=name)
    if not is_label_map(values, label):
        _warn_of_haze(mask, name, settings)
    return mask


def _warn_of_haze(mask: Tensor, name: str, settings: ScoreSettings) -> None:
    """Lesions end where their halo does: one over the whole scan makes one of them all."""
    volumes = mask[None] if mask.ndim == 3 else mask
    slabs = (slab for volume in volumes for slab in volume)  # one after the other, for memory
    halo = sum(int(((slab >= settings.halo) & (slab < settings.threshold)).sum()) for slab in slabs)
    if halo > HAZE * mask.numel():
        warnings.warn(
            f"{name} has {halo / mask.numel():.0%} of its voxels between the halo "
            f"{settings.halo:g} and the threshold {settings.threshold:g}: lesions reach through "
            "the whole scan; raise halo (--halo)",
            stacklevel=2,
        )
