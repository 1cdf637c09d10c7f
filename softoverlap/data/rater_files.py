"""Masks read as probabilities, onto one grid: that of a scan, or of the first of several raters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from softoverlap.data.alignment import Aligned, align_to
from softoverlap.data.geometry import Volume
from softoverlap.data.images import load_image, load_one_volume
from softoverlap.data.values import as_probabilities


def is_label_map(values: str, label: int | None) -> bool:
    """Whether values are labels, of which a mean means nothing: told so, or one is asked for.

    Examples:
        >>> is_label_map("auto", 2), is_label_map("probabilities", 2)
        (True, False)
    """
    return values == "labels" or (values == "auto" and label is not None)


def read_values(volume: Volume, *, values: str, label: int | None, name: str) -> Tensor:
    """Probabilities: those of a label, where one is asked for and the map is not told to be it.

    Examples:
        >>> labels = Volume(torch.full((2, 2, 2), 3.0), torch.eye(4, dtype=torch.float64))
        >>> read_values(labels, values="auto", label=3, name="a.nii").mean()
        tensor(1.)
    """
    if is_label_map(values, label):
        return as_probabilities(volume, values="labels", label=label, name=name)
    return as_probabilities(volume, values=values, name=name)


def onto_grid(
    moving: Volume,
    reference: Volume,
    *,
    geometry: str,
    values: str,
    label: int | None,
    names: tuple[str, str],
) -> Aligned:
    """Values on the grid of another: to the nearest voxel where they are labels, else linear.

    Examples:
        >>> mask = Volume(torch.ones(2, 2, 2), torch.eye(4, dtype=torch.float64))
        >>> told = {"geometry": "strict", "values": "auto", "label": None, "names": ("a", "b")}
        >>> onto_grid(mask, mask, **told).displacement
        0.0
    """
    nearest = is_label_map(values, label)
    return align_to(moving, reference, geometry=geometry, nearest=nearest, names=names)


def mean_of_masks(
    paths: Sequence[Path],
    onto: Path | None = None,
    *,
    geometry: str = "strict",
    values: str = "auto",
    label: int | None = None,
) -> Volume:
    """The mean of one or several masks, on the grid of a scan or of the first of them.

    Args:
        paths: A file a rater; a fourth axis is raters too.
        onto: The file whose grid they are brought onto, or None.
        geometry: What to do where grids differ, see `align_to`.
        values: How to read the values, see `as_probabilities`.
        label: The label to take out of label maps.

    Returns:
        Probabilities, shape (D, H, W), and where they lie.

    Raises:
        FileNotFoundError: If a file is gone.
        ValueError: If a file cannot be read or lies on another grid. The message names the file.

    Examples:
        >>> import tempfile
        >>> from softoverlap.data import save_nifti
        >>> path = Path(tempfile.mkdtemp()) / "a.nii.gz"
        >>> save_nifti(path, torch.ones(4, 4, 4), torch.eye(4))
        >>> mean_of_masks([path, path]).data.mean()
        tensor(1.)
    """
    first = onto or paths[0]
    reference = load_image(first)
    parts: list[Tensor] = []
    for path in paths:
        volume = reference if path == first else load_image(path)
        aligned = onto_grid(
            volume, reference, geometry=geometry, values=values, label=label,
            names=(str(path), str(first)),
        )  # fmt: skip
        mask = read_values(aligned.volume, values=values, label=label, name=str(path))
        parts.append(mask.reshape(-1, *reference.grid))
    return Volume(torch.cat(parts).mean(dim=0), reference.affine)


@dataclass(frozen=True, eq=False)
class RaterStack:
    """Masks of several raters on the grid of the first.

    Args:
        raters: Probabilities, shape (R, D, H, W).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        warnings: What a user should know about the grids, a line a rater that is off.

    Examples:
        >>> stack = RaterStack(torch.zeros(3, 4, 4, 4), torch.eye(4, dtype=torch.float64), ())
        >>> len(stack.raters)
        3
    """

    raters: Float[Tensor, "raters depth height width"]
    affine: Float64[Tensor, "4 4"]
    warnings: tuple[str, ...]


def load_raters(
    paths: Sequence[str | os.PathLike[str]],
    *,
    geometry: str = "strict",
    values: str = "auto",
    label: int | None = None,
    nearest: bool = False,
) -> RaterStack:
    """Read one mask of each rater onto the grid of the first.

    Args:
        paths: A file a rater, or a DICOM folder.
        geometry: What to do where grids differ, see `align_to`.
        values: How to read the values, see `as_probabilities`.
        label: The label to take out of label maps.
        nearest: Resample to the nearest voxel, so that hard masks stay hard.

    Returns:
        The masks, and where they lie.

    Raises:
        FileNotFoundError: If a file is gone.
        ValueError: If there is no path, a file cannot be read, holds channels or values that could
            mean several things, or lies on another grid. The message names the file.

    Examples:
        >>> import tempfile
        >>> from softoverlap.data import save_nifti
        >>> path = Path(tempfile.mkdtemp()) / "a.nii.gz"
        >>> save_nifti(path, torch.ones(4, 4, 4), torch.eye(4))
        >>> load_raters([path, path]).raters.shape
        torch.Size([2, 4, 4, 4])
    """
    if not paths:
        raise ValueError("paths must hold a file a rater, got none")
    nearest = nearest or is_label_map(values, label)
    masks: list[Volume] = []
    warnings: list[str] = []
    for path in map(Path, paths):
        mask = load_one_volume(path)
        data = as_probabilities(mask, values=values, label=label, name=str(path))
        mask = replace(mask, data=data)
        if masks:
            names = (str(path), str(paths[0]))
            aligned = align_to(mask, masks[0], geometry=geometry, nearest=nearest, names=names)
            mask = aligned.volume
            warnings += [aligned.warning] if aligned.warning else []
        masks.append(mask)
    stack = torch.stack([mask.data for mask in masks])
    return RaterStack(stack, masks[0].affine, tuple(warnings))
