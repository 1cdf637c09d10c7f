"""Where the mass of a mask lies, read from its table: layers, centre of mass, support."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.mask_boxes.tables import SummedVolume


def centres_of_mass(volume: SummedVolume) -> Float[Tensor, "lesions ndim"]:
    """Centre of mass in voxels of the image, float64, with a gradient to the masks.

    A mask without mass has none; its row is the corner of its crop.

    Raises:
        ValueError: If an axis comes round, on which a mask may have none, or more than one.
    """
    if any(volume.turns):
        raise ValueError("masks must have plain axes to have a centre, got some that come round")
    safe_size = torch.where(volume.sizes > 0, volume.sizes, 1)
    centres = []
    for layers in _layers(volume):
        places = torch.arange(layers.shape[1], dtype=layers.dtype, device=layers.device) + 0.5
        centres.append((layers * places).sum(dim=1) / safe_size)
    return torch.stack(centres, dim=1) + volume.offsets


def supports(volume: SummedVolume) -> Float[Tensor, "lesions coords"]:
    """Tight boxes, float64, around the layers that add to the float64 table, without gradient.

    A mask without mass has a flat box at the corner of its crop.
    """
    lower, upper = [], []
    for layers in _layers(volume):
        filled = layers.detach() > 0
        places = torch.arange(layers.shape[1], device=layers.device)
        last = torch.where(filled, places + 1, 0).amax(dim=1)
        first = torch.where(filled, places, layers.shape[1]).amin(dim=1)
        lower.append(torch.minimum(first, last))
        upper.append(last)
    corners = torch.stack(lower + upper, dim=1) + volume.offsets.repeat(1, 2)
    return corners.to(torch.float64)


def _layers(volume: SummedVolume) -> list[Float[Tensor, "lesions voxels"]]:
    """For each axis the mass of every layer of voxels across it, 0 beyond a crop's end.

    Rounded sums of what is not negative never fall, and an empty layer adds exactly 0.
    """
    strides = torch.ones_like(volume.shapes)
    for axis in reversed(range(volume.ndim - 1)):
        strides[:, axis] = strides[:, axis + 1] * (volume.shapes[:, axis + 1] + 1)
    corner = volume.starts + (strides * volume.shapes).sum(dim=1)
    layers = []
    for axis, side in enumerate(volume.sides):
        back = torch.arange(max(side, 1) + 1, device=volume.device)
        back = (volume.shapes[:, axis, None] - back).clamp(min=0)  # nodes before the last one
        nodes = corner[:, None] - strides[:, axis, None] * back
        layers.append(volume.table[nodes].diff(dim=1))
    return layers
