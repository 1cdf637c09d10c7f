"""Classification whose target is the quality of the box: losses, and the score to rank by.

A detector that is taught only whether there is something gives no hint which of its boxes fits
best. Here the target of an anchor is its overlap with what it serves, so the score ranks boxes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import check_finite, check_probabilities, check_same_shape, check_weight
from softoverlap._types import accumulation_dtype, plain, score_dtype
from softoverlap.losses.reduction import ReducedLoss, power as raised, reduce

Elements = Shaped[Tensor, "*shape"]


class QualityLoss(ReducedLoss):
    """What the losses of this file share; use one of its subclasses.

    Args:
        gamma: Power of the factor that quiets what is already right, at least 0.
    """

    def __init__(
        self, reduction: str = "mean", *, gamma: float = 2.0, validate: bool | None = None
    ) -> None:
        super().__init__(reduction, validate=validate)
        check_weight(gamma=gamma)
        self.gamma = gamma

    def factor(
        self, probability: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """What the cross entropy of each element is multiplied with."""
        raise NotImplementedError

    def forward(self, input: Elements, target: Elements) -> Float[Tensor, "*reduced"]:
        """The loss of logits.

        Args:
            input: Logits, any shape.
            target: Quality in [0, 1], 0 for background, same shape; it gets no gradient.

        Returns:
            The loss, without unit, at least 0, in float32 or wider; the shape of `input` for
            `reduction="none"`, else ().

        Raises:
            ValueError: If the shapes differ, a logit is not finite or a target lies outside [0, 1].
        """
        check_same_shape(input=input, target=target)
        check_probabilities(target=target, validate=self.validate)
        check_finite(input=input, validate=self.validate)
        dtype = accumulation_dtype(input, target)
        logits, quality = plain(input).to(dtype), plain(target).detach().to(dtype)
        entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
        return reduce(self.factor(logits.sigmoid(), quality) * entropy, self.reduction)


class QualityFocalLoss(QualityLoss):
    """Quality focal loss `|target - p|^gamma · BCE(p, target)`, p the sigmoid of the input.

    It is 0 where p equals the target. For targets of 0 and 1 it is the focal loss without its
    class weight.

    Args:
        gamma: Power of the factor `|target - p|`, at least 0; the paper's β.

    References:
        Li et al., Generalized focal loss, https://arxiv.org/abs/2006.04388

    Examples:
        >>> import torch
        >>> loss = QualityFocalLoss("none")
        >>> loss(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 1.0]))
        tensor([0.0000, 0.1733])
    """

    def factor(
        self, probability: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """What the cross entropy of each element is multiplied with."""
        return raised((target - probability).abs(), self.gamma)


class VarifocalLoss(QualityLoss):
    """Varifocal loss: `target · BCE(p, target)`, and `alpha · p^gamma · BCE(p, 0)` of background.

    Background is where the target is 0. Positives count by their quality and are never
    quieted; p is the sigmoid of the input. The entropy of a soft target stays, so the lowest
    loss of a quality between 0 and 1 is not 0.

    Args:
        reduction: `"mean"`, `"sum"` or `"none"`; the paper divides the sum by the number of
            positives.
        alpha: Weight of elements whose target is 0, at least 0.
        gamma: Power of p for elements whose target is 0, at least 0.

    References:
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367

    Examples:
        >>> import torch
        >>> loss = VarifocalLoss("none")
        >>> loss(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
        tensor([0.3466, 0.1300])
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        alpha: float = 0.75,
        gamma: float = 2.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(reduction, gamma=gamma, validate=validate)
        check_weight(alpha=alpha)
        self.alpha = alpha

    def factor(
        self, probability: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """What the cross entropy of each element is multiplied with."""
        return torch.where(target > 0, target, self.alpha * raised(probability, self.gamma))


def iou_aware_score(
    p: Shaped[Tensor, "*#shape"],
    q: Shaped[Tensor, "*#shape"],
    power: float = 1.0,
    *,
    validate: bool | None = None,
) -> Float[Tensor, "*#shape"]:
    """Score to rank detections by: the probability of the class times the quality, `p · q^power`.

    The form `p^a · q^(1 - a)` ranks alike with `power = (1 - a) / a`.

    Args:
        p: Probability of the class, any shape.
        q: Predicted quality (IoU) of the box in [0, 1], a shape that broadcasts with p's.
        power: How much the quality counts, at least 0; 0 ranks by p alone.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Score in [0, 1], without unit, the broadcast shape.

    Raises:
        ValueError: If a probability lies outside [0, 1] or `power` is negative.

    References:
        Wu et al., IoU-aware single-stage object detector, https://arxiv.org/abs/1912.05992

    Examples:
        >>> import torch
        >>> iou_aware_score(torch.tensor([0.9, 0.8]), torch.tensor([0.5, 1.0]))
        tensor([0.4500, 0.8000])
    """
    check_weight(power=power)
    check_probabilities(p=p, q=q, validate=validate)
    if not _broadcast(p.shape, q.shape):
        raise ValueError(
            f"q must have a shape that broadcasts with p's, {tuple(p.shape)}, got {tuple(q.shape)}"
        )
    dtype = accumulation_dtype(p, q)
    score = plain(p).to(dtype) * raised(plain(q).to(dtype), power)
    return score.to(score_dtype(p, q))


def _broadcast(first: torch.Size, second: torch.Size) -> bool:
    """Whether two shapes go together."""
    return all(1 in (a, b) or a == b for a, b in zip(first[::-1], second[::-1], strict=False))
