"""Which voxels matter for calibration: those near what the target or the prediction marks.

Most of a scan is background that everyone gets right; over all of it any map looks calibrated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import check_threshold, check_weight
from softoverlap._types import VoxelWeights
from softoverlap.lesions import distances
from softoverlap.measures.inputs import MaskBatch, MaskPair, Spacing, reaches, voxel_spacing
from softoverlap.measures.measure import Piece, Statistics, VoxelMeasure

_ROUNDING = 1 + 1e-9  # three edges of 0.1 mm are within 0.3 mm
_ROUNDING_FAR = 1 + 1e-6  # of distances in float32
_SHORT = 60
"""Steps along all axes up to which growing is quicker than distances."""

_BLOCK = 64
"""Edge of the blocks, in voxels, in which distances are measured."""

_MARGINS = 4
"""How many margins a block is wide at least, so that most of what is looked at is its own."""


@dataclass(frozen=True, kw_only=True)
class NearMeasure(VoxelMeasure):
    """Sums over the voxels whose centre is within a margin of the centre of a marked one.

    Marked is a voxel of the class that counts, where the target is above 0 or the prediction at or
    above `union_threshold`. A target whose tails never reach 0 (a Gaussian blur) marks the whole
    image. `statistics` takes `spacing` too, in place of the setting.

    Args:
        margin: Voxels around the marked ones that count, or None for the whole image.
        margin_mm: The same in mm; it goes before `margin`.
        union_threshold: From this probability on, in (0, 1], a predicted voxel is marked.
        spacing: Edges of a voxel in mm, for `margin_mm`; by default those of a MetaTensor.
    """

    compares = True

    margin: float | None = 5.0
    margin_mm: float | None = None
    union_threshold: float = 0.1
    spacing: Spacing | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {"margin": self.margin, "margin_mm": self.margin_mm}
        check_weight(**{name: value for name, value in given.items() if value is not None})
        check_threshold(union_threshold=self.union_threshold)

    def statistics(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: VoxelWeights | None = None,
        spacing: Spacing | None = None,
    ) -> Statistics:
        """The sums over the voxels that are near, of each item and class."""
        batch = self.batch(y_pred, y, mask)
        if self.margin_mm is None:
            return self.summed(batch)
        spacing = self.spacing if spacing is None else spacing
        edges = voxel_spacing(spacing, y_pred, y, items=batch.items, ndim=len(batch.spatial))
        items = (
            replace(self, spacing=edges[number]).summed(batch.item(number))
            for number in range(batch.items)
        )
        return torch.cat(list(items))

    def parts(self, batch: MaskBatch) -> Iterator[Piece]:
        """Blocks of each item and class, with the weight 0 for voxels that are not near.

        Each is looked at with its margin, then cut; those without a marked voxel are left out.
        """
        if self.reach is None:
            yield from super().parts(batch)
            return
        for number in range(batch.items):
            item = batch.item(number)
            for channel in range(batch.channels):
                for pair in self._blocks(item, channel):
                    yield slice(number, number + 1), channel, pair

    @property
    def reach(self) -> float | None:
        """The margin, in voxels or in mm."""
        return self.margin if self.margin_mm is None else self.margin_mm

    def _blocks(self, item: MaskBatch, channel: int) -> Iterator[MaskPair]:
        edges, reach = self._edges(len(item.spatial)), float(self.reach or 0)
        steps = _steps(reach, edges)
        for outer, inner in _cuts(item.spatial, steps):
            pair = item.values(channel, outer)
            marked = (pair.truth > 0) | reaches(pair.pred, self.union_threshold)
            if not marked.any():
                continue
            window, near = _near(marked[0, 0].cpu().numpy(), reach, edges)
            kept = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(window, inner, strict=True)
            )
            own = tuple(
                slice(max(part.start - low.start, 0), max(part.stop - low.start, 0))
                for part, low in zip(kept, window, strict=True)
            )
            where = (slice(None), slice(None), *kept)
            weights = torch.from_numpy(near[own]).to(item.device)[None, None].double()
            if pair.counted is not None:
                weights *= pair.counted[where]
            yield MaskPair(pair.pred[where], pair.truth[where], weights)

    def _edges(self, ndim: int) -> tuple[float, ...]:
        if self.margin_mm is None:
            return (1.0,) * ndim
        return voxel_spacing(self.spacing, items=1, ndim=ndim)[0]


def _steps(reach: float, edges: tuple[float, ...]) -> list[int]:
    """How many voxels the reach spans along each axis."""
    return [math.ceil(reach / edge) for edge in edges]


def _cuts(
    spatial: tuple[int, ...], steps: list[int]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Blocks with their margins in the image, and without them in the block."""
    ranges = [
        range(0, length, max(_BLOCK, _MARGINS * step))
        for length, step in zip(spatial, steps, strict=True)
    ]
    for starts in itertools.product(*ranges):
        axes = list(zip(starts, ranges, steps, strict=True))
        outer = tuple(
            slice(max(0, low - step), low + block.step + step) for low, block, step in axes
        )
        inner = tuple(
            slice(low - part.start, low - part.start + block.step)
            for (low, block, _), part in zip(axes, outer, strict=True)
        )
        yield outer, inner


def _near(
    marked: np.ndarray, reach: float, edges: tuple[float, ...]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """A window around the marked voxels, and which voxels of it are near: those beyond are far."""
    (box,) = ndimage.find_objects(marked.view(np.uint8))
    window = tuple(
        slice(max(0, side.start - step), min(side.stop + step, length))
        for side, step, length in zip(box, _steps(reach, edges), marked.shape, strict=True)
    )
    return window, _within(marked[window], reach, edges)


def _within(marked: np.ndarray, reach: float, edges: tuple[float, ...]) -> np.ndarray:
    """Which voxels lie within the reach of a marked one.

    Squared distances grow along one axis after the other, and no further than a short reach: that
    is exact up to there, and takes a small part of the time of distances that go on.
    """
    if sum(_steps(reach, edges)) > _SHORT:
        return distances(marked, edges) <= reach * _ROUNDING_FAR
    squares = np.where(marked, 0.0, np.inf)
    for axis, (edge, steps) in enumerate(zip(edges, _steps(reach, edges), strict=True)):
        lines = np.moveaxis(squares, axis, 0)
        before = lines.copy()
        for step in range(1, min(steps, len(lines) - 1) + 1):
            farther = before + (step * edge) ** 2
            np.minimum(lines[step:], farther[:-step], out=lines[step:])
            np.minimum(lines[:-step], farther[step:], out=lines[:-step])
    return squares <= (reach * _ROUNDING) ** 2
