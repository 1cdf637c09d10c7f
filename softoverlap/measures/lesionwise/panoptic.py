"""Panoptic quality on disjoint soft masks.

A match is a pair with Σ min / Σ max > ½, and no lesion has two. Say P matched both S and T: each
Σ max is at least |P|, so Σ min(P, S) and Σ min(P, T) both exceed |P| / 2. But S and T are disjoint,
so at each voxel one of the two minima is 0 and the other at most P: they add up to |P| at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures.lesionwise._metric import LesionMetric
from softoverlap.measures.lesionwise.maps import LesionRules, LesionScan, ratio
from softoverlap.measures.mask_inputs import MaskInputs, Spacing

_ROUNDING = 1e-9
"""An IoU of exactly ½ is no match, whichever way its sum was rounded."""


def compute_panoptic_quality(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    *,
    metric_name: str = "pq",
    match_iou_threshold: float = 0.5,
    threshold: float = 0.5,
    target_threshold: float | None = None,
    connectivity: int = 26,
    min_mm3: float = 0.0,
    halo: float = 0.01,
    spacing: Sequence[float] | float | None = None,
    mask: VoxelWeights | None = None,
    ignore_index: int | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Float[Tensor, "batch classes"]:
    """Panoptic quality of the lesions of each item and class.

    PQ = Σ IoU of matches / (TP + FP / 2 + FN / 2), the product of segmentation quality SQ (the
    mean IoU of matches) and recognition quality RQ (the F1 score). Lesions are connected
    components with their halos (see `lesions_from_mask`), which share the mask without counting
    anything twice; a match is a soft IoU, Σ min / Σ max, above ½, so that no lesion has two.
    MONAI's metric of this name takes label maps of instances; this one takes probabilities.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        ignore_empty: NaN where TP + FP + FN is 0; else `empty`. A scan with false positives only
            scores 0 either way.
        num_classes: Number of classes of single-channel labels, background included.
        metric_name: "pq", "sq" or "rq".
        match_iou_threshold: A match has a higher soft IoU than this, in [0.5, 1).
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target; by default `threshold`.
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor, else 1 each,
            which only settles to which of two lesions a voxel between them belongs.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do. It
            scales sums and volumes, and does not move a probability below a threshold.
        ignore_index: Voxels with this label do not count.
        empty: Score where TP + FP + FN is 0 and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.
        SQ is NaN where nothing matches.

    Raises:
        ValueError: If shapes differ, a probability lies outside [0, 1], an argument is out of its
            range, or no spacing is known and `min_mm3` is above 0.

    References:
        Kirillov et al., Panoptic Segmentation, https://arxiv.org/abs/1801.00868

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 1.0]]])
        >>> pred = torch.tensor([[[0.6, 0.6, 0.0, 0.0, 0.0]]])
        >>> compute_panoptic_quality(pred, target)  # 0.6 / (1 + 1/2)
        tensor([[0.4000]], dtype=torch.float64)
    """
    metric = PanopticQualityMetric(
        include_background,
        ignore_empty=ignore_empty,
        num_classes=num_classes,
        metric_name=metric_name,
        match_iou_threshold=match_iou_threshold,
        threshold=threshold,
        target_threshold=target_threshold,
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
class PanopticQuality:
    """Panoptic, segmentation and recognition quality, and the counts behind them.

    Args:
        pq: Σ IoU of matches / (TP + FP / 2 + FN / 2), NaN where there is no lesion.
        sq: Mean soft IoU of the matches, NaN where nothing matches.
        rq: TP / (TP + FP / 2 + FN / 2), the F1 score, NaN where there is no lesion.
        tp: Matches.
        fp: Predicted lesions without a match.
        fn: True lesions without a match.

    Examples:
        >>> PanopticQuality(pq=0.4, sq=0.6, rq=2 / 3, tp=1, fp=0, fn=1).tp
        1
    """

    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int


class PanopticQualityMetric(LesionMetric):
    """Panoptic quality of lesions over a data set; see `compute_panoptic_quality`.

    A call takes `mask` and `spacing` too, the latter in place of the one given at the start.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" (see
            `softoverlap.measures.reduction`); NaN is left out. "dataset" adds up IoU and counts
            over all scans first, as Kirillov et al. do.
        get_not_nans: Return how many values were counted as well.
        ignore_empty: NaN where TP + FP + FN is 0; else `empty`.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel.
        metric_name: "pq", "sq" or "rq".
        match_iou_threshold: A match has a higher soft IoU than this, in [0.5, 1).
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target; by default `threshold`.
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor, else 1 each.
        ignore_index: Voxels with this label do not count.
        empty: Score where TP + FP + FN is 0 and `ignore_empty` is False.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If an argument is out of its range; on use, if shapes differ or a probability
            lies outside [0, 1].

    References:
        Kirillov et al., Panoptic Segmentation, https://arxiv.org/abs/1801.00868

    Examples:
        >>> import torch
        >>> metric = PanopticQualityMetric()
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 1.0]]])
        >>> _ = metric(target, target)
        >>> metric.aggregate().item(), metric.qualities()["label_0"].tp
        (1.0, 2)
    """

    width = 4

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        metric_name: str = "pq",
        match_iou_threshold: float = 0.5,
        threshold: float = 0.5,
        target_threshold: float | None = None,
        connectivity: int = 26,
        min_mm3: float = 0.0,
        halo: float = 0.01,
        spacing: Sequence[float] | float | None = None,
        ignore_index: int | None = None,
        empty: float = 1.0,
        validate: bool | None = None,
    ) -> None:
        check_choice("metric_name", metric_name, ("pq", "sq", "rq"))
        if not 0.5 <= match_iou_threshold < 1:
            raise ValueError(
                "match_iou_threshold must lie in [0.5, 1), where a match is unique, "
                f"got {match_iou_threshold!r}"
            )
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            rules=LesionRules(threshold, target_threshold, connectivity, halo, min_mm3),
            spacing=spacing,
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
            in_mm=min_mm3 > 0,
        )
        self.metric_name, self.match_iou_threshold = metric_name, match_iou_threshold
        self.ignore_empty, self.empty = ignore_empty, empty

    def qualities(self) -> dict[str, PanopticQuality]:
        """PQ, SQ, RQ and the counts of each class, over the lesions of all scans."""
        return {name: _qualities(numbers) for name, numbers in self.totals().items()}

    def _statistics(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: Tensor | None = None,
        spacing: Spacing | None = None,
    ) -> Tensor:
        return super()._statistics(y_pred, y, mask=mask, spacing=spacing)

    def _count(self, scan: LesionScan) -> Sequence[float]:
        shared = scan.shared().tocoo()
        rows, cols = shared.row, shared.col
        iou = ratio("iou", shared.data, scan.truth.sizes()[rows], scan.pred.sizes()[cols])
        matches = iou[iou > self.match_iou_threshold + _ROUNDING]
        tp = float(len(matches))
        return [float(matches.sum()), tp, len(scan.pred) - tp, len(scan.truth) - tp]

    def _score(self, statistics: Tensor) -> Tensor:
        nothing = statistics[..., 1:].sum(dim=-1) == 0
        instead = torch.nan if self.ignore_empty else self.empty
        return torch.where(nothing, instead, _quality(statistics, self.metric_name))


def _quality(statistics: Float[Tensor, "*shape 4"], metric_name: str) -> Float[Tensor, "*shape"]:
    """The quality of this name, NaN where it is 0 / 0."""
    total, tp, fp, fn = statistics.unbind(-1)
    above = tp if metric_name == "rq" else total
    below = tp if metric_name == "sq" else tp + fp / 2 + fn / 2
    return torch.where(below > 0, above / torch.where(below > 0, below, 1), torch.nan)


def _qualities(statistics: Float[Tensor, "4"]) -> PanopticQuality:
    pq, sq, rq = (float(_quality(statistics, name)) for name in ("pq", "sq", "rq"))
    tp, fp, fn = (int(count) for count in statistics[1:])
    return PanopticQuality(pq, sq, rq, tp=tp, fp=fp, fn=fn)
