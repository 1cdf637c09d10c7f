"""Calibration near the lesions: the Brier score, the calibration error, the reliability curve.

All three take soft targets: a probability of 0.6 is right where 60 % of the raters marked a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.measures.bins import (
    ReliabilityCurve,
    bin_edges,
    bin_sums,
    calibration_error,
    check_bins,
    ratio,
    reliability_curve,
)
from softoverlap.measures.inputs import MaskPair
from softoverlap.measures.measure import counted_sum
from softoverlap.measures.near import NearMeasure


@dataclass(frozen=True, kw_only=True)
class Brier(NearMeasure):
    """Brier score: mean squared difference of the voxels that matter; lower is better.

    Those are the voxels within a margin of what either mask marks, see `NearMeasure`. NaN where no
    voxel counts.

    Args:
        margin: Voxels around the marked ones that count, or None for the whole image.

    References:
        Brier, Verification of forecasts expressed in terms of probability,
        https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

    Examples:
        >>> import torch
        >>> Brier()(torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[1.0, 0.0]]]))
        tensor([[0.1250]], dtype=torch.float64)
    """

    @property
    def width(self) -> int:
        """Σ squared difference, and how many voxels counted."""
        return 2

    def sums(self, pair: MaskPair) -> Float[Tensor, "items 2"]:
        """Σ squared difference, and how many voxels counted."""
        difference = pair.pred.double() - pair.truth.double()
        terms = (difference * difference, torch.ones_like(difference))
        return torch.stack([counted_sum(term, pair.counted) for term in terms], dim=-1)

    def score(self, statistics: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape"]:
        """The mean squared difference."""
        return ratio(*statistics.unbind(-1))


@dataclass(frozen=True, kw_only=True)
class CalibrationError(NearMeasure):
    """Calibration error, on the voxels that matter; lower is better.

    Voxels are put into bins of equal width by their predicted probability; the error of a bin is
    the difference of the mean probabilities of prediction and target. Which voxels matter says
    `NearMeasure`; `margin=None` counts the whole image, as MONAI's metric of this name does.
    `details` gives the reliability curve.

    Args:
        num_bins: Number of bins of equal width on [0, 1].
        calibration_reduction: "expected" for the mean error of the bins by their voxels (ECE),
            "average" for that of all filled bins alike, "maximum" for the largest.
        right: Put a probability on an edge into the bin below it, not the one above.

    References:
        Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[0.75, 0.75]]]), torch.tensor([[[1.0, 0.0]]])
        >>> CalibrationError()(pred, target)
        tensor([[0.2500]], dtype=torch.float64)
    """

    num_bins: int = 20
    calibration_reduction: str = "expected"
    right: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bins(self.num_bins, self.calibration_reduction)

    @property
    def width(self) -> int:
        """Of each bin how many voxels count, Σ prediction, Σ target."""
        return 3 * self.num_bins

    def sums(self, pair: MaskPair) -> Float[Tensor, "items width"]:
        """Of each bin how many voxels count, Σ prediction, Σ target."""
        return bin_sums(pair, bin_edges(self.num_bins, pair.pred.dtype), self.right)

    def score(self, statistics: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """The expected, average or largest error of the bins."""
        return calibration_error(statistics, self.calibration_reduction)

    def details(self, statistics: Float[Tensor, "items width"]) -> ReliabilityCurve:
        """The reliability curve over the voxels of all items."""
        edges = tuple(bin_edges(self.num_bins, torch.float64).tolist())
        return reliability_curve(edges, statistics.sum(dim=0))
