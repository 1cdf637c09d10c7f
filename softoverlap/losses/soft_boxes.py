"""Losses of soft boxes, which learn where a box lies and how far its faces can be trusted."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_same_rows
from softoverlap._types import Boxes, plain, score_dtype
from softoverlap.losses.boxes import BoxLoss
from softoverlap.losses.reduction import ReducedLoss
from softoverlap.overlaps import soft_box_iou
from softoverlap.soft_box import check_soft_boxes, soft_box_faces

PerBox = Float[Tensor, "boxes"]


class SoftBoxIoULoss(BoxLoss):
    """1 - IoU of soft boxes: 0 exactly where means and deviations are those of the target.

    The target should hold the raters' deviations (`soft_boxes_from_raters`). From one rater at a
    time it learns to be sure, as every loss of an IoU does; `SoftBoxCRPSLoss` learns the deviation
    from them, too.

    References:
        Yu et al., UnitBox, https://arxiv.org/abs/1608.01471

    Examples:
        >>> import torch
        >>> from softoverlap import soft_boxes
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> SoftBoxIoULoss()(soft_boxes(box), soft_boxes(box, 0.5))
        tensor(0.3187)
    """

    overlap = soft_box_iou


class SoftBoxCRPSLoss(ReducedLoss):
    """How far the faces of a soft box are from those of boxes, or of another soft box.

    It is the mean over the faces of `∫ (F - G)²`, with F and G the distributions of the face: the
    continuous ranked probability score where the target is a box, as one rater drew it. The score
    is strictly proper: over many raters it is lowest where mean and deviation are theirs. Unlike
    the likelihood it stays finite however sure a wrong box is, and between two boxes without
    uncertainty it is the mean absolute error.

    Where both deviations of a face are 0, the derivative to them is that from above.

    References:
        Gneiting and Raftery, Strictly proper scoring rules, JASA 102, 2007
        Harakeh and Waslander, Estimating and evaluating regression predictive uncertainty in deep
        object detectors, https://arxiv.org/abs/2101.05036
        He et al., Bounding box regression with uncertainty, https://arxiv.org/abs/1809.08545 (with
        a likelihood)

    Examples:
        >>> import torch
        >>> from softoverlap import soft_boxes
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> SoftBoxCRPSLoss()(soft_boxes(box, 1.0), soft_boxes(box + 1))
        tensor(0.6024)
        >>> SoftBoxCRPSLoss()(soft_boxes(box), soft_boxes(box + 1))
        tensor(1.)
    """

    def forward(
        self, input: Boxes, target: Boxes, weight: PerBox | None = None
    ) -> Float[Tensor, "*reduced"]:
        """The loss of aligned soft boxes.

        Args:
            input: Predicted soft boxes, as `soft_boxes(mean, log_deviation.exp())`, (N, 4 * ndim).
            target: True ones, same shape: `soft_boxes(boxes)` of a rater's boxes.
            weight: Factor of each box's loss, at least 0, shape (N,); the mean is still over N.

        Returns:
            The loss in units of the boxes, at least 0; shape (N,) for `reduction="none"`, else ().

        Raises:
            ValueError: If shapes disagree, a value is not finite or a deviation is negative.
        """
        check_soft_boxes(input=input, target=target, validate=self.validate)
        check_same_rows(input=input, target=target)
        if input.shape != target.shape:
            raise ValueError(
                f"target must have the shape of input, {tuple(input.shape)}, "
                f"got {tuple(target.shape)}"
            )
        (mean, own), (true_mean, true_own) = (
            soft_box_faces(plain(boxes).to(torch.float64), validate=False)
            for boxes in (input, target)
        )
        squares = own.square() + true_own.square()
        apart = squares > 0
        either = torch.where(apart, torch.where(apart, squares, 1).sqrt(), own + true_own)
        distance = _mean_distance(mean - true_mean, either) - (own + true_own) / math.sqrt(math.pi)
        loss = distance.clamp(min=0).mean(dim=1)
        return self.reduced(loss, weight).to(score_dtype(input, target))


def _mean_distance(gap: Tensor, deviation: Tensor) -> Tensor:
    """Mean absolute value of a normal number."""
    at_zero = math.sqrt(2 / math.pi)
    uncertain = deviation > 0
    place = gap / torch.where(uncertain, deviation, 1)
    mean = gap * torch.erf(place / math.sqrt(2))
    mean = mean + deviation * at_zero * torch.exp(-place.square() / 2)
    sure = gap.abs() + torch.where(gap == 0, at_zero, 0.0) * deviation
    return torch.where(uncertain, mean, sure)
