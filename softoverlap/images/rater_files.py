"""Masks of several raters, read as probabilities on one grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from softoverlap.images.alignment import align_to
from softoverlap.images.images import noted_image
from softoverlap.images.values import noted_probabilities


def is_label_map(values: str, label: int | None) -> bool:
    """Whether values are labels, which must not be averaged.

    Examples:
        >>> is_label_map("auto", 2), is_label_map("probabilities", 2)
        (True, False)
    """
    return values == "labels" or (values == "auto" and label is not None)


def label_to_read(values: str, label: int | None) -> int | None:
    """The label, or None if the values are probabilities, which are of that label already.

    Examples:
        >>> label_to_read("auto", 2), label_to_read("percent", 2)
        (2, None)
    """
    return label if is_label_map(values, label) else None


@dataclass(frozen=True, eq=False)
class RaterStack:
    """Masks of several raters on one grid.

    Args:
        raters: Probabilities, shape (R, D, H, W).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        notes: What a user should know about files, values and grids.

    Examples:
        >>> stack = RaterStack(torch.zeros(3, 4, 4, 4), torch.eye(4, dtype=torch.float64))
        >>> len(stack.raters)
        3
    """

    raters: Float[Tensor, "raters depth height width"]
    affine: Float64[Tensor, "4 4"]
    notes: tuple[str, ...] = ()


def load_raters(
    paths: Sequence[str | os.PathLike[str]],
    *,
    onto: str | os.PathLike[str] | None = None,
    geometry: str = "strict",
    values: str = "auto",
    label: int | None = None,
    nearest: bool = False,
) -> RaterStack:
    """Read the masks of all raters on the grid of the first, or of another file.

    Args:
        paths: One file or DICOM folder per rater; a fourth axis holds raters too.
        onto: The file with the target grid; the first mask if None.
        geometry: What to do if grids differ, see `align_to`.
        values: How to read the values, see `as_probabilities`.
        label: The label to use of label maps.
        nearest: Resample to the nearest voxel, so that hard masks stay hard.

    Returns:
        The masks and their affine.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If there is no path, a file cannot be read, its values are ambiguous, or its
            grid is another. The message names the file.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import save_nifti
        >>> path = Path(tempfile.mkdtemp()) / "a.nii.gz"
        >>> save_nifti(path, torch.ones(4, 4, 4), torch.eye(4))
        >>> load_raters([path, path]).raters.shape
        torch.Size([2, 4, 4, 4])
    """
    if not paths:
        raise ValueError("paths must hold one file per rater, got none")
    nearest = nearest or is_label_map(values, label)
    first = Path(onto or paths[0])
    reference, notes = noted_image(first)
    masks: list[Tensor] = []
    for path in map(Path, paths):
        volume, on_file = (reference, ()) if path == first else noted_image(path)
        data, on_values = noted_probabilities(volume, values=values, label=label, name=str(path))
        aligned = align_to(
            replace(volume, data=data), reference, geometry=geometry, nearest=nearest,
            names=(str(path), str(first)),
        )  # fmt: skip
        notes += (*on_file, *on_values, *aligned.notes)
        masks.append(aligned.volume.data.reshape(-1, *reference.grid))
    return RaterStack(torch.cat(masks), reference.affine, notes)
