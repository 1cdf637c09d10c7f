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
from torch import Tensor

from softoverlap._checks import check_choice, check_number
from softoverlap.measures.lesionwise.maps import LesionScan, ratio
from softoverlap.measures.lesionwise.measure import LesionMeasure
from softoverlap.measures.measure import WithEmpty
from softoverlap.overlaps import mask_iou

QUALITIES = ("pq", "sq", "rq")

_ROUNDING = 1e-9
"""An IoU of exactly ½ is no match, whichever way its sum was rounded."""


@dataclass(frozen=True)
class PanopticFigures:
    """Panoptic, segmentation and recognition quality, and the counts behind them.

    Args:
        pq: Σ IoU of matches / (TP + FP / 2 + FN / 2), NaN where there is no lesion.
        sq: Mean soft IoU of the matches, NaN where nothing matches.
        rq: TP / (TP + FP / 2 + FN / 2), the F1 score, NaN where there is no lesion.
        tp: Matches.
        fp: Predicted lesions without a match.
        fn: True lesions without a match.

    Examples:
        >>> PanopticFigures(pq=0.4, sq=0.6, rq=2 / 3, tp=1, fp=0, fn=1).tp
        1
    """

    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True, kw_only=True)
class PanopticQuality(WithEmpty, LesionMeasure):
    """Panoptic quality of the lesions, in [0, 1] or NaN.

    PQ = Σ IoU of matches / (TP + FP / 2 + FN / 2), the product of segmentation quality SQ (the
    mean IoU of matches) and recognition quality RQ (the F1 score). Lesions are connected
    components with their halos (see `lesions_from_mask`), which share the mask without counting
    anything twice; a match is a soft IoU, Σ min / Σ max, above ½, so that no lesion has two.
    MONAI's metric of this name takes label maps of instances; this one takes probabilities. Over a
    data set IoU and counts are added up first, as Kirillov et al. do. `details` gives all three
    qualities and the counts.

    Args:
        metric_name: "pq", "sq" or "rq" (MONAI's name). SQ is NaN where nothing matches.
        match_iou: A match has a higher soft IoU than this, in [0.5, 1).
        ignore_empty: NaN where TP + FP + FN is 0; else `empty`. A scan with false positives only
            scores 0 either way.
        empty: Score where TP + FP + FN is 0 and `ignore_empty` is False.

    References:
        Kirillov et al., Panoptic Segmentation, https://arxiv.org/abs/1801.00868

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 1.0]]])
        >>> pred = torch.tensor([[[0.6, 0.6, 0.0, 0.0, 0.0]]])
        >>> PanopticQuality()(pred, target)  # 0.6 / (1 + 1/2)
        tensor([[0.4000]], dtype=torch.float64)
    """

    metric_name: str = "pq"
    match_iou: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("metric_name", self.metric_name, QUALITIES)
        check_number(match_iou=self.match_iou)
        if not 0.5 <= self.match_iou < 1:
            raise ValueError(
                f"match_iou must lie in [0.5, 1), where a match is unique, got {self.match_iou!r}"
            )

    @property
    def width(self) -> int:
        """Σ IoU, TP, FP, FN."""
        return 4

    def count(self, scan: LesionScan) -> Sequence[float]:
        """Σ IoU, TP, FP, FN."""
        shared = scan.shared().tocoo()
        rows, cols = shared.row, shared.col
        iou = ratio(mask_iou, shared.data, scan.truth.sizes()[rows], scan.pred.sizes()[cols])
        matches = iou[iou > self.match_iou + _ROUNDING]
        tp = float(len(matches))
        return [float(matches.sum()), tp, len(scan.pred) - tp, len(scan.truth) - tp]

    def score(self, statistics: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
        """The quality of the name."""
        nothing = statistics[..., 1:].sum(dim=-1) == 0
        instead = torch.nan if self.ignore_empty else self.empty
        return torch.where(nothing, instead, _quality(statistics, self.metric_name))

    def details(self, statistics: Float[Tensor, "items 4"]) -> PanopticFigures:
        """PQ, SQ, RQ and the counts over the lesions of all items."""
        sums = statistics.sum(dim=0)
        pq, sq, rq = (float(_quality(sums, name)) for name in QUALITIES)
        tp, fp, fn = (int(count) for count in sums[1:])
        return PanopticFigures(pq, sq, rq, tp=tp, fp=fp, fn=fn)


def _quality(statistics: Float[Tensor, "*shape 4"], metric_name: str) -> Float[Tensor, "*shape"]:
    """The quality of this name, NaN where it is 0 / 0."""
    total, tp, fp, fn = statistics.unbind(-1)
    above = tp if metric_name == "rq" else total
    below = tp if metric_name == "sq" else tp + fp / 2 + fn / 2
    return torch.where(below > 0, above / torch.where(below > 0, below, 1), torch.nan)
