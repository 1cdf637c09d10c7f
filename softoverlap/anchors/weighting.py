"""From the quality of a match to what the losses need: a target and two weights per anchor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_choice, check_tensors
from softoverlap.anchors.matches import IGNORE, Matches

_TARGETS = ("hard", "existence", "quality", "existence_quality")
_WEIGHTS = ("one", "quality")


@dataclass(frozen=True)
class AnchorWeights:
    """Target and weights of the N anchors of one image.

    Args:
        target: What the classification score of the lesion's class shall become, in [0, 1];
            0 for background. Shape (N,).
        cls_weight: Weight in the classification loss, at least 0; 0 for ignored anchors.
            Shape (N,).
        box_weight: Weight in the regression loss; 0 for all but positives. Shape (N,).

    Examples:
        >>> import torch
        >>> AnchorWeights(torch.ones(1), torch.ones(1), torch.zeros(1)).target
        tensor([1.])
    """

    target: Float[Tensor, "anchors"]
    cls_weight: Float[Tensor, "anchors"]
    box_weight: Float[Tensor, "anchors"]


@dataclass(frozen=True)
class AnchorWeighting:
    """How the quality of a match becomes a classification target and weights.

    Args:
        target: Classification target of a positive anchor: `"hard"` is 1 (RetinaNet),
            `"existence"` the share of raters that marked the lesion, `"quality"` the overlap
            (quality focal and varifocal loss), `"existence_quality"` their product.
        cls_weight: Weight of a positive in the classification loss, `"one"` or `"quality"`.
        box_weight: Weight of a positive in the regression loss, `"one"` or `"quality"`
            (VarifocalNet): anchors that cover more of the lesion say more about its edges.
        floor: Least quality that a positive is given, in [0, 1], so that a lesion that no anchor
            meets is not lost.

    Raises:
        ValueError: If an argument is none of its choices or `floor` is out of range.

    References:
        Lin et al., Focal loss for dense object detection, https://arxiv.org/abs/1708.02002
        Li et al., Generalized focal loss, https://arxiv.org/abs/2006.04388
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367

    Examples:
        >>> import torch
        >>> matches = Matches(torch.tensor([0.8, 0.2, 0.3]), torch.tensor([0, -1, -2]))
        >>> weights = AnchorWeighting(target="quality")(matches, torch.tensor([1.0]))
        >>> weights.target, weights.cls_weight
        (tensor([0.8000, 0.0000, 0.0000]), tensor([1., 1., 0.]))
    """

    target: str = "existence_quality"
    cls_weight: str = "one"
    box_weight: str = "quality"
    floor: float = 0.1

    def __post_init__(self) -> None:
        check_choice("target", self.target, _TARGETS)
        check_choice("cls_weight", self.cls_weight, _WEIGHTS)
        check_choice("box_weight", self.box_weight, _WEIGHTS)
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must lie in [0, 1], got {self.floor}")

    def __call__(self, matches: Matches, existence: Float[Tensor, "lesions"]) -> AnchorWeights:
        """Weigh the anchors of one image.

        Args:
            matches: The matches of N anchors.
            existence: Share of raters that marked each lesion, in [0, 1], shape (M,).

        Returns:
            Target and weights of N anchors.

        Raises:
            TypeError: If `existence` is not a tensor.
            ValueError: If a match names a lesion that has no existence.
        """
        check_tensors(existence=existence)
        positive = matches.positive
        quality = matches.quality.clamp(min=self.floor)
        target = positive.to(quality.dtype)
        if "existence" in self.target:
            target = target * _of_lesion(existence.to(quality), matches)
        if "quality" in self.target:
            target = target * quality
        one = torch.ones_like(quality)
        cls_weight = (quality if self.cls_weight == "quality" else one).where(positive, one)
        box_weight = quality if self.box_weight == "quality" else one
        return AnchorWeights(
            target=target,
            cls_weight=cls_weight.where(matches.index != IGNORE, 0.0),
            box_weight=box_weight.where(positive, 0.0),
        )


def _of_lesion(values: Float[Tensor, "lesions"], matches: Matches) -> Float[Tensor, "anchors"]:
    """The value of each anchor's lesion, 1 for anchors without."""
    highest = int(matches.index.max()) if matches.index.numel() else -1
    if highest >= len(values):
        raise ValueError(
            f"existence must hold a value for each lesion, up to lesion {highest}, "
            f"got {len(values)} values"
        )
    padded = torch.cat([values, values.new_ones(1)])
    return padded[matches.index.where(matches.positive, len(values))]
