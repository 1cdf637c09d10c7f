"""Scores beside several raters: against each or a fusion of them, the human ceiling, and GED.

A score against raters means little alone, since the raters do not agree either. The human ceiling
puts each rater in the place of the prediction, under the same reading, so both can be read side by
side. The generalised energy distance compares two sets: samples of a model, and raters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Shaped
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._types import Masks
from softoverlap.measures.mask_inputs import MaskInputs
from softoverlap.measures.raters._inputs import check_background, tells_classes, with_class_axis
from softoverlap.measures.raters._scores import RaterMetric, RaterReading, energy_distance

Counted = Shaped[Tensor, "batch 1 *voxels"]
"""How much each voxel counts; the masks beside it may have one axis more."""

RaterMasks = Shaped[Tensor, "batch raters *channel_and_spatial"]
"""A mask of each rater: (B, R, *spatial), or (B, R, C, *spatial) with an axis of classes."""

SampleMasks = Shaped[Tensor, "batch samples *channel_and_spatial"]
"""Samples of a model, in the same layout."""


Scores = Float[Tensor, "batch classes"]


def compute_rater_overlap(
    y_pred: Masks,
    y: RaterMasks,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    against: str = "each",
    overlap: str = "dice",
    threshold: float | None = None,
    mask: Counted | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Soft Dice or IoU of a prediction with several raters.

    | against | the score is |
    | --- | --- |
    | `"each"` | the mean of the overlaps with each rater |
    | `"mean"` | the overlap with the raters' mean map; no hard mask reaches 1 where they differ |
    | `"majority"` | the overlap with what more than half of them marked |
    | `"staple"` | the overlap with STAPLE's probabilities (see `staple`) |

    Read it beside `compute_human_ceiling` with the same arguments.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: A mask of each rater, shape (B, R, C, *spatial), or (B, R, *spatial) where there is one
            class, or of labels with `num_classes`.
        include_background: Whether channel 0 counts.
        ignore_empty: An empty target is NaN, and a rater who marked nothing is left out of the
            mean; else an empty target scores 0, or `empty` where the prediction is empty as well.
        num_classes: Number of classes of labels, background included.
        against: How to read the raters.
        overlap: `"dice"` or `"iou"`.
        threshold: A rater marked a voxel if the rater's probability is at least this; by default
            masks are taken as they are, and `"majority"` and `"staple"` refuse soft ones. The
            prediction is never cut.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
            Voxels that count 0 are out of the picture for STAPLE too.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If the shapes do not belong together, a name is unknown, a probability lies
            outside [0, 1] or raters are soft where they must be hard.

    References:
        Warfield et al., Simultaneous truth and performance level estimation (STAPLE),
        https://doi.org/10.1109/TMI.2004.828354

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> pred = torch.tensor([[[1.0, 0.5, 0.0]]])
        >>> compute_rater_overlap(pred, raters, overlap="iou")
        tensor([[0.7083]], dtype=torch.float64)
        >>> compute_rater_overlap(pred, raters, against="mean", overlap="iou")
        tensor([[1.]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, None, validate)
    reading = RaterReading(against, overlap, threshold, ignore_empty, empty)
    return reading.of_prediction(inputs, y_pred, y, mask)


def compute_human_ceiling(
    y: RaterMasks,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    class_axis: bool = False,
    against: str = "each",
    overlap: str = "dice",
    threshold: float | None = None,
    mask: Counted | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """What a rater scores in the place of the prediction: the mean over raters, each left out.

    Each rater is scored by `compute_rater_overlap` against the others. For `against="each"` and
    raters who all marked something this is the mean overlap of all pairs of raters. For the fusions
    it is a little strict: the prediction is held against all raters, a rater against one less.

    Args:
        y: A mask of each rater, shape (B, R, *spatial), or (B, R, C, *spatial) with `class_axis`.
        include_background: Whether channel 0 counts.
        ignore_empty: Others who are empty are left out; else they score 0, or `empty` where the
            rater is empty as well.
        num_classes: Number of classes of labels, background included.
        class_axis: Whether axis 2 holds classes.
        against: How to read the others: `"each"`, `"mean"`, `"majority"` or `"staple"`.
        overlap: `"dice"` or `"iou"`.
        threshold: A rater marked a voxel if the rater's probability is at least this; by default
            masks are taken as they are, and `"majority"` and `"staple"` refuse soft ones.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1], or NaN where there is one rater or nothing to score, float64, shape (B, C).

    Raises:
        ValueError: If a shape is wrong, a name is unknown, a probability lies outside [0, 1] or
            raters are soft where they must be hard.

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]])
        >>> compute_human_ceiling(raters, overlap="iou")
        tensor([[0.6667]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, None, validate)
    check_background(inputs, class_axis)
    reading = RaterReading(against, overlap, threshold, ignore_empty, empty)
    return reading.of_raters(inputs, with_class_axis(y, class_axis, "y"), mask)


def compute_generalised_energy_distance(
    y_pred: SampleMasks,
    y: RaterMasks,
    include_background: bool = True,
    num_classes: int | None = None,
    *,
    class_axis: bool = False,
    mask: Counted | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """Squared generalised energy distance between a model's samples and the raters.

    2·E d(S, Y) − E d(S, S′) − E d(Y, Y′) with d = 1 − soft IoU, over all pairs, those of a mask
    with itself included (the V-statistic). It is 0 where both sets hold the same masks in the same
    shares, and never below, since the soft IoU is a positive definite kernel.

    Args:
        y_pred: S samples of each item, shape (B, S, *spatial), or (B, S, C, *spatial) with
            `class_axis`.
        y: A mask of each rater in the same layout; R need not be S.
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of labels, background included.
        class_axis: Whether axis 2 holds classes.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do.
        empty: IoU of two empty masks; 1 says that they are alike.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Distance in [0, 2], lower is better, float64, shape (B, C).

    Raises:
        ValueError: If the shapes do not belong together or a probability lies outside [0, 1].

    References:
        Kohl et al., A Probabilistic U-Net for segmentation of ambiguous images,
        https://arxiv.org/abs/1806.05034

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> compute_generalised_energy_distance(raters, raters)
        tensor([[0.]], dtype=torch.float64)
        >>> compute_generalised_energy_distance(raters[:, 1:], raters)
        tensor([[0.2500]], dtype=torch.float64)
    """
    inputs = MaskInputs(include_background, num_classes, None, validate)
    return energy_distance(inputs, y_pred, y, class_axis, mask, empty)


class RaterOverlapMetric(RaterMetric):
    """Soft Dice or IoU with several raters, over a data set; see `compute_rater_overlap`.

    Items of a list may have different numbers of raters.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out. Not "dataset": these are means
            over raters, not formed from sums.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: An empty target is NaN, and a rater who marked nothing is left out of the
            mean; else 0, or `empty` where both are.
        num_classes: Number of classes of labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        against: How to read the raters: `"each"`, `"mean"`, `"majority"` or `"staple"`.
        overlap: `"dice"` or `"iou"`.
        threshold: A rater marked a voxel if the rater's probability is at least this.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If a name is unknown or the reduction not on offer; on use, as
            `compute_rater_overlap`.

    Examples:
        >>> import torch
        >>> metric = RaterOverlapMetric(against="mean")
        >>> raters = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
        >>> _ = metric(torch.tensor([[[1.0, 0.5, 0.0]]]), raters)
        >>> metric.aggregate().item()
        1.0
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        against: str = "each",
        overlap: str = "dice",
        threshold: float | None = None,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, None, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.reading = RaterReading(against, overlap, threshold, ignore_empty, empty)

    def _statistics(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.reading.of_prediction(self.inputs, y_pred, y, mask)[..., None]


class HumanCeilingMetric(RaterMetric):
    """What a rater scores in the place of the prediction, over a data set.

    It stands beside `RaterOverlapMetric` with the same arguments and takes the same calls; of the
    prediction it asks only whether the raters have an axis of classes. `metric(raters)` does too.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out, so items with one rater are. Not
            "dataset": these scores are means over raters, not formed from sums.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: Others who are empty are left out; else 0, or `empty` where both are.
        num_classes: Number of classes of labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        against: How to read the others: `"each"`, `"mean"`, `"majority"` or `"staple"`.
        overlap: `"dice"` or `"iou"`.
        threshold: A rater marked a voxel if the rater's probability is at least this.
        class_axis: Whether axis 2 of the raters holds classes; by default if they have one axis
            more than the prediction.
        empty: Score where both are empty and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If a name is unknown or the reduction not on offer; on use, as
            `compute_human_ceiling`.

    Examples:
        >>> import torch
        >>> metric = HumanCeilingMetric(overlap="iou")
        >>> _ = metric(torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]))
        >>> metric.aggregate().item()
        0.5
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        against: str = "each",
        overlap: str = "dice",
        threshold: float | None = None,
        class_axis: bool | None = None,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, None, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.reading = RaterReading(against, overlap, threshold, ignore_empty, empty)
        self.class_axis = class_axis

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Scores:
        """Measure a batch, keep it, and give the ceiling of each item and class.

        Args:
            y_pred: The prediction, whose axes alone are looked at, or the raters themselves.
            y: The raters, a batch or a list of items, where the prediction is given.
            kwargs: `mask` of voxels that count, a tensor or a list like `y`.

        Returns:
            The ceilings, float64, shape (items, classes).
        """
        return super().__call__(y_pred, y_pred if y is None else y, **kwargs)

    def _statistics(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        told = tells_classes(y_pred, y) if self.class_axis is None else self.class_axis
        return self.reading.of_raters(self.inputs, with_class_axis(y, told, "y"), mask)[..., None]


class GeneralisedEnergyDistanceMetric(RaterMetric):
    """Squared generalised energy distance of samples and raters, over a data set; lower is better.

    Items of a list may have different numbers of samples and of raters.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "image", "class" (see
            `softoverlap.measures.reduction`). Not "dataset": a distance is not formed from sums.
        get_not_nans: Return how many values were counted as well.
        num_classes: Number of classes of labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel; not rounded.
        class_axis: Whether axis 2 of samples and raters holds classes.
        empty: IoU of two empty masks; 1 says that they are alike.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If the reduction is not on offer; on use, as
            `compute_generalised_energy_distance`.

    References:
        Kohl et al., A Probabilistic U-Net for segmentation of ambiguous images,
        https://arxiv.org/abs/1806.05034

    Examples:
        >>> import torch
        >>> metric = GeneralisedEnergyDistanceMetric()
        >>> _ = metric(torch.ones(1, 1, 2), torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]))
        >>> metric.aggregate().item()
        0.25
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        class_axis: bool = False,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, None, validate),
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.class_axis, self.empty = class_axis, empty

    def _statistics(self, y_pred: Tensor, y: Tensor, *, mask: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = energy_distance(self.inputs, y_pred, y, self.class_axis, mask, self.empty)
        return found[..., None]
