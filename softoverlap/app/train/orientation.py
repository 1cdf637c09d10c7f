"""Scans and lesions turned to the voxel axes that a training works in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import nibabel
import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap._checks import check_axes
from softoverlap.images import check_affine
from softoverlap.lesion import Lesion

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Turn:
    """Axes that swap places and directions, as those of MONAI's `Orientation` do.

    Args:
        source: For each new axis the old one.
        flipped: Whether the new axis runs the other way.

    Examples:
        >>> turn = Turn.to("RAS", torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])))
        >>> turn.source, turn.flipped
        ((0, 1, 2), (True, False, False))
    """

    source: tuple[int, ...]
    flipped: tuple[bool, ...]

    @staticmethod
    def to(axes: str, affine: Float64[Tensor, "4 4"]) -> Turn:
        """The turn that lets the voxel axes of an image point to `axes`, such as `"RAS"`.

        Raises:
            ValueError: If `axes` does not name each direction once.
        """
        check_axes(axes, 3)
        there = nibabel.orientations.axcodes2ornt(tuple(axes))
        here = nibabel.orientations.io_orientation(check_affine(affine).numpy())
        turn = nibabel.orientations.ornt_transform(here, there)  # of each old axis: new one, sign
        rows = sorted((int(new), old, bool(sign < 0)) for old, (new, sign) in enumerate(turn))
        return Turn(tuple(old for _, old, _ in rows), tuple(flip for _, _, flip in rows))

    def row(self, values: Sequence[_Number]) -> tuple[_Number, ...]:
        """One number an axis, in the new order."""
        return tuple(values[axis] for axis in self.source)

    def lesion(self, lesion: Lesion, shape: Sequence[int]) -> Lesion:
        """The lesion in the turned image; `shape` is that of the image before."""
        source, flips = list(self.source), [axis for axis, flip in enumerate(self.flipped) if flip]
        low, high = lesion.box.chunk(2)
        swapped = replace(
            lesion,
            crop=lesion.crop.permute(source),
            offset=lesion.offset[source],
            centre=lesion.centre[source],
            box=torch.cat([low[source], high[source]]),
        )
        return flip_lesion(swapped, flips, self.row(shape))


def flip_lesion(lesion: Lesion, axes: Sequence[int], size: Sequence[int]) -> Lesion:
    """The lesion in an image of `size` voxels that is flipped along `axes`."""
    if not axes:
        return lesion
    ndim = lesion.crop.ndim
    box, offset, centre = lesion.box.clone(), lesion.offset.clone(), lesion.centre.clone()
    for axis in axes:
        box[axis] = size[axis] - lesion.box[axis + ndim]
        box[axis + ndim] = size[axis] - lesion.box[axis]
        offset[axis] = size[axis] - lesion.offset[axis] - lesion.crop.shape[axis]
        centre[axis] = size[axis] - lesion.centre[axis]
    crop = lesion.crop.flip(tuple(axes))
    return replace(lesion, box=box, crop=crop, offset=offset, centre=centre)
