"""The table of lesions that goes through spatial transforms beside the instance map.

A dictionary of plain tensors with a row a lesion: it can be cached on the disk, and no transform
touches it. What it says of places is in millimetres of the world, where MONAI's affine still says
it after any affine transform.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch import Tensor

from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.items import named
from softoverlap.lesion import Lesion

LesionTable = dict[str, Tensor]
"""What `LesionInstancesd` says of each lesion.

`label`, `existence` and `volume_mm3` are those of `Lesion`; `centre` is the centre of mass in mm,
and `box` the tight box in voxels of the grid on which the lesion was found, whose affine is
`affine`. `surroundings_mm3` is the volume of all voxels with its number in the instance map.
`hull` holds points in mm around the lesion, for all lesions one after the other, and `hull_end`
says where those of each end. `level` is the lowest probability of a lesion's own voxels, infinite
if more than that decides which they are; `real_box` says that the box is not one of voxels, and
`layer` in which layer of mask and instance map the lesion lies.
"""

COLUMNS = (
    "label", "existence", "volume_mm3", "centre", "box", "surroundings_mm3", "hull_end", "level",
    "real_box", "layer",
)  # fmt: skip


class Maps(NamedTuple):
    """For each voxel the number of its lesion: its own voxels, and those with a margin around."""

    core: np.ndarray
    surroundings: np.ndarray


def lesion_table(
    lesions: Sequence[Lesion],
    layers: Sequence[Maps],
    grid: Grid,
    *,
    level: Sequence[float],
    real_boxes: Sequence[bool],
) -> LesionTable:
    """The table of lesions, of which number `k + 1` in the maps of a layer is lesion `k`."""
    ndim = layers[0].core.ndim
    counts = np.stack(
        [np.bincount(maps.surroundings.ravel(), minlength=len(lesions) + 1)[1:] for maps in layers]
    )
    boxes = [lesion.box.cpu().double() for lesion in lesions]
    centres = [lesion.centre.cpu().double().numpy() for lesion in lesions]
    own = _hulls(layers, len(lesions))
    corners = [
        box_corners(box.numpy()) if is_real else hull
        for box, hull, is_real in zip(boxes, own, real_boxes, strict=True)
    ]
    hulls = [grid.to_world(points) for points in corners]
    ends = np.cumsum([len(points) for points in hulls], dtype=np.int64)
    affine = np.eye(len(grid.origin) + 1, ndim + 1)
    affine[:-1, :ndim], affine[:-1, -1], affine[-1] = grid.axes, grid.origin, np.eye(ndim + 1)[-1]
    return {
        "label": torch.tensor([lesion.label for lesion in lesions], dtype=torch.int64),
        "existence": _numbers([lesion.existence for lesion in lesions]),
        "volume_mm3": _numbers([lesion.volume_mm3 for lesion in lesions]),
        "centre": torch.from_numpy(grid.to_world(np.array(centres).reshape(-1, ndim))),
        "box": torch.stack(boxes) if boxes else torch.zeros(0, 2 * ndim, dtype=torch.float64),
        "surroundings_mm3": torch.from_numpy(counts.sum(axis=0) * grid.voxel_mm),
        "hull": torch.from_numpy(np.concatenate([np.zeros((0, len(grid.origin))), *hulls])),
        "hull_end": torch.from_numpy(ends),
        "level": _numbers(level),
        "real_box": torch.tensor(real_boxes, dtype=torch.bool),
        "layer": torch.from_numpy(counts.argmax(axis=0)),
        "affine": torch.from_numpy(affine),
    }


def checked_table(table: object, key: Hashable) -> LesionTable:
    """The table, if it has all columns, of one length."""
    name = named(key)
    if not isinstance(table, dict) or not all(isinstance(v, Tensor) for v in table.values()):
        raise TypeError(f"{name} must be a table of LesionInstancesd, got {type(table).__name__}")
    missing = [column for column in (*COLUMNS, "hull", "affine") if column not in table]
    if missing:
        raise ValueError(f"{name} must be a table of LesionInstancesd, without {missing}")
    lengths = {column: len(table[column]) for column in COLUMNS}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name} must have a row a lesion in each column, got {lengths}")
    return table


def box_corners(box: np.ndarray) -> np.ndarray:
    """All corners of a box, shape (2 ** ndim, ndim)."""
    return np.array(list(itertools.product(*box.reshape(2, -1).T)))


def tight_box(window: Sequence[slice]) -> np.ndarray:
    """The box of a window of voxels: all minima, then all maxima."""
    return np.array([edge.start for edge in window] + [edge.stop for edge in window], dtype=float)


def _numbers(values: Sequence[float]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def _hulls(layers: Sequence[Maps], count: int) -> list[np.ndarray]:
    """Corners of the convex hull of each lesion's voxels, in voxel coordinates.

    Under any affine transform they have the tight box of the lesion.
    """
    hulls = [np.zeros((0, layers[0].core.ndim))] * count
    for core, _ in layers:
        for row, window in enumerate(ndimage.find_objects(core)):
            if window is not None:
                first = np.array([edge.start for edge in window])
                hulls[row] = _hull(core[window] == row + 1) + first
    return hulls


def _hull(inside: np.ndarray) -> np.ndarray:
    """The same of one lesion: of each line of voxels only the ends can be corners."""
    lines = inside.any(axis=-1)
    first = inside.argmax(axis=-1)[lines]
    last = inside.shape[-1] - inside[..., ::-1].argmax(axis=-1)[lines]
    starts = np.argwhere(lines)
    steps = np.array(list(itertools.product((0, 1), repeat=starts.shape[1])))
    corners = (starts[:, None] + steps[None]).reshape(-1, starts.shape[1])
    ends = [np.repeat(places, len(steps)) for places in (first, last)]
    points = np.concatenate([np.column_stack([corners, end]) for end in ends]).astype(np.float64)
    return points[ConvexHull(points).vertices]
