"""Masks that were saved without the affine of their scan, told from masks that lie elsewhere."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap.images.geometry import SAME_GRID, Volume

_NEAR = 1e-6


def lost_affine(moving: Volume, reference: Volume, names: tuple[str, str]) -> str:
    """Words on the one of two volumes whose affine is what libraries write if none is given.

    Args:
        moving: A volume.
        reference: The other one.
        names: What the two are called.

    Returns:
        What is wrong and how to save the mask instead; empty if neither or both look so, or one is
        a part of the other's voxel grid.

    Examples:
        >>> mask = torch.zeros(2, 2, 2)
        >>> plain = Volume(mask, torch.eye(4, dtype=torch.float64))
        >>> placed = Volume(mask, torch.diag(torch.tensor([1.0, 1, 2, 1]).double()))
        >>> lost_affine(plain, placed, ("a.nii", "b.nii")).split(":")[0]
        'the affine of a.nii looks as if it was lost when the mask was saved'
    """
    lost = [_is_default(volume) for volume in (moving, reference)]
    if lost[0] == lost[1] or _is_part(moving, reference):
        return ""
    name, other = names if lost[0] else names[::-1]
    return (
        f"the affine of {name} looks as if it was lost when the mask was saved: store it with that "
        f"of {other}, such as nibabel.Nifti1Image(mask, nibabel.load(scan).affine)"
    )


def _is_part(moving: Volume, reference: Volume) -> bool:
    """Whether two shapes are on one grid of voxels: then one was cropped, and both are right."""
    step = torch.linalg.solve(reference.affine, moving.affine)[:3]
    whole = bool((step - step.round()).abs().max() <= SAME_GRID)
    return whole and moving.grid != reference.grid


def _is_default(volume: Volume) -> bool:
    """The identity, in RAS or in LPS, or what nibabel computes where a header holds no affine."""
    diagonal = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    defaults = [torch.eye(4, dtype=torch.float64), torch.diag(diagonal), _centred(volume)]
    return any(bool((volume.affine - other).abs().max() < _NEAR) for other in defaults)


def _centred(volume: Volume) -> Float64[Tensor, "4 4"]:
    """The first axis flipped, the centre of the volume at 0, the spacing kept."""
    axes = torch.diag(torch.tensor(volume.spacing).double() * torch.tensor([-1.0, 1, 1]).double())
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ (torch.tensor(volume.grid).double() - 1) / 2
    return affine
