"""Dice and IoU where prediction and target are cut at the same thresholds, as in QUBIQ."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap.measures.inputs import MaskPair
from softoverlap.measures.measure import Ratio, VoxelMeasure, WithEmpty
from softoverlap.measures.thresholds import voxels
from softoverlap.measures.thresholds.curve import QUBIQ_THRESHOLDS, Curve, curve, rising


@dataclass(frozen=True, kw_only=True)
class Thresholded(WithEmpty, VoxelMeasure):
    """The sizes of intersection, prediction and target at each threshold, both masks cut.

    Args:
        thresholds: Where both masks are cut, in (0, 1]; a voxel belongs to a mask if its value is
            at or above the threshold. QUBIQ's 0.1 to 0.9 by default.
        ignore_empty: NaN where the target is empty at every threshold.
        empty: Score of a threshold at which both masks are empty; NaN leaves it out of the mean.
    """

    compares = True

    thresholds: Sequence[float] = QUBIQ_THRESHOLDS

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "thresholds", rising(self.thresholds))

    @property
    @abstractmethod
    def ratio(self) -> Ratio:
        """The overlap of sizes."""

    @property
    def width(self) -> int:
        """Three sizes a threshold."""
        return 3 * len(self.thresholds)

    def sums(self, pair: MaskPair) -> Float[Tensor, "items width"]:
        """Sizes of intersection, prediction and target at each threshold."""
        levels = tuple(self.thresholds)
        return voxels.sizes_at(pair.pred, pair.truth, levels, pair.counted).flatten(1)

    def score(self, statistics: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """The mean over the thresholds, in [0, 1] or NaN."""
        return self.curve(statistics).nanmean(dim=-1)

    def curve(self, statistics: Float[Tensor, "*shape width"]) -> Curve:
        """The score at each threshold, from the lowest to the highest."""
        options = {"ignore_empty": self.ignore_empty, "empty": self.empty}
        return curve(self.ratio, statistics, **options)

    def details(self, statistics: Float[Tensor, "items width"]) -> dict[float, float]:
        """The mean over items of the score at each threshold."""
        means = self.curve(statistics).nanmean(dim=0).tolist()
        return dict(zip(self.thresholds, means, strict=True))


@dataclass(frozen=True, kw_only=True)
class ThresholdedDice(Thresholded):
    """Mean over thresholds of the Dice of both masks, each cut at that threshold (QUBIQ's score).

    Args:
        thresholds: Where both masks are cut, in (0, 1]. QUBIQ's 0.1 to 0.9 by default.

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]])
        >>> dice = ThresholdedDice(thresholds=[0.25, 0.5])
        >>> dice(pred, target)
        tensor([[0.8333]], dtype=torch.float64)
        >>> dice.curve(dice.statistics(pred, target))
        tensor([[[1.0000, 0.6667]]], dtype=torch.float64)
    """

    @property
    def ratio(self) -> Ratio:
        """Dice of sizes."""
        return scores.dice


@dataclass(frozen=True, kw_only=True)
class ThresholdedIoU(Thresholded):
    """Mean over thresholds of the IoU of both masks, each cut at that threshold.

    Args:
        thresholds: Where both masks are cut, in (0, 1]. 0.1 to 0.9 by default.

    References:
        Li et al., QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation Challenge,
        https://arxiv.org/abs/2405.18435

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[1.0, 0.4]]]), torch.tensor([[[1.0, 0.8]]])
        >>> ThresholdedIoU(thresholds=[0.25, 0.5])(pred, target)
        tensor([[0.7500]], dtype=torch.float64)
    """

    @property
    def ratio(self) -> Ratio:
        """IoU of sizes."""
        return scores.iou
