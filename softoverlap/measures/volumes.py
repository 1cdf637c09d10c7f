"""Soft volumes in ml: how far predicted ones lie from those of the target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._types import VoxelWeights
from softoverlap._units import MM3_PER_ML
from softoverlap.measures.agreement import BlandAltman, compute_bland_altman
from softoverlap.measures.inputs import MaskPair, Spacing, voxel_spacing
from softoverlap.measures.measure import Scores, Statistics, VoxelMeasure, counted_sum


@dataclass(frozen=True, kw_only=True)
class VolumeBias(VoxelMeasure):
    """Soft volume of the prediction less that of the target, in ml.

    A soft volume is Σ probability times the volume of a voxel. In 2D a pixel is 1 mm deep. A scan
    without lesions counts like any other. The statistics are the two volumes in ml; `details`
    gives the figures of Bland and Altman.

    Args:
        spacing: Edges of a voxel in mm; by default those of a MetaTensor. `statistics` takes it
            too, in place of the setting.

    References:
        Bland and Altman, Measuring agreement in method comparison studies,
        https://doi.org/10.1177/096228029900800204

    Examples:
        >>> pred, target = torch.full((1, 1, 10, 10, 10), 0.5), torch.zeros(1, 1, 10, 10, 10)
        >>> VolumeBias(spacing=(1.0, 1.0, 2.0))(pred, target)
        tensor([[1.]], dtype=torch.float64)
    """

    spacing: Spacing | None = None

    @property
    def width(self) -> int:
        """Two volumes."""
        return 2

    def statistics(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: VoxelWeights | None = None,
        spacing: Spacing | None = None,
    ) -> Statistics:
        """Soft volumes of prediction and target in ml, of each item and class."""
        batch = self.batch(y_pred, y, mask)
        spacing = self.spacing if spacing is None else spacing
        edges = voxel_spacing(spacing, y_pred, y, items=batch.items, ndim=len(batch.spatial))
        sizes = self.summed(batch)
        voxels = sizes.new_tensor([math.prod(edge) for edge in edges])
        return sizes * (voxels[:, None, None] / MM3_PER_ML)

    def sums(self, pair: MaskPair) -> Float[Tensor, "items 2"]:
        """Soft sizes of prediction and target in voxels."""
        return torch.stack([counted_sum(mask, pair.counted) for mask in pair[:2]], dim=-1)

    def score(self, statistics: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape"]:
        """The bias in ml, above 0 where too much is predicted."""
        pred, truth = statistics.unbind(-1)
        return pred - truth

    def details(self, statistics: Float[Tensor, "items 2"]) -> BlandAltman:
        """The figures of Bland and Altman over all items, in ml."""
        return compute_bland_altman(statistics[:, 0], statistics[:, 1])


@dataclass(frozen=True, kw_only=True)
class RelativeVolumeBias(VolumeBias):
    """Volume bias as a share of the target's soft volume: 0.1 is 10 % too much.

    NaN where the target is empty. A call needs no spacing, as volumes in ml over a data set do.

    Args:
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.

    References:
        Bland and Altman, Measuring agreement in method comparison studies,
        https://doi.org/10.1177/096228029900800204

    Examples:
        >>> pred, target = torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> RelativeVolumeBias()(pred, target)
        tensor([[0.5000]], dtype=torch.float64)
    """

    def __call__(self, y_pred: Any, *inputs: Any, **options: Any) -> Scores:
        """The share of each item and class; the arguments are those of `statistics`."""
        return super().__call__(y_pred, *inputs, **{"spacing": 1.0} | options)

    def score(self, statistics: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape"]:
        """The bias as a share, at least -1, NaN where the target is empty."""
        pred, truth = statistics.unbind(-1)
        safe = torch.where(truth > 0, truth, 1)
        return torch.where(truth > 0, (pred - truth) / safe, torch.nan)
