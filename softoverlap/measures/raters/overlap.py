"""Scores beside several raters: against each or a fusion of them, the human ceiling, and GED.

A score against raters means little alone, since the raters do not agree either. The human ceiling
puts each rater in the place of the prediction, under the same reading, so both can be read side by
side. The generalised energy distance compares two sets: samples of a model, and raters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_choice, check_score, check_threshold
from softoverlap.lesions import fuse_raters
from softoverlap.measures.measure import Measure, Statistics
from softoverlap.measures.raters.stacks import (
    RaterCase,
    check_background,
    have_class_axis,
    overlap_matrix,
    rater_stacks,
    with_class_axis,
)
from softoverlap.overlaps import MaskOverlap, mask_dice, overlap_named

Counted = Shaped[Tensor, "batch 1 *voxels"]
"""How much each voxel counts; the masks beside it may have one axis more."""

RaterMasks = Shaped[Tensor, "batch raters *channel_and_spatial"]
"""A mask of each rater: (B, R, *spatial), or (B, R, C, *spatial) with an axis of classes."""

OtherRaters = Shaped[Tensor, "batch others *channel_and_spatial"]
"""The same of another number of raters."""

AGAINST = ("each", "mean", "majority", "staple")


@dataclass(frozen=True, kw_only=True)
class RaterMeasure(Measure):
    """One score of each item and class, a mean over masks, which does not add up."""

    empty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score(empty=self.empty)

    @property
    def width(self) -> int:
        """The score."""
        return 1

    @property
    def adds_up(self) -> bool:
        """Means over raters are not formed from sums."""
        return False

    def score(self, statistics: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape"]:
        """The score as it is."""
        return statistics[..., 0]


@dataclass(frozen=True, kw_only=True)
class RaterReading(RaterMeasure):
    """How raters are read, and what a prediction or one of them scores then."""

    ignore_empty: bool = True
    against: str = "each"
    overlap: MaskOverlap | str = mask_dice
    rater_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("against", self.against, AGAINST)
        overlap_named(self.overlap, MaskOverlap)  # refuses what is none
        if self.rater_threshold is not None:
            check_threshold(rater_threshold=self.rater_threshold)

    @property
    def _foreground(self) -> bool:
        """STAPLE alone needs the background too: how much of it there is moves the prior."""
        return self.against != "staple"

    def _against(self, pred: Tensor, raters: Tensor, weight: Tensor | None) -> Tensor:
        """The mean over the targets that the reading makes of the raters; NaN of none."""
        targets = raters
        if self.against != "each" and len(raters):
            targets = fuse_raters(raters, method=self.against)[None]
        if self.ignore_empty:
            targets = targets[(targets > 0).any(dim=1)]
        if not len(targets):
            return pred.new_tensor(torch.nan)
        overlap = overlap_named(self.overlap, MaskOverlap)
        return overlap_matrix(overlap.ratio, pred[None], targets, weight, self.empty).mean()


@dataclass(frozen=True, kw_only=True)
class RaterOverlap(RaterReading):
    """Soft Dice or IoU of a prediction with several raters, in [0, 1] or NaN.

    | against | the score is |
    | --- | --- |
    | `"each"` | the mean of the overlaps with each rater |
    | `"mean"` | the overlap with the raters' mean map; no hard mask reaches 1 where they differ |
    | `"majority"` | the overlap with what more than half of them marked |
    | `"staple"` | the overlap with STAPLE's probabilities (see `staple`) |

    Read it beside `HumanCeiling` with the same settings. Items of a list may have different numbers
    of raters.

    Args:
        against: How to read the raters.
        overlap: An overlap of two masks, such as `mask_iou`, or its name (`"dice"`, `"iou"`).
        rater_threshold: A rater marked a voxel if the rater's probability is at least this; by
            default masks are taken as they are, and `"majority"` and `"staple"` refuse soft ones.
            The prediction is never cut.
        ignore_empty: An empty target is NaN, and a rater who marked nothing is left out of the
            mean; else an empty target scores 0, or `empty` where the prediction is empty as well.
        empty: Score where both are empty and `ignore_empty` is False.

    References:
        Warfield et al., Simultaneous truth and performance level estimation (STAPLE),
        https://doi.org/10.1109/TMI.2004.828354

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> pred = torch.tensor([[[1.0, 0.5, 0.0]]])
        >>> RaterOverlap(overlap="iou")(pred, raters)
        tensor([[0.7083]], dtype=torch.float64)
        >>> RaterOverlap(against="mean", overlap="iou")(pred, raters)
        tensor([[1.]], dtype=torch.float64)
    """

    def statistics(self, y_pred: Tensor, y: Tensor, *, mask: Counted | None = None) -> Statistics:
        """The score of each item and class.

        Args:
            y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
                `num_classes`.
            y: A mask of each rater, shape (B, R, C, *spatial), or (B, R, *spatial) where there is
                one class, or of labels with `num_classes`.
            mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
                Voxels that count 0 are out of the picture for STAPLE too.

        Returns:
            Shape (B, C, 1).

        Raises:
            ValueError: If the shapes do not belong together, a probability lies outside [0, 1] or
                raters are soft where they must be hard.
        """
        raters = with_class_axis(y, have_class_axis(y_pred, y), "y")
        pred = with_class_axis(y_pred.unsqueeze(1), True, "y_pred")
        return rater_stacks(self, pred, raters, mask=mask).measure(
            lambda case: self._against(case.preds[0], case.raters, case.weight),
            rater_threshold=self.rater_threshold,
            foreground=self._foreground,
        )


@dataclass(frozen=True, kw_only=True)
class HumanCeiling(RaterReading):
    """What a rater scores in the place of the prediction: the mean over raters, each left out.

    Each rater is scored as by `RaterOverlap` against the others; NaN where there is one rater or
    nothing to score. For `against="each"` and raters who all marked something this is the mean
    overlap of all pairs of raters. For the fusions it is a little strict: the prediction is held
    against all raters, a rater against one less.

    Args:
        class_axis: Whether axis 2 of the raters holds classes; by default if they have one axis
            more than the prediction.
        against: How to read the others: `"each"`, `"mean"`, `"majority"` or `"staple"`.
        overlap: An overlap of two masks, such as `mask_iou`, or its name (`"dice"`, `"iou"`).
        rater_threshold: A rater marked a voxel if the rater's probability is at least this.
        ignore_empty: Others who are empty are left out; else 0, or `empty` where both are.
        empty: Score where both are empty and `ignore_empty` is False.

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]])
        >>> HumanCeiling(overlap="iou")(raters)
        tensor([[0.6667]], dtype=torch.float64)
    """

    needs_target = False

    class_axis: bool | None = None

    def statistics(
        self, y_pred: Tensor, y: Tensor | None = None, *, mask: Counted | None = None
    ) -> Statistics:
        """The ceiling of each item and class.

        Args:
            y_pred: The prediction, whose axes alone are looked at, or the raters themselves.
            y: The raters, where the prediction is given: shape (B, R, *spatial), or
                (B, R, C, *spatial) with an axis of classes.
            mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.

        Returns:
            Shape (B, C, 1).

        Raises:
            ValueError: As `RaterOverlap.statistics`.
        """
        raters = y_pred if y is None else y
        class_axis = self.class_axis
        if class_axis is None:
            class_axis = y is not None and have_class_axis(y_pred, y)
        if y is None:
            check_background(self, class_axis)
        stacks = rater_stacks(self, None, with_class_axis(raters, class_axis, "y"), mask=mask)
        return stacks.measure(
            self._ceiling, rater_threshold=self.rater_threshold, foreground=self._foreground
        )

    def _ceiling(self, case: RaterCase) -> Tensor:
        raters = case.raters
        ceilings = [
            self._against(rater, torch.cat([raters[:own], raters[own + 1 :]]), case.weight)
            for own, rater in enumerate(raters)
        ]
        return torch.stack(ceilings).nanmean()


@dataclass(frozen=True, kw_only=True)
class GeneralisedEnergyDistance(RaterMeasure):
    """Squared generalised energy distance between a model's samples and the raters, in [0, 2].

    2·E d(S, Y) − E d(S, S′) − E d(Y, Y′) with d = 1 − soft IoU, over all pairs, those of a mask
    with itself included (the V-statistic). It is 0 where both sets hold the same masks in the same
    shares, and never below, since the soft IoU is a positive definite kernel. Items of a list may
    have different numbers of samples and of raters.

    Args:
        class_axis: Whether axis 2 of samples and raters holds classes.
        empty: IoU of two empty masks; 1 says that they are alike.

    References:
        Kohl et al., A Probabilistic U-Net for segmentation of ambiguous images,
        https://arxiv.org/abs/1806.05034

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> GeneralisedEnergyDistance()(raters, raters)
        tensor([[0.]], dtype=torch.float64)
        >>> GeneralisedEnergyDistance()(raters[:, 1:], raters)
        tensor([[0.2500]], dtype=torch.float64)
    """

    class_axis: bool = False

    def statistics(
        self, y_pred: OtherRaters, y: RaterMasks, *, mask: Counted | None = None
    ) -> Statistics:
        """The distance of each item and class.

        Args:
            y_pred: S samples of each item, shape (B, S, *spatial), or (B, S, C, *spatial) with
                `class_axis`.
            y: A mask of each rater in the same layout; R need not be S.
            mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.

        Returns:
            Shape (B, C, 1).

        Raises:
            ValueError: If the shapes do not belong together or a probability lies outside [0, 1].
        """
        check_background(self, self.class_axis)
        samples = with_class_axis(y_pred, self.class_axis, "y_pred")
        raters = with_class_axis(y, self.class_axis, "y")
        return rater_stacks(self, samples, raters, mask=mask).measure(self._distance)

    def _distance(self, case: RaterCase) -> Tensor:
        across, *within = (
            1 - overlap_matrix(scores.iou, first, second, case.weight, self.empty).mean()
            for first, second in (
                (case.preds, case.raters),
                (case.preds, case.preds),
                (case.raters, case.raters),
            )
        )
        return (2 * across - within[0] - within[1]).clamp(min=0)  # below 0 by rounding alone
