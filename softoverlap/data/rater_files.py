"""The masks of several raters, read onto one grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from softoverlap.data.alignment import align_to
from softoverlap.data.geometry import Volume
from softoverlap.data.images import load_one_volume
from softoverlap.data.values import as_probabilities


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
