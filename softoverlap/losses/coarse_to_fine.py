"""A box loss that begins as smooth L1 on codes and ends as an IoU loss.

Both are formed from codes (`softoverlap.boxes.encode_boxes`), since a detector hands over no
anchors: decoded against one and the same unit anchor, two boxes keep their IoU, which does not
change when both are moved and stretched together, an axis at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap._checks import check_codes, check_positive, check_same_rows, should_validate
from softoverlap._types import Boxes, accumulation_dtype, plain, score_dtype
from softoverlap.boxes import MOST_LOG_SIZE, code_weights, decode_boxes
from softoverlap.losses.boxes import BoxGIoULoss, BoxLoss
from softoverlap.losses.reduction import ReducedLoss
from softoverlap.overlaps import BoxOverlap


class CoarseToFineBoxLoss(ReducedLoss):
    """Smooth L1 on box codes first, an IoU loss in the end, blended linearly in between.

    Up to `start` the loss of a box is the mean of smooth L1 over its codes, which pulls from any
    distance; from `end` on it is the IoU loss, which minds what is scored. Steps are the calls in
    training mode with gradients enabled; their number is the buffer `step`, so it is saved and
    loaded with the detector that holds the loss, and is shared with the copy that
    `SoftRetinaNetDetector` makes.

    It takes codes on both sides: `set_box_regression_loss(loss, encode_gt=True,
    decode_pred=False)`. Boxes, as with `encode_gt=False, decode_pred=True`, would lose the anchors
    that offsets are relative to, while codes lose nothing: IoU and GIoU of the decoded boxes are
    those of the boxes themselves, whatever the anchor. DIoU, CIoU and EIoU compare axes, so they
    see lengths in edges of the anchor (no difference where anchors are cubes), and the constant of
    NWD counts edges of the anchor. Sizes above the clamp of `decode_boxes` are not told apart, and
    have no gradient once the IoU loss is alone: smooth L1 is what brings them back.

    Args:
        start: Steps of smooth L1 alone, at least 0.
        end: Step from which on the IoU loss is alone, above `start`.
        fine: The IoU loss, by default `BoxGIoULoss()`; its own reduction does not matter.
        beta: Code difference where smooth L1 turns from square to linear, above 0; by default
            that of MONAI's detector.
        weights: Those of the detector's box coder, 2 * ndim numbers above 0; by default 1.

    Raises:
        TypeError: If `fine` is no loss of axis-aligned boxes of this package.
        ValueError: If an argument is out of range.

    References:
        Girshick, Fast R-CNN, https://arxiv.org/abs/1504.08083 (smooth L1)
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630

    Examples:
        >>> import torch
        >>> loss = CoarseToFineBoxLoss(start=0, end=2, beta=1.0)
        >>> pred, target = torch.tensor([[0.5, 0.0]]), torch.zeros(1, 2)
        >>> [round(loss(pred, target).item(), 4) for _ in range(4)]
        [0.0625, 0.3646, 0.6667, 0.6667]
    """

    step: Int[Tensor, ""]

    def __init__(
        self,
        reduction: str = "mean",
        *,
        start: int,
        end: int,
        fine: BoxLoss | None = None,
        beta: float = 1 / 9,
        weights: Sequence[float] | None = None,
        validate: bool | None = None,
    ) -> None:
        super().__init__(reduction, validate=validate)
        if not 0 <= start < end:
            raise ValueError(f"start and end must fulfil 0 <= start < end, got {start} and {end}")
        check_positive(beta=beta)
        self.start, self.end, self.beta = start, end, beta
        self.fine = _unreduced(BoxGIoULoss() if fine is None else fine)
        self.weights = weights
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def fine_share(self) -> Float[Tensor, ""]:
        """Share of the IoU loss in the next call, in [0, 1], shape ().

        Returns:
            0 up to `start`, 1 from `end` on, linear in between.
        """
        return ((self.step - self.start) / (self.end - self.start)).clamp(0, 1)

    def forward(
        self,
        input: Boxes,
        target: Boxes,
        weight: Float[Tensor, "boxes"] | None = None,
    ) -> Shaped[Tensor, "*reduced"]:
        """The loss of aligned codes; in training mode it counts as a step.

        Args:
            input: Predicted codes, shape (N, 2 * ndim).
            target: Codes of the true boxes relative to the same anchors, same shape.
            weight: Factor of each box's loss, at least 0, shape (N,); the mean is still over N.

        Returns:
            The loss, without unit, at least 0; shape (N,) for `reduction="none"`, else ().

        Raises:
            ValueError: If shapes disagree, a value is not finite, or a target's size is beyond the
                clamp of `decode_boxes`, as where boxes are passed in place of codes.
        """
        check_codes(input=input, validate=self.validate)
        check_codes(target=target, ndim=input.shape[1] // 2, validate=self.validate)
        check_same_rows(input=input, target=target)
        self._check_sizes(target)
        dtype = accumulation_dtype(input, target)
        pred, truth = plain(input).to(dtype), plain(target).to(dtype)
        share = self.fine_share().to(pred, non_blocking=True)  # a loss that was not moved works too
        used = (torch.where(share > 0, codes, 0) for codes in (pred, truth))
        loss = torch.lerp(self._coarse(pred, truth), self._fine(*used), share)
        reduced = self.reduced(loss, weight)
        self._count()
        return reduced.to(score_dtype(input, target))

    def _check_sizes(self, target: Tensor) -> None:
        """Boxes in place of codes have sizes of no anchor."""
        sizes = target.detach()[:, target.shape[1] // 2 :]
        if not sizes.numel() or not should_validate(self.validate, target):
            return
        factors = code_weights(self.weights, target.shape[1])[sizes.shape[1] :]
        sizes = sizes / torch.tensor(factors, device=sizes.device)
        if sizes.max() > MOST_LOG_SIZE:
            raise ValueError(
                f"target must hold codes, with logarithms of sizes up to {MOST_LOG_SIZE:.3f}, got "
                f"{sizes.max():g}; were boxes passed (encode_gt=True, decode_pred=False)?"
            )

    def _coarse(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(pred, target, beta=self.beta, reduction="none").mean(dim=1)

    def _fine(self, pred: Tensor, target: Tensor) -> Tensor:
        unit = torch.full_like(pred, 0.5)
        unit[:, : unit.shape[1] // 2] = -0.5
        boxes = [
            decode_boxes(codes, unit, weights=self.weights, validate=False)
            for codes in (pred, target)
        ]
        return self.fine(*boxes)

    def _count(self) -> None:
        """Written in `forward`, as batch norm's counter is: a detector tells no loss its step."""
        if self.training and torch.is_grad_enabled():
            self.step += 1


def _unreduced(loss: BoxLoss) -> BoxLoss:
    """A copy that returns every box and does not look at values, which are looked at before."""
    if not isinstance(loss, BoxLoss) or not isinstance(loss.overlap, BoxOverlap):
        raise TypeError(f"fine must be a loss of axis-aligned boxes, got {type(loss).__name__}")
    alone = copy.copy(loss)
    alone.reduction, alone.validate = "none", False
    return alone
