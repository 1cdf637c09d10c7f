"""What is left of each lesion after spatial transforms: from the instance map, mask and table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.table import LesionTable
from softoverlap.lesion import Lesion
from softoverlap.lesions import numbered

_WHOLE = 0.9
"""Of a lesion with its margin so much must be there for the lesion to count as whole."""

_COPIED = 1.25
"""If there is more than so much of a lesion with its margin, there may be copies of it."""

_SLACK = 1e-4
"""Voxels, and shares of mass: what affines and masks in float32 are off by."""


@dataclass(frozen=True)
class Patch:
    """A soft mask and its instance map after all transforms, (*spatial) each, and their grid."""

    mask: np.ndarray
    instances: np.ndarray
    grid: Grid


def lesions_left(
    layers: Sequence[Patch], table: LesionTable, *, amodal: bool, min_visible: float
) -> list[Lesion]:
    """The lesions that the patch shows, in the order of the table.

    Args:
        layers: What the transforms left, for each layer of the lesions.
        table: What was known before them.
        amodal: Give lesions that are cut the box of the whole lesion.
        min_visible: Least share of a lesion's mass that must be left.
    """
    rows = {name: column.cpu().numpy() for name, column in table.items()}
    hulls = _hull_boxes(rows, layers[0].grid)
    found = []
    for layer, patch in enumerate(layers):
        numbers = np.abs(patch.instances)
        for row, window in _windows(numbers, patch, rows, layer):
            whole = _Whole(row, rows, hulls[row])
            own = numbers[window] == row + 1
            for part in _parts(patch, window, own, whole):
                visible = part.visible(whole)
                if part.mass > 0 and visible >= min_visible:
                    found.append((row, _record(part, whole, visible, amodal=amodal)))
    return [lesion for _, lesion in sorted(found, key=lambda pair: pair[0])]


def _record(part: _Part, whole: _Whole, visible: float, *, amodal: bool) -> Lesion:
    cut = amodal and visible < 1 and not part.is_copy
    box = part.box(whole)
    box = _around(whole.hull, box) if cut else box
    return part.lesion(whole, box, visible if cut else 1.0)


class _Whole:
    """What the table says of a lesion, and its tight box by the affine."""

    def __init__(self, row: int, rows: dict[str, np.ndarray], hull: np.ndarray) -> None:
        self.number, self.hull = row + 1, hull
        self.volume_mm3 = float(rows["volume_mm3"][row])
        self.surroundings_mm3 = float(rows["surroundings_mm3"][row])
        self.existence, self.label = float(rows["existence"][row]), int(rows["label"][row])
        self.level = np.float32(rows["level"][row])  # the mask's own precision
        self.real_box = bool(rows["real_box"][row])


class _Part:
    """One lesion in the patch: its voxels with a margin, and the mask there."""

    def __init__(
        self, patch: Patch, window: tuple[slice, ...], own: np.ndarray, is_copy: bool = False
    ) -> None:
        self.patch, self.window, self.own, self.is_copy = patch, window, own, is_copy
        self.first = np.array([edge.start for edge in window])
        self.soft = np.where(own, patch.mask[window], 0)
        self.places = np.argwhere(self.soft)
        self.weights = self.soft[tuple(self.places.T)]
        self.mass = float(self.weights.sum(dtype=np.float64))
        self.volume_mm3 = self.mass * patch.grid.voxel_mm

    def visible(self, whole: _Whole) -> float:
        """The share of the lesion's mass that is here, by volumes in mm³.

        Resampling changes the sum of a tiny lesion's voxels: one that lies in the patch and has
        nearly all of its margin counts as whole.
        """
        voxel, shape = self.patch.grid.voxel_mm, self.patch.mask.shape
        inside = (whole.hull.reshape(2, -1) >= -_SLACK) & (
            whole.hull.reshape(2, -1) <= np.array(shape) + _SLACK
        )
        margin = np.count_nonzero(self.own) * voxel
        if margin >= _WHOLE * whole.surroundings_mm3 and inside.all():
            return 1.0
        share = min(1.0, self.volume_mm3 / whole.volume_mm3)
        return 1.0 if share > 1 - _SLACK else share

    def box(self, whole: _Whole) -> np.ndarray:
        """The lesion's box in the patch: the first of four that there is.

        What the affine says, where whole voxels went onto whole voxels, so that mass and box are
        just so; what is tight around the voxels from the lesion's level on, as if it were found
        anew, unless interpolation left less than half of its own voxels so high; what is tight
        around these; what is tight around the voxels of at least half its highest probability.
        """
        core = np.argwhere((self.patch.instances[self.window] == whole.number) & self.own)
        same_mass = math.isclose(self.volume_mm3, whole.volume_mm3, rel_tol=_SLACK)
        if len(core) and same_mass:
            seen = self._seen(core)
            if np.array_equal(_clipped(whole.hull, self.patch), seen):
                return seen
        high = self.places[self.weights >= whole.level]
        if 2 * len(high) < len(core):
            high = core
        if not len(high):
            high = self.places[self.weights >= self.weights.max() / 2]
        seen = self._seen(high)
        if not whole.real_box:
            return seen
        widest = self._seen(self.places) if same_mass else seen
        return _matched(_clipped(whole.hull, self.patch), seen, widest)

    def _seen(self, places: np.ndarray) -> np.ndarray:
        return _tight(places) + np.tile(self.first, 2)

    def lesion(self, whole: _Whole, box: np.ndarray, visible: float) -> Lesion:
        """The record of it."""
        ndim = len(self.first)
        edges = _tight(self.places)
        crop = self.soft[tuple(map(slice, edges[:ndim], edges[ndim:]))]
        centre = self.weights.astype(np.float64) @ self.places / self.mass + self.first + 0.5
        return Lesion(
            box=torch.from_numpy(box.astype(np.float32)),
            crop=torch.from_numpy(crop.copy()),
            offset=torch.from_numpy(self.first + edges[:ndim]),
            centre=torch.from_numpy(centre.astype(np.float32)),
            volume_mm3=self.volume_mm3,
            existence=whole.existence,
            label=whole.label,
            visible=visible,
        )


def _parts(patch: Patch, window: tuple[slice, ...], own: np.ndarray, whole: _Whole) -> list[_Part]:
    """The lesion, or each of its copies: padding by reflection shows it more than once.

    Then there is more of it and its margin than there was. Copies that touch are one.
    """
    margin = np.count_nonzero(own) * patch.grid.voxel_mm
    if margin <= _COPIED * whole.surroundings_mm3:
        return [_Part(patch, window, own)]
    copies = numbered(own & (patch.mask[window] > 0), own.ndim)
    count = int(copies.max())
    return [_Part(patch, window, copies == k, count > 1) for k in range(1, count + 1)]


def _tight(places: np.ndarray) -> np.ndarray:
    """The tight box around voxels, given by their indices."""
    return np.concatenate([places.min(axis=0), places.max(axis=0) + 1])


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


def _clipped(box: np.ndarray, patch: Patch) -> np.ndarray:
    return box.clip(0, np.tile(patch.mask.shape, 2))


def _matched(exact: np.ndarray, seen: np.ndarray, widest: np.ndarray) -> np.ndarray:
    """Real-valued faces where they are within a voxel of those that are seen, else the latter.

    The tip of a slender ellipsoid lies in voxels that it fills by less than a half: where nothing
    was interpolated, a face may be as near to the widest box, around all voxels of the lesion.
    """
    near = (np.abs(exact - seen) <= 1) | (np.abs(exact - widest) <= 1)
    faces, ndim = np.where(near, exact, seen), len(seen) // 2
    return faces if (faces[ndim:] > faces[:ndim]).all() else seen


def _around(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The box around two."""
    ndim = len(a) // 2
    return np.concatenate([np.minimum(a[:ndim], b[:ndim]), np.maximum(a[ndim:], b[ndim:])])


def _windows(
    numbers: np.ndarray, patch: Patch, rows: dict[str, np.ndarray], layer: int
) -> list[tuple[int, tuple[slice, ...]]]:
    """Row and place of each lesion of a layer; one that vanished is put where its centre went.

    It is given the voxels around its centre that belong to no lesion; without soft mask there it
    stays away. The numbers are written to.
    """
    ours = np.flatnonzero(rows["layer"] == layer)
    found = ndimage.find_objects(numbers, max_label=len(rows["label"])) if len(ours) else []
    windows = {row: found[row] for row in ours.tolist()}
    gone = np.array([row for row, window in windows.items() if window is None], dtype=int)
    centres = np.floor(patch.grid.to_voxels(rows["centre"][gone])).astype(int)
    inside = ((centres >= 0) & (centres < numbers.shape)).all(axis=1)
    for row, centre in zip(gone[inside].tolist(), centres[inside], strict=True):
        around = tuple(slice(max(place - 1, 0), place + 2) for place in centre.tolist())
        free = (numbers[around] == 0) & (patch.mask[around] > 0)
        numbers[around][free] = row + 1
        windows[row] = around if free.any() else None
    return [(row, window) for row, window in windows.items() if window is not None]
