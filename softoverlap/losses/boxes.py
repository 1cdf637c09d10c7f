"""Losses of aligned boxes: `1 - IoU^alpha` plus the penalties of each form.

They take the place of MONAI's `BoxGIoULoss(reduction)` and plug into a detector's
`set_box_regression_loss(loss, encode_gt=False, decode_pred=True)`. Each loss can be focused on
hard boxes (`focal_gamma`), sharpened (`alpha`) and weighted per box.
"""

from __future__ import annotations

import copy

from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import check_positive, check_weight
from softoverlap._periodic import Period
from softoverlap._types import Boxes, score_dtype
from softoverlap.losses.reduction import ReducedLoss, power
from softoverlap.overlaps import (
    BoxLikeOverlap,
    BoxOverlap,
    SoftBoxOverlap,
    box_ciou,
    box_diou,
    box_eiou,
    box_giou,
    box_iou,
    box_nwd,
    rotated_box_diou,
    rotated_box_giou,
    rotated_box_iou,
)

PerBox = Float[Tensor, "boxes"]


class BoxLoss(ReducedLoss):
    """One minus an overlap of aligned boxes; use a subclass, which names the overlap.

    Args:
        focal_gamma: Each box counts `(1 - IoU)^gamma`, without gradient, so that boxes that are
            still far off lead; at least 0. Focal-EIoU's factor is `IoU^gamma`, which does the
            opposite: it quiets boxes that are far off, as outliers.
        alpha: Power of the IoU and of each penalty (alpha-IoU), above 0; above 1 it favours boxes
            that already fit.

    References:
        Lin et al., Focal loss for dense object detection, https://arxiv.org/abs/1708.02002
        He et al., Alpha-IoU, https://arxiv.org/abs/2110.13675
    """

    overlap: BoxLikeOverlap

    def __init__(
        self,
        reduction: str = "mean",
        *,
        focal_gamma: float = 0.0,
        alpha: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(reduction, validate=validate)
        check_weight(focal_gamma=focal_gamma)
        check_positive(alpha=alpha)
        self.focal_gamma = focal_gamma
        self.alpha = alpha

    def extra_repr(self) -> str:
        """The settings."""
        settings = {name: getattr(self, name) for name in ("reduction", "focal_gamma", "alpha")}
        settings |= self.overlap.parameters
        shown = {name: value for name, value in settings.items() if name != "period" or value}
        return ", ".join(f"{name}={value}" for name, value in shown.items())

    def forward(
        self, input: Boxes, target: Boxes, weight: PerBox | None = None
    ) -> Shaped[Tensor, "*reduced"]:
        """The loss of aligned boxes.

        Args:
            input: Predicted boxes, shape (N, coords).
            target: True boxes, same shape.
            weight: Factor of each box's loss, at least 0, shape (N,); the mean is still over N.

        Returns:
            The loss, without unit, at least 0; shape (N,) for `reduction="none"`, else ().

        Raises:
            ValueError: If shapes disagree, a value is not finite or a box is inverted.
        """
        score, penalties = self.overlap.terms(self.validate, input=input, target=target)
        loss = 1 - power(score, self.alpha)
        for penalty in penalties:
            loss = loss + power(penalty, self.alpha)
        if self.focal_gamma:
            loss = loss * (1 - score).detach().clamp(min=0) ** self.focal_gamma
        return self.reduced(loss, weight).to(score_dtype(input, target))


class CornerBoxLoss(BoxLoss):
    """One minus an overlap of aligned boxes whose axes may come round; use a subclass.

    Args:
        period: After which length each axis comes round, such as 360 for angles: one number for
            all, or one an axis, None where it never does.
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        focal_gamma: float = 0.0,
        alpha: float = 1.0,
        period: Period = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__(reduction, focal_gamma=focal_gamma, alpha=alpha, validate=validate)
        self.overlap = self.overlap.with_(period=period)


class BoxIoULoss(CornerBoxLoss):
    """1 - IoU: no gradient where the boxes do not meet.

    References:
        Yu et al., UnitBox, https://arxiv.org/abs/1608.01471

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> BoxIoULoss()(pred, torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.6667)
    """

    overlap = box_iou


class BoxGIoULoss(CornerBoxLoss):
    """1 - GIoU, also for boxes that do not meet; takes the place of MONAI's.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> BoxGIoULoss()(pred, torch.tensor([[3.0, 0.0, 5.0, 2.0]]))
        tensor(1.2000)
    """

    overlap = box_giou


class BoxDIoULoss(CornerBoxLoss):
    """1 - DIoU: draws the centres together.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> BoxDIoULoss()(pred, torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.7436)
    """

    overlap = box_diou


class BoxCIoULoss(CornerBoxLoss):
    """1 - CIoU: draws centres and aspects together; the mean over pairs of axes in 3D.

    The weight of the aspect, CIoU's own α, carries no gradient.

    Args:
        gate: The aspect counts only where the IoU exceeds this, in [0, 1]; None: everywhere.

    References:
        Zheng et al., Enhancing geometric factors, https://arxiv.org/abs/2005.03572

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> BoxCIoULoss()(pred, torch.tensor([[0.0, 0.0, 4.0, 1.0]]))
        tensor(0.7470)
    """

    overlap = box_ciou

    def __init__(
        self,
        reduction: str = "mean",
        *,
        gate: float | None = None,
        focal_gamma: float = 0.0,
        alpha: float = 1.0,
        period: Period = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            reduction, focal_gamma=focal_gamma, alpha=alpha, period=period, validate=validate
        )
        self.overlap = self.overlap.with_(gate=gate)

    @property
    def gate(self) -> float | None:
        """The IoU from which on the aspect counts; it travels with the overlap."""
        return self.overlap.parameters["gate"]


class BoxEIoULoss(CornerBoxLoss):
    """1 - EIoU: draws centres and edges together, axis by axis.

    References:
        Zhang et al., Focal and efficient IOU loss, https://arxiv.org/abs/2101.08158

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> BoxEIoULoss()(pred, torch.tensor([[0.0, 0.0, 4.0, 1.0]]))
        tensor(1.2292)
    """

    overlap = box_eiou


class BoxNWDLoss(CornerBoxLoss):
    """1 - NWD: boxes as Gaussians, for objects of a few voxels.

    The focal factor and the power are those of the similarity in place of the IoU.

    Args:
        constant: Length over which the similarity falls to 1/e, above 0, in units of the boxes.

    References:
        Wang et al., A normalized Gaussian Wasserstein distance, https://arxiv.org/abs/2110.13389

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> BoxNWDLoss(constant=4.0)(pred, torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor(0.2212)
    """

    overlap = box_nwd

    def __init__(
        self,
        reduction: str = "mean",
        *,
        constant: float = 12.7,
        focal_gamma: float = 0.0,
        alpha: float = 1.0,
        period: Period = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            reduction, focal_gamma=focal_gamma, alpha=alpha, period=period, validate=validate
        )
        self.overlap = self.overlap.with_(constant=constant)

    @property
    def constant(self) -> float:
        """The length of the similarity; it travels with the overlap."""
        return self.overlap.parameters["constant"]


class RotatedBoxIoULoss(BoxLoss):
    """1 - IoU of oriented boxes, differentiable in all parameters.

    Boxes are `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians counter-clockwise
    from axis 0 to axis 1.

    References:
        Zhou et al., IoU loss for 2D/3D object detection, https://arxiv.org/abs/1908.03851

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> RotatedBoxIoULoss()(pred, pred + torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]))
        tensor(0.6667)
    """

    overlap = rotated_box_iou


class RotatedBoxGIoULoss(BoxLoss):
    """1 - GIoU of oriented boxes, also for boxes that do not meet.

    Boxes are those of `RotatedBoxIoULoss`.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> RotatedBoxGIoULoss()(pred, pred + torch.tensor([4.0, 0.0, 0.0, 0.0, 0.0]))
        tensor(1.3333)
    """

    overlap = rotated_box_giou


class RotatedBoxDIoULoss(BoxLoss):
    """1 - DIoU of oriented boxes: draws the centres together.

    Boxes are those of `RotatedBoxIoULoss`.

    References:
        Zheng et al., Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Examples:
        >>> import torch
        >>> pred = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
        >>> RotatedBoxDIoULoss()(pred, pred + torch.tensor([4.0, 0.0, 0.0, 0.0, 0.0]))
        tensor(1.4000)
    """

    overlap = rotated_box_diou


def per_box(name: str, loss: BoxLoss) -> BoxLoss:
    """A copy that returns every box and does not look at values, which are looked at before."""
    overlap = loss.overlap if isinstance(loss, BoxLoss) else None
    if not isinstance(overlap, BoxOverlap) or isinstance(overlap, SoftBoxOverlap):
        raise TypeError(f"{name} must be a loss of axis-aligned boxes, got {type(loss).__name__}")
    alone = copy.copy(loss)
    alone.reduction, alone.validate = "none", False
    return alone
