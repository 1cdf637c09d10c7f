"""From the quality of a match to what the losses need: a target and two weights per anchor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softoverlap._checks import (
    check_booleans,
    check_choice,
    check_probabilities,
    check_weight,
    check_within,
)
from softoverlap.anchors import _shares
from softoverlap.anchors.matches import IGNORE, Matches

_TARGETS = ("hard", "existence", "quality", "existence_quality")
_CLS_WEIGHTS = ("one", "quality")
_BOX_WEIGHTS = ("one", "quality", "focal", "iou_balanced", "rank")


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

    By default every positive counts 1, as in RetinaNet: of the targets and weights that
    `docs/soft_anchors.md` compares, these found lesions best.

    Args:
        target: Classification target of a positive anchor: `"hard"` is 1 (RetinaNet),
            `"existence"` the share of raters that marked the lesion, `"quality"` the overlap
            (quality focal and varifocal loss), `"existence_quality"` their product.
        cls_weight: Weight of a positive in the classification loss, `"one"` or `"quality"`.
        box_weight: Weight of a positive of quality q in the regression loss:

            - `"one"`.
            - `"quality"`: q (VarifocalNet), since anchors that cover more of the lesion say more
              about its edges.
            - `"focal"`: `(1 - q)^gamma`, the other way round: anchors that are far off learn most.
            - `"iou_balanced"`: `q^eta`, scaled so that the sum over all positives is their number
              (IoU-balanced loss, with weights in place of losses in the sum).
            - `"rank"`: linear in the rank of q within the lesion, `2 * (n - r) / (n + 1)` for n
              positives of rank r = 0 (the best) to n - 1; equal qualities share their mean rank,
              and a lesion's sum is n (prime sample attention).
        floor: Least quality that a positive is given, in [0, 1], so that a lesion that no anchor
            meets is not lost.
        gamma: Power of `"focal"`, at least 0.
        eta: Power of `"iou_balanced"`, at least 0.
        ignore_band: Background anchors whose best quality lies in this closed range are not
            counted as background (Faster R-CNN): they cover something. Two numbers,
            0 < low <= high <= 1, or None.
        normalize_per_lesion: Scale both weights of the positives so that every lesion has the same
            sum, the total unchanged, so that small lesions, which few anchors serve, are not
            drowned. A lesion whose weights are all 0 gets equal ones.

    Raises:
        ValueError: If an argument is none of its choices or out of range.

    References:
        Lin et al., Focal loss for dense object detection, https://arxiv.org/abs/1708.02002
        Li et al., Generalized focal loss, https://arxiv.org/abs/2006.04388
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367
        Wu et al., IoU-balanced loss functions for single-stage object detection,
        https://arxiv.org/abs/1908.05641
        Cao et al., Prime sample attention in object detection, https://arxiv.org/abs/1904.04821
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497

    Examples:
        >>> import torch
        >>> matches = Matches(torch.tensor([0.8, 0.2, 0.3]), torch.tensor([0, -1, -2]))
        >>> weights = AnchorWeighting(target="quality")(matches, torch.tensor([1.0]))
        >>> weights.target, weights.cls_weight
        (tensor([0.8000, 0.0000, 0.0000]), tensor([1., 1., 0.]))
    """

    target: str = "hard"
    cls_weight: str = "one"
    box_weight: str = "one"
    floor: float = 0.1
    gamma: float = 2.0
    eta: float = 1.5
    ignore_band: tuple[float, float] | None = None
    normalize_per_lesion: bool = False

    def __post_init__(self) -> None:
        check_booleans(self)
        check_choice("target", self.target, _TARGETS)
        check_choice("cls_weight", self.cls_weight, _CLS_WEIGHTS)
        check_choice("box_weight", self.box_weight, _BOX_WEIGHTS)
        check_within(0, 1, floor=self.floor)
        check_weight(gamma=self.gamma, eta=self.eta)
        band = self.ignore_band
        if band is not None and not (len(band) == 2 and 0 < band[0] <= band[1] <= 1):
            raise ValueError(f"ignore_band must satisfy 0 < low <= high <= 1, got {band}")

    def __call__(self, matches: Matches, existence: Float[Tensor, "lesions"]) -> AnchorWeights:
        """Weigh the anchors of one image.

        Args:
            matches: The matches of N anchors.
            existence: Share of raters that marked each lesion, in [0, 1], shape (M,).

        Returns:
            Target and weights of N anchors.

        Raises:
            TypeError: If `existence` is not a tensor.
            ValueError: If an existence lies outside [0, 1], or `target` takes it into account
                and a match names a lesion that has none.
        """
        check_probabilities(existence=existence)
        positive = matches.positive
        quality = matches.quality.clamp(min=self.floor)
        target = positive.to(quality.dtype)
        if "existence" in self.target:
            target = target * _of_lesion(existence.to(quality), matches)
        if "quality" in self.target:
            target = target * quality
        served, lesion = quality[positive], matches.index[positive]
        cls_weight = served if self.cls_weight == "quality" else torch.ones_like(served)
        box_weight = self._box_weight(served, lesion)
        if self.normalize_per_lesion:
            cls_weight = _shares.equal_sums(cls_weight, lesion)
            box_weight = _shares.equal_sums(box_weight, lesion)
        return AnchorWeights(
            target=target,
            cls_weight=self._of_background(matches).masked_scatter(positive, cls_weight),
            box_weight=torch.zeros_like(quality).masked_scatter(positive, box_weight),
        )

    def _box_weight(
        self, quality: Float[Tensor, "positives"], lesion: Int[Tensor, "positives"]
    ) -> Float[Tensor, "positives"]:
        if self.box_weight == "focal":
            return (1 - quality).clamp(min=0) ** self.gamma
        if self.box_weight == "iou_balanced":
            return _shares.scaled_to_count(quality**self.eta)
        if self.box_weight == "rank":
            return _shares.rank_weights(quality, lesion)
        return quality if self.box_weight == "quality" else torch.ones_like(quality)

    def _of_background(self, matches: Matches) -> Float[Tensor, "anchors"]:
        """1, and 0 for ignored anchors and those in the band."""
        counted = matches.index != IGNORE
        if self.ignore_band is not None:
            low, high = self.ignore_band
            counted = counted & ~((matches.quality >= low) & (matches.quality <= high))
        return counted.to(matches.quality.dtype)


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
