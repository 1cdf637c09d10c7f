"""Which voxels matter for calibration: those near what the target or the prediction marks.

Most of a scan is background that everyone gets right; over all of it any map looks calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import check_threshold, check_weight
from softoverlap.measures.mask_inputs import MaskInputs, voxel_spacing

_ROUNDING = 1 + 1e-9  # three edges of 0.1 mm are within 0.3 mm


class CountedVoxels(NamedTuple):
    """Probabilities (B, C, *spatial) as given, float64, and how much each voxel counts."""

    pred: Tensor
    truth: Tensor
    weight: Tensor


@dataclass(frozen=True)
class NearVoxels:
    """Voxels whose centre is within a margin of the centre of a marked one, in each class.

    Marked is a voxel that counts, where the target is above 0 or the prediction at or above
    `union_threshold`. The margin is in voxels, or in mm, which goes before; without one all voxels
    are near.
    """

    margin: float | None = 5.0
    margin_mm: float | None = None
    union_threshold: float = 0.1
    spacing: Sequence[float] | float | None = None

    def __post_init__(self) -> None:
        given = {"margin": self.margin, "margin_mm": self.margin_mm}
        check_weight(**{name: value for name, value in given.items() if value is not None})
        check_threshold(union_threshold=self.union_threshold)

    def __call__(
        self,
        inputs: MaskInputs,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: Tensor | None,
        spacing: Sequence[float] | float | None = None,
    ) -> CountedVoxels:
        """The pair, and 0 for the voxels that are not near, else how much they count."""
        pair = inputs.values(y_pred, y, mask=mask)
        pred, truth = pair.pred.double(), pair.truth.double()
        weight = torch.ones_like(pred) if pair.counted is None else pair.counted.expand_as(pred)
        reach = self.margin if self.margin_mm is None else self.margin_mm
        if reach is None:
            return CountedVoxels(pred, truth, weight.double())
        edges = self._edges(pred, y_pred, y, spacing)
        threshold = in_dtype(self.union_threshold, y_pred.dtype)
        marked = (truth > 0) | (pred >= threshold)  # both are 0 in voxels that do not count
        return CountedVoxels(pred, truth, weight.double() * _dilated(marked, reach, edges))

    def _edges(
        self, pred: Tensor, y_pred: Tensor, y: Tensor, spacing: Sequence[float] | float | None
    ) -> list[tuple[float, ...]]:
        items, ndim = len(pred), pred.ndim - 2
        if self.margin_mm is None:
            return [(1.0,) * ndim] * items
        told = self.spacing if spacing is None else spacing
        return voxel_spacing(told, y_pred, y, items=items, ndim=ndim)


def in_dtype(threshold: float, dtype: torch.dtype) -> float:
    """The threshold as a map of this dtype would hold it: 0.7 is at or above 0.7 in float32 too."""
    return torch.tensor(threshold, dtype=dtype).item() if dtype.is_floating_point else threshold


def _dilated(marked: Tensor, reach: float, edges: Sequence[tuple[float, ...]]) -> Tensor:
    near = np.zeros(tuple(marked.shape), dtype=bool)
    for item, classes in enumerate(marked.cpu().numpy()):
        for channel, voxels in enumerate(classes):
            if voxels.any():
                near[item, channel] = _near(voxels, reach, edges[item])
    return torch.from_numpy(near).to(marked.device)


def _near(marked: np.ndarray, reach: float, edges: tuple[float, ...]) -> np.ndarray:
    """Distances are measured in a box around the marked voxels: far voxels are far anyway."""
    (box,) = ndimage.find_objects(marked.astype(np.uint8))
    steps = [math.ceil(reach / edge) for edge in edges]
    part = tuple(
        slice(max(0, side.start - step), side.stop + step)
        for side, step in zip(box, steps, strict=True)
    )
    distance = ndimage.distance_transform_edt(~marked[part], sampling=edges)
    near = np.zeros_like(marked)
    near[part] = np.asarray(distance) <= reach * _ROUNDING
    return near
