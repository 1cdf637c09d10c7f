"""A box loss for objects of which a part is out of view: full box, visible box and fraction."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_same_rows, check_weight
from softoverlap._types import Boxes, plain, score_dtype
from softoverlap.losses.boxes import BoxGIoULoss, BoxLoss, per_box
from softoverlap.losses.reduction import ReducedLoss
from softoverlap.overlaps import box_volume, visible_box, visible_fraction


class AmodalBoxLoss(ReducedLoss):
    """Loss of the full box, of its part in the field of view, and of the share that this is.

    A network predicts the full (amodal) box alone. Its visible part and its visible fraction follow
    from that and from the field of view, so the three never contradict each other. The loss is
    `L(full boxes) + visible_weight · L(visible boxes) + fraction_weight · difference of fractions`.

    The second term keeps the faces that can be seen from being traded for those that cannot, the
    third one says how much lies beyond. Where all is in view it is the first one alone, times
    1 + visible_weight; where neither box is in view, the first one alone.

    `SoftRetinaNetDetector` hands the field of view over: each image's extent, or the target's
    `"visible"`. It takes boxes: `set_box_regression_loss(loss, encode_gt=False, decode_pred=True)`.

    Args:
        box_loss: L, a loss of axis-aligned boxes without period, by default `BoxGIoULoss()`; its
            own reduction does not matter.
        visible_weight: Weight of the visible boxes' loss, at least 0.
        fraction_weight: Weight of the difference of the visible fractions, at least 0.

    Raises:
        TypeError: If `box_loss` is no loss of axis-aligned boxes of this package.
        ValueError: If an argument is out of range, or `box_loss` has a period.

    References:
        Zhou and Yuan, Bi-box regression for pedestrian detection and occlusion estimation, ECCV
        2018, https://doi.org/10.1007/978-3-030-01246-5_9

    Examples:
        >>> import torch
        >>> image = torch.tensor([0.0, 0.0, 9.0, 9.0])
        >>> full = torch.tensor([[-2.0, 0.0, 2.0, 4.0]])  # half of it is in view
        >>> AmodalBoxLoss()(full, full, visible=image)
        tensor(0.)
        >>> seen = torch.tensor([[0.0, 0.0, 2.0, 4.0]])  # its visible box is right: 0.5 + 0 + 0.5
        >>> AmodalBoxLoss()(seen, full, visible=image)
        tensor(1.)
    """

    takes_field = True

    def __init__(
        self,
        reduction: str = "mean",
        *,
        box_loss: BoxLoss | None = None,
        visible_weight: float | int = 1.0,
        fraction_weight: float | int = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(reduction, validate=validate)
        check_weight(visible_weight=visible_weight, fraction_weight=fraction_weight)
        self.box_loss = per_box("box_loss", BoxGIoULoss() if box_loss is None else box_loss)
        if self.box_loss.overlap.parameters.get("period") is not None:
            raise ValueError(f"box_loss must have no period, which no view cuts, got {box_loss}")
        self.visible_weight = visible_weight
        self.fraction_weight = fraction_weight

    def extra_repr(self) -> str:
        """The settings; the loss of boxes follows as a submodule."""
        names = ("reduction", "visible_weight", "fraction_weight")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def forward(
        self,
        input: Boxes,
        target: Boxes,
        weight: Float[Tensor, "boxes"] | None = None,
        *,
        visible: Shaped[Tensor, "*fields coords"],
    ) -> Shaped[Tensor, "*reduced"]:
        """The loss of aligned full boxes.

        Args:
            input: Predicted full boxes, shape (N, 2 * ndim).
            target: True full boxes, same shape.
            weight: Factor of each box's loss, at least 0, shape (N,); the mean is still over N.
            visible: Field of view, a box for all, shape (2 * ndim,), or one a box, shape
                (N, 2 * ndim).

        Returns:
            The loss, without unit, at least 0; shape (N,) for `reduction="none"`, else ().

        Raises:
            ValueError: If shapes disagree, a value is not finite or a box is inverted.
        """
        check_boxes(input=input, validate=self.validate)
        check_boxes(target=target, ndim=input.shape[1] // 2, validate=self.validate)
        check_same_rows(input=input, target=target)
        full = plain(input), plain(target)
        seen = [visible_box(boxes, visible, validate=self.validate) for boxes in full]
        fraction, true_fraction = (
            visible_fraction(boxes, visible, validate=False) for boxes in full
        )
        volumes = [box_volume(boxes, validate=False) for boxes in seen]
        nothing = torch.maximum(*volumes) == 0  # but two points, which are no boxes to compare
        of_seen = self.box_loss(*seen).masked_fill(nothing, 0)
        loss = self.box_loss(*full) + self.visible_weight * of_seen
        loss = loss + self.fraction_weight * (fraction - true_fraction).abs()
        return self.reduced(loss, weight).to(score_dtype(input, target))
