"""Lesion-wise Dice as BraTS 2023 defines it, for soft masks too."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import check_weight
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.lesions import neighbourhood
from softoverlap.measures.inputs import MaskInputs, Spacing
from softoverlap.measures.lesionwise._metric import LesionMetric
from softoverlap.measures.lesionwise.maps import (
    LesionRules,
    LesionScan,
    merged_overlap,
    ratio,
    touching,
)

_BRATS_MM3 = 50.0
"""Lesions of BraTS have to be larger than this, in mm³."""


def compute_lesionwise_dice(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    threshold: float = 0.5,
    target_threshold: float | None = None,
    soft: bool = True,
    dilation: int = 3,
    connectivity: int = 26,
    min_mm3: float | None = None,
    halo: float = 0.01,
    spacing: Sequence[float] | float | None = None,
    mask: VoxelWeights | None = None,
    ignore_index: int | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Float[Tensor, "batch classes"]:
    """Lesion-wise Dice of BraTS 2023, Σ Dice / (TP + FP + FN), of each item and class.

    1. Voxels at or above the threshold are lesion. True ones are dilated `dilation` times (by the
       18-neighbourhood in 3D, as the challenge does, by all neighbours below). A connected
       component of what results, the extent, is one lesion: its true voxels, not dilated.
    2. Every predicted component that shares a voxel with a lesion's extent is matched to it, also
       to several lesions at once. The lesion's Dice is that with all of them together.
    3. Lesions of `min_mm3` or less (their voxels at or above the threshold) are left out, and so
       are the components that are matched to nothing else: they are not false. Where that leaves
       out every true lesion of a scan, a warning says so: it scores as if it had none.
    4. TP are the lesions left with a match, FN those without, FP the components without any. An FP
       is never too small to count.

    The thresholds decide which lesions there are; the Dice of each is soft, Σ min over the sizes,
    and takes in the halos (see `lesions_from_mask`). On hard masks this is the challenge's number.

    | challenge | `dilation` | `min_mm3` |
    | --- | --- | --- |
    | glioma, Sub-Saharan Africa, paediatrics | 3 | 50 |
    | meningioma | 1 | 50 |
    | metastases | 1 | 2 |

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where TP + FP + FN is 0; else `empty`. A scan with false positives only
            scores 0 either way.
        num_classes: Number of classes of single-channel labels, background included.
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target; by default `threshold`.
        soft: Whether the Dice of each lesion takes probabilities; False takes the voxels at or
            above the threshold as ones and the others as zeros.
        dilation: How many voxels lesions grow before they are told apart.
        connectivity: Neighbours of a voxel in a component: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26
            means all neighbours in any dimension.
        min_mm3: Lesions have to be larger than this, in mm³; by default the challenge's 50 in 3D.
            With fewer axes, where it is an area in mm² or a length in mm, it has to be given.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold. A network's
            map is positive everywhere: at 0 the halos fill the image.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor. With
            `min_mm3=0.0` neither is needed.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do. It
            scales sums and volumes, and does not move a probability below a threshold.
        ignore_index: Voxels with this label do not count.
        empty: Score where TP + FP + FN is 0 and `ignore_empty` is False; the challenge's is 1.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If shapes differ, a probability lies outside [0, 1], an argument is out of its
            range, no spacing is known and `min_mm3` is not 0, or `min_mm3` has no default.

    References:
        Saluja et al., BraTS 2023 lesion-wise performance metrics,
        https://github.com/rachitsaluja/BraTS-2023-Metrics

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]])
        >>> pred = torch.tensor([[[0.6, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]])
        >>> compute_lesionwise_dice(pred, target, dilation=1, min_mm3=0.0)
        tensor([[0.3750]], dtype=torch.float64)
    """
    metric = LesionwiseDiceMetric(
        include_background,
        ignore_empty=ignore_empty,
        num_classes=num_classes,
        threshold=threshold,
        target_threshold=target_threshold,
        soft=soft,
        dilation=dilation,
        connectivity=connectivity,
        min_mm3=min_mm3,
        halo=halo,
        spacing=spacing,
        ignore_index=ignore_index,
        empty=empty,
        validate=validate,
    )
    return metric.measure(y_pred, y, mask=mask)


@dataclass(frozen=True)
class LesionCounts:
    """How many lesions were found, made up and missed, and the ratios of that.

    Args:
        tp: True lesions that were found.
        fp: Predicted lesions that match none.
        fn: True lesions that were missed.
        left_out: True lesions that were too small to count.

    Examples:
        >>> LesionCounts(tp=3, fp=1, fn=0).precision
        0.75
    """

    tp: int
    fp: int
    fn: int
    left_out: int = 0

    @property
    def precision(self) -> float:
        """TP / (TP + FP), NaN where that is 0 / 0."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN), NaN where that is 0 / 0."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), NaN where that is 0 / 0."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


class LesionwiseDiceMetric(LesionMetric):
    """Lesion-wise Dice of BraTS 2023 over a data set; see `compute_lesionwise_dice`.

    Reduction "mean" is the challenge's: the mean over scans. "dataset" adds Dice scores and
    counts up over all scans first, so that every lesion weighs the same. A call takes `mask` and
    `spacing` too, the latter in place of the one given at the start.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where TP + FP + FN is 0; else `empty`.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel.
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target; by default `threshold`.
        soft: Whether the Dice of each lesion takes probabilities, or voxels as 0 and 1.
        dilation: How many voxels lesions grow before they are told apart.
        connectivity: Neighbours of a voxel in a component: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26
            means all neighbours in any dimension.
        min_mm3: Lesions have to be larger than this, in mm³, by default 50 in 3D; with fewer axes
            (mm², mm) it has to be given.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor.
        ignore_index: Voxels with this label do not count.
        empty: Score where TP + FP + FN is 0 and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If an argument is out of its range; on use, if shapes differ, a probability
            lies outside [0, 1], no spacing is known and `min_mm3` is not 0, or `min_mm3` has no
            default.

    References:
        Saluja et al., BraTS 2023 lesion-wise performance metrics,
        https://github.com/rachitsaluja/BraTS-2023-Metrics

    Examples:
        >>> import torch
        >>> metric = LesionwiseDiceMetric(dilation=1, min_mm3=0.0)
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]])
        >>> _ = metric(target, target)
        >>> metric.aggregate().item(), metric.counts()["label_0"]
        (1.0, LesionCounts(tp=2, fp=0, fn=0, left_out=0))
    """

    width = 5

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        threshold: float = 0.5,
        target_threshold: float | None = None,
        soft: bool = True,
        dilation: int = 3,
        connectivity: int = 26,
        min_mm3: float | None = None,
        halo: float = 0.01,
        spacing: Sequence[float] | float | None = None,
        ignore_index: int | None = None,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        least = _BRATS_MM3 if min_mm3 is None else min_mm3
        check_weight(min_mm3=least)
        if not isinstance(dilation, int) or dilation < 0:
            raise ValueError(f"dilation must be an integer of at least 0, got {dilation!r}")
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            rules=LesionRules(threshold, target_threshold, connectivity, halo, soft=soft),
            spacing=spacing,
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
            in_mm=least > 0,
            margin=dilation,
        )
        self.dilation, self.min_mm3, self.in_3d_only = dilation, least, min_mm3 is None
        self.ignore_empty, self.empty = ignore_empty, empty

    def counts(self) -> dict[str, LesionCounts]:
        """TP, FP and FN of each class over all scans, and how many were too small."""
        return {
            name: LesionCounts(*(int(number) for number in numbers[1:]))
            for name, numbers in self.totals().items()
        }

    def _statistics(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: Tensor | None = None,
        spacing: Spacing | None = None,
    ) -> Tensor:
        return super()._statistics(y_pred, y, mask=mask, spacing=spacing)

    def _check(self, ndim: int, raters: Tensor | None) -> None:
        if self.in_3d_only and ndim < 3:
            unit = {1: "a length in mm", 2: "an area in mm²"}[ndim]
            raise ValueError(
                f"min_mm3 must be given where images have {ndim} axes and it is {unit} (0 leaves "
                "no lesion out), got None"
            )

    def _count(self, scan: LesionScan) -> Sequence[float]:
        extents, count = _extents(scan.truth.core > 0, self.dilation, self.rules.connectivity)
        merged = replace(scan, truth=scan.truth.renumbered(_extent_of_each(scan, extents)))
        touches = touching(extents, scan.pred.core, (count, len(scan.pred)))
        shared, found = merged_overlap(merged, touches)
        dice = ratio("dice", shared, merged.truth.sizes(), found)
        large = ~(merged.truth.core_sizes() * scan.voxel_mm3 <= self.min_mm3)  # also without mm
        self._warn(large)
        hit = touches.sum(axis=1) > 0
        false = touches.sum(axis=0) == 0
        counts = ((large & hit).sum(), false.sum(), (large & ~hit).sum(), (~large).sum())
        return [float(number) for number in (dice[large & hit].sum(), *counts)]

    def _warn(self, large: np.ndarray) -> None:
        if len(large) and not large.any():
            warnings.warn(
                f"min_mm3={self.min_mm3:g} leaves out every true lesion of a scan, which scores as "
                "if it had none; counts() says how many are left out, min_mm3=0 keeps all",
                stacklevel=2,
            )

    def _score(self, statistics: Tensor) -> Tensor:
        total, tp, fp, fn, _ = statistics.unbind(-1)
        lesions = tp + fp + fn
        score = total / lesions.clamp(min=1)
        return torch.where(lesions > 0, score, torch.nan if self.ignore_empty else self.empty)


def _extents(inside: np.ndarray, dilation: int, connectivity: int) -> tuple[np.ndarray, int]:
    """Components of the dilated mask, numbered from 1, and how many there are."""
    if dilation and inside.any():  # scipy takes 0 iterations as "until nothing changes"
        ball = ndimage.generate_binary_structure(inside.ndim, min(2, inside.ndim))
        inside = ndimage.binary_dilation(inside, ball, iterations=dilation)
    labels = np.zeros(inside.shape, dtype=np.int32)
    ndimage.label(inside, neighbourhood(inside.ndim, connectivity), output=labels)
    return labels, int(labels.max(initial=0))


def _extent_of_each(scan: LesionScan, extents: np.ndarray) -> np.ndarray:
    """The number of the extent in which each true component lies."""
    numbers = np.zeros(len(scan.truth) + 1, dtype=np.int32)
    numbers[scan.truth.core] = extents
    return numbers[1:]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
