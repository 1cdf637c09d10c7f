"""What is left of each lesion after spatial transforms: from the instance map, mask and table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.table import LesionTable
from softoverlap.lesion import Lesion

_WHOLE = 0.9
"""Of a lesion with its margin so much must be there for the lesion to count as whole."""


@dataclass(frozen=True)
class Patch:
    """A soft mask and its instance map after all transforms, (*spatial) each, and their grid."""

    mask: np.ndarray
    instances: np.ndarray
    grid: Grid


def lesions_left(
    patch: Patch, table: LesionTable, *, amodal: bool, min_visible: float
) -> list[Lesion]:
    """The lesions that the patch shows, in the order of the table.

    Args:
        patch: What the transforms left.
        table: What was known before them.
        amodal: Give lesions that are cut the box of the whole lesion.
        min_visible: Least share of a lesion's mass that must be left.
    """
    rows = {name: column.cpu().numpy() for name, column in table.items()}
    numbers = _seeded(np.abs(patch.instances), patch, rows)
    hulls = _hull_boxes(rows, patch.grid)
    lesions = []
    for row, window in enumerate(ndimage.find_objects(numbers, max_label=len(rows["label"]))):
        if window is None:
            continue
        part = _Part(patch, numbers, row, window)
        visible = part.visible(rows, hulls[row])
        if part.mass <= 0 or visible < min_visible:
            continue
        seen = part.box()
        box = _matched(hulls[row], seen, patch) if rows["real_box"][row] else seen
        cut = amodal and visible < 1
        box = _around(hulls[row], box) if cut else box
        lesions.append(part.lesion(rows, box, visible if cut else 1.0))
    return lesions


class _Part:
    """One lesion in the patch: its voxels with a margin, and the mask there."""

    def __init__(
        self, patch: Patch, numbers: np.ndarray, row: int, window: tuple[slice, ...]
    ) -> None:
        self.patch, self.row, self.window = patch, row, window
        self.first = np.array([edge.start for edge in window])
        self.own = numbers[window] == row + 1
        self.soft = np.where(self.own, patch.mask[window], 0)
        self.mass = float(self.soft.sum(dtype=np.float64))

    def visible(self, rows: dict[str, np.ndarray], hull: np.ndarray) -> float:
        """The share of the lesion's mass that is here, by volumes in mm³.

        Resampling changes the sum of a tiny lesion's voxels: one that lies in the patch and has
        nearly all of its margin counts as whole.
        """
        voxel, shape = self.patch.grid.voxel_mm, self.patch.mask.shape
        inside = (hull >= -_SLACK).all() and (hull[len(shape) :] <= np.array(shape) + _SLACK).all()
        margin = self.own.sum() * voxel
        if inside and margin >= _WHOLE * rows["surroundings_mm3"][self.row]:
            return 1.0
        whole = float(rows["volume_mm3"][self.row])
        share = min(1.0, self.mass * voxel / whole)
        return 1.0 if share > 1 - _SLACK else share

    def box(self) -> np.ndarray:
        """Tight around the lesion's own voxels; if none is left, around half its highest value."""
        core = self.patch.instances[self.window] == self.row + 1
        if not core.any():
            core = self.soft >= self.soft.max() / 2
        return self._tight(core)

    def _tight(self, inside: np.ndarray) -> np.ndarray:
        places = np.argwhere(inside)
        return np.concatenate([places.min(axis=0), places.max(axis=0) + 1]) + np.tile(self.first, 2)

    def lesion(self, rows: dict[str, np.ndarray], box: np.ndarray, visible: float) -> Lesion:
        """The record of it."""
        ndim = len(self.first)
        edges = self._tight(self.soft > 0).astype(int) - np.tile(self.first, 2)
        crop = self.soft[tuple(map(slice, edges[:ndim], edges[ndim:]))]
        offset = self.first + edges[:ndim]
        return Lesion(
            box=torch.from_numpy(box.astype(np.float32)),
            crop=torch.from_numpy(crop.copy()),
            offset=torch.from_numpy(offset),
            centre=torch.from_numpy(_centre(crop) + offset).float(),
            volume_mm3=self.mass * self.patch.grid.voxel_mm,
            existence=float(rows["existence"][self.row]),
            label=int(rows["label"][self.row]),
            visible=visible,
        )


_SLACK = 1e-4  # voxels, and shares: what affines and masks in float32 are off by


def _centre(crop: np.ndarray) -> np.ndarray:
    """Centre of mass in voxels of the crop."""
    centre = []
    for axis, side in enumerate(crop.shape):
        others = tuple(other for other in range(crop.ndim) if other != axis)
        profile = crop.sum(axis=others, dtype=np.float64)
        centre.append(float(profile @ (np.arange(side) + 0.5) / profile.sum()))
    return np.array(centre)


def _hull_boxes(rows: dict[str, np.ndarray], grid: Grid) -> np.ndarray:
    """The tight box of each whole lesion by the affine, (K, 2 * ndim), also beyond the patch."""
    points = grid.to_voxels(rows["hull"])
    if not len(points):
        return np.zeros((0, 2 * points.shape[1]))
    starts = np.concatenate([[0], rows["hull_end"][:-1]])
    low = np.minimum.reduceat(points, starts, axis=0)
    boxes = np.concatenate([low, np.maximum.reduceat(points, starts, axis=0)], axis=1)
    rounded = np.round(boxes)
    return np.where(np.abs(boxes - rounded) < _SLACK, rounded, boxes)


def _matched(hull: np.ndarray, seen: np.ndarray, patch: Patch) -> np.ndarray:
    """Real-valued faces where they are within a voxel of those that are seen, else the latter."""
    shape = np.array(patch.mask.shape)
    clipped = hull.clip(0, np.tile(shape, 2))
    faces = np.where(np.abs(clipped - seen) <= 1, clipped, seen)
    ndim = len(shape)
    return faces if (faces[ndim:] > faces[:ndim]).all() else seen


def _around(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The box around two."""
    ndim = len(a) // 2
    return np.concatenate([np.minimum(a[:ndim], b[:ndim]), np.maximum(a[ndim:], b[ndim:])])


def _seeded(numbers: np.ndarray, patch: Patch, rows: dict[str, np.ndarray]) -> np.ndarray:
    """The numbers, with lesions that vanished from the map where their centres went.

    Each is given the voxels around its centre that belong to no lesion; without soft mask there it
    stays away.
    """
    there = np.bincount(numbers.ravel(), minlength=len(rows["label"]) + 1)[1:]
    gone = np.flatnonzero(there == 0)
    centres = np.floor(patch.grid.to_voxels(rows["centre"][gone])).astype(int)
    inside = ((centres >= 0) & (centres < numbers.shape)).all(axis=1)
    for row, centre in zip(gone[inside], centres[inside], strict=True):
        window = tuple(slice(max(place - 1, 0), place + 2) for place in centre)
        free = (numbers[window] == 0) & (patch.mask[window] > 0)
        numbers[window][free] = row + 1
    return numbers
