"""Generalised Dice: all classes in one ratio, each weighted by how little of it there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._autograd import widened
from softoverlap._checks import check_boolean, check_choice
from softoverlap.losses.inputs import Preparation
from softoverlap.losses.masks import MaskLoss, OverlapLoss, form_of
from softoverlap.losses.reduction import reduce

_POWERS = {"square": 2, "simple": 1, "uniform": 0}
_MOST = 1e150  # whose square is a number


class SoftGeneralizedDiceLoss(MaskLoss, OverlapLoss):
    """1 - generalised soft Dice, in place of MONAI's `GeneralizedDiceLoss`.

    Intersections and sizes of an item's channels are added up before the ratio is formed, each
    weighted by one over its target's size, squared. On hard targets it equals MONAI's.

    Args:
        w_type: Weight of a channel: `"square"` for 1 / size², `"simple"` for 1 / size, `"uniform"`
            for 1; size is Σ target. A channel without target has the largest weight of the item.
        reduction: `"mean"` or `"sum"` over items, or `"none"`.
        weight: Not taken.

    References:
        Sudre et al., Generalised Dice overlap, https://arxiv.org/abs/1707.03237

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[0.2, 0.8, 0.5], [0.8, 0.2, 0.5]]])
        >>> SoftGeneralizedDiceLoss()(target, target)
        tensor(0.)
    """

    keeps_axes = True

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[Tensor], Tensor] | None = None,
        w_type: str = "square",
        reduction: str = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        soft_label: bool = False,
        *,
        intersection: str = "min",
        validate: bool | None = None,
    ) -> None:
        super().__init__()
        check_boolean(soft_label=soft_label)
        self.w_type = getattr(w_type, "value", w_type)  # MONAI's is an enumeration too
        check_choice("w_type", self.w_type, _POWERS)
        prepare = Preparation(
            include_background, to_onehot_y, sigmoid, softmax, other_act, None, validate
        )
        form = form_of(intersection, squared=False)
        self._settle(prepare, form, reduction, (smooth_nr, smooth_dr), batch)

    def _shown(self) -> dict[str, object]:
        return {"w_type": self.w_type}

    def of_sums(self, sums: Sequence[Tensor], ndim: int) -> Float[Tensor, "*reduced"]:
        """The loss, from the sums of each item and channel of masks of so many axes."""
        dtype = sums[0].dtype
        wide = [widened(total) for total in sums]  # one over a square leaves float32
        if self.batch:
            wide = [total.sum(dim=0) for total in wide]
        weight = self._weights(wide[2].detach())
        whole = [(weight * total).sum(dim=-1, keepdim=True) for total in wide]
        ratio = scores.smoothed_dice(*whole, smooth_nr=self.smooth_nr, smooth_dr=self.smooth_dr)
        loss = (1 - ratio).to(dtype)
        if self.reduction == "none":
            return loss.view(*loss.shape, *[1] * (ndim - 2))
        return reduce(loss, self.reduction)

    def _weights(self, size: Tensor) -> Tensor:
        """The weight of each channel, from the size of its target."""
        if self.w_type == "uniform":
            return torch.ones_like(size)
        there = size > 0
        inverse = torch.where(there, size, 1) ** -_POWERS[self.w_type]
        inverse = torch.where(there, inverse, 0).clamp(max=_MOST)
        return torch.where(there, inverse, inverse.amax(dim=-1, keepdim=True))
