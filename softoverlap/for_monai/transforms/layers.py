"""Lesions in layers: those that share voxels lie in different ones, so that none hides another.

Most scans need one layer. Regions within regions and boxes that overlap need more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.surroundings import grown
from softoverlap.for_monai.transforms.table import LesionTable, Maps, lesion_table, tight_box
from softoverlap.lesion import Lesion

UNLABELLED = 32767
"""In an instance map, a voxel that nobody has labelled; it lies in a layer of its own."""

_MAX_LESIONS = UNLABELLED - 1
_BOX_LEVEL = 0.5


class Layers(NamedTuple):
    """The soft mask of each layer, and for each voxel the number of its lesion or 0."""

    masks: np.ndarray
    owners: np.ndarray


class Spread(NamedTuple):
    """Lesions spread over a grid: soft masks and instances (layers, *spatial), and their table."""

    masks: torch.Tensor
    instances: torch.Tensor
    table: LesionTable


def spread(
    lesions: Sequence[Lesion],
    shape: tuple[int, ...],
    grid: Grid,
    *,
    threshold: float,
    marked: np.ndarray | None = None,
    level: float | None = None,
) -> Spread:
    """Mask, instances and table of lesions that are known.

    Args:
        lesions: The lesions, in coordinates of the image.
        shape: Voxels of the image along each axis.
        grid: Where they lie in the world.
        threshold: Lowest probability of a lesion's own voxels.
        marked: Which voxels are of a lesion, in place of the threshold, shape (*spatial).
        level: As in the table, of lesions whose box is tight around their own voxels; None if all
            boxes are real-valued ones.
    """
    check_count(len(lesions))
    masks, owners = in_layers(lesions, shape)
    layers = []
    for mask, owner in zip(masks, owners, strict=True):
        core = _core(owner, mask, mask >= threshold if marked is None else marked)
        stray = np.zeros(shape, dtype=bool)
        layers.append(Maps(core, grown(owner, stray, grid.edges)))
    real = [level is None or not same for same in _boxes_are_tight(lesions, layers)]
    levels = [_BOX_LEVEL if is_real or level is None else level for is_real in real]
    numbers = [np.where(core > 0, core, -around) for core, around in layers]
    return Spread(
        torch.from_numpy(masks),
        torch.from_numpy(np.stack(numbers)),
        lesion_table(lesions, layers, grid, level=levels, real_boxes=real),
    )


def check_count(lesions: int) -> None:
    """No lesion may have the number of unlabelled voxels."""
    if lesions > _MAX_LESIONS:
        raise ValueError(f"item must hold at most {_MAX_LESIONS} lesions, got {lesions}")


def with_unlabelled(instances: torch.Tensor, unlabelled: torch.Tensor | None) -> torch.Tensor:
    """Instances with one more layer, if there are voxels that nobody has labelled."""
    if unlabelled is None or not bool((unlabelled != 0).any()):
        return instances
    layer = (unlabelled != 0).to(instances) * UNLABELLED
    return torch.cat([instances, layer])


def in_layers(lesions: Sequence[Lesion], shape: tuple[int, ...]) -> Layers:
    """Each lesion in the first layer where it shares no voxel with another one.

    Examples:
        >>> boxes = [[0.0, 2.0], [1.0, 4.0], [2.0, 3.0]]
        >>> lesions = [Lesion.from_box(torch.tensor(box), spacing=[1.0]) for box in boxes]
        >>> in_layers(lesions, (5,)).owners.tolist()
        [[1, 1, 3, 0, 0], [0, 2, 2, 2, 0]]
    """
    masks, owners = [np.zeros(shape, np.float32)], [np.zeros(shape, np.int32)]
    for number, (window, crop) in enumerate(_windows(lesions, shape), start=1):
        inside = crop > 0
        layer = next((k for k, there in enumerate(owners) if not there[window][inside].any()), -1)
        if layer < 0:
            masks.append(np.zeros(shape, np.float32))
            owners.append(np.zeros(shape, np.int32))
        masks[layer][window][inside] = crop[inside]
        owners[layer][window][inside] = number
    return Layers(np.stack(masks), np.stack(owners))


def _windows(
    lesions: Sequence[Lesion], shape: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """For each lesion where it lies in the image, and its crop there."""
    for lesion in lesions:
        offset, sides = lesion.offset.tolist(), lesion.crop.shape
        low = [min(max(0, start), side) for start, side in zip(offset, shape, strict=True)]
        high = [
            max(a, min(start + length, side))
            for a, start, length, side in zip(low, offset, sides, shape, strict=True)
        ]
        inner = tuple(
            slice(max(a - start, 0), max(b - start, 0))
            for a, b, start in zip(low, high, offset, strict=True)
        )
        yield tuple(map(slice, low, high)), lesion.crop.detach().cpu().float().numpy()[inner]


def _core(owners: np.ndarray, mask: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Each lesion's own voxels; of one that has none, those of at least half its highest."""
    core = np.where(inside, owners, 0)
    width = int(owners.max(initial=0)) + 1
    here, own_voxels = (np.bincount(part.ravel(), minlength=width) > 0 for part in (owners, core))
    for number in np.flatnonzero(here & ~own_voxels).tolist():
        own = owners == number
        core[own & (mask >= mask[own].max() / 2)] = number
    return core


def _boxes_are_tight(lesions: Sequence[Lesion], layers: Sequence[Maps]) -> list[bool]:
    """Whether the box of each lesion is the tight one around its own voxels."""
    tight = [False] * len(lesions)
    for core, _ in layers:
        for row, window in enumerate(ndimage.find_objects(core)):
            if window is not None:
                box = lesions[row].box.detach().cpu().double().numpy()
                tight[row] = np.array_equal(box, tight_box(window))
    return tight
