"""Calibration as a loss: what is predicted should be what is there, bin by bin."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._types import Masks, Targets
from softoverlap.losses.inputs import Preparation
from softoverlap.losses.masks import MaskLoss
from softoverlap.losses.reduction import reduce, reduction_name

_EMPTY = 0.01  # voxels; a bin that holds less has no mean worth the name


class SoftCalibrationLoss(MaskLoss):
    """Marginal L1 average calibration error (mL1-ACE) with soft bins, to add to another loss.

    Each channel of each item has `num_bins` bins of equal width on [0, 1]. A voxel is shared by the
    two bins whose centres lie around its prediction, by nearness; the outermost bins have all that
    lies beyond their centres. The loss is the mean over bins, but for empty ones, of
    `|mean prediction - mean target|`. So it is 0 where prediction equals target, and also wherever
    each bin is right on average: it says how sure to be, not where, and needs another loss beside
    it. At a bin's centre it has the derivative of the side above.

    `CalibrationError(calibration_reduction="average")` measures the same with hard bins.

    Args:
        num_bins: How many bins, at least 2.
        reduction: `"mean"` or `"sum"` over items and channels, or `"none"`.

    Raises:
        TypeError: If `other_act` is not callable, a switch is neither True nor False, or
            `num_bins` no integer.
        ValueError: If arguments exclude each other or are out of range.

    References:
        Barfoot et al., Average calibration error, https://arxiv.org/abs/2403.06759
        Barfoot et al., Average calibration losses (soft bins), https://arxiv.org/abs/2506.03942

    Examples:
        >>> import torch
        >>> pred, target = torch.tensor([[[0.75, 0.75]]]), torch.tensor([[[1.0, 0.0]]])
        >>> SoftCalibrationLoss(num_bins=2)(pred, target)
        tensor(0.2500)
    """

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[Tensor], Tensor] | None = None,
        num_bins: int = 20,
        reduction: str = "mean",
        *,
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        if isinstance(num_bins, bool) or not isinstance(num_bins, int):
            raise TypeError(f"num_bins must be an integer, got {type(num_bins).__name__}")
        if num_bins < 2:
            raise ValueError(f"num_bins must be at least 2, got {num_bins}")
        self.prepare = Preparation(
            include_background, to_onehot_y, sigmoid, softmax, other_act, None, validate
        )
        self.reduction, self.num_bins = reduction_name(reduction), num_bins

    def extra_repr(self) -> str:
        """What `print` shows of the settings."""
        return f"num_bins={self.num_bins}, reduction={self.reduction!r}"

    def forward(self, input: Masks, target: Targets) -> Float[Tensor, "*reduced"]:
        """The loss of a batch.

        Args:
            input: Prediction, shape (B, C, *spatial).
            target: Target, the same shape, or labels (B, 1, *spatial) with `to_onehot_y`.

        Returns:
            The loss, without unit, in [0, 1], in float32 or wider, shape () or, for
            `reduction="none"`, (B, C).

        Raises:
            ValueError: If the shapes differ or a probability lies outside [0, 1].
        """
        pred, truth = (values.flatten(2) for values in self.prepare(input, target))
        place = (pred * self.num_bins - 0.5).clamp(0, self.num_bins - 1)
        below = place.detach().floor().clamp(max=self.num_bins - 2)
        above = place - below
        shares = torch.cat([1 - above, above], dim=2)
        bins = torch.cat([below, below + 1], dim=2).long()
        apart = (pred - truth).repeat(1, 1, 2)
        voxels = self._totals(shares, bins)
        gap = self._totals(shares * apart, bins).abs()
        filled = voxels > _EMPTY
        gap = torch.where(filled, gap / torch.where(filled, voxels, 1), 0)
        return reduce(gap.sum(dim=2) / filled.sum(dim=2).clamp(min=1), self.reduction)

    def _totals(self, values: Tensor, bins: Tensor) -> Tensor:
        """What values (B, C, n) add up to in each bin, (B, C, num_bins)."""
        totals = torch.zeros(
            (*values.shape[:2], self.num_bins), dtype=torch.float64, device=values.device
        )
        return totals.scatter_add(2, bins, values.double()).to(values.dtype)
