"""Lesion-wise Dice as BraTS 2023 defines it, for soft masks too."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import check_weight
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.lesions import neighbourhood, numbered
from softoverlap.measures.inputs import Spacing
from softoverlap.measures.lesionwise.maps import (
    LesionRules,
    LesionScan,
    merged_overlap,
    ratio,
    touching,
)
from softoverlap.measures.lesionwise.measure import LesionMeasure
from softoverlap.measures.measure import Scores, WithEmpty
from softoverlap.overlaps import mask_dice

_BRATS_MM3 = 50.0
"""Lesions of BraTS have to be larger than this, in mm³."""


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


@dataclass(frozen=True, kw_only=True)
class LesionwiseDice(WithEmpty, LesionMeasure):
    """Lesion-wise Dice of BraTS 2023, Σ Dice / (TP + FP + FN), in [0, 1] or NaN.

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
    `details` gives the counts.

    | challenge | `dilation` | `min_mm3` |
    | --- | --- | --- |
    | glioma, Sub-Saharan Africa, paediatrics | 3 | 50 |
    | meningioma | 1 | 50 |
    | metastases | 1 | 2 |

    Args:
        soft: Whether the Dice of each lesion takes probabilities; False takes the voxels at or
            above the threshold as ones and the others as zeros.
        dilation: How many voxels lesions grow before they are told apart.
        min_mm3: Lesions have to be larger than this, in mm³; by default the challenge's 50 in 3D.
            With fewer axes, where it is an area in mm² or a length in mm, it has to be given. At 0
            no spacing is needed.
        ignore_empty: NaN where TP + FP + FN is 0; else `empty`. A scan with false positives only
            scores 0 either way.
        empty: Score where TP + FP + FN is 0 and `ignore_empty` is False; the challenge's is 1.

    References:
        Saluja et al., BraTS 2023 lesion-wise performance metrics,
        https://github.com/rachitsaluja/BraTS-2023-Metrics

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]])
        >>> pred = torch.tensor([[[0.6, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]])
        >>> LesionwiseDice(dilation=1, min_mm3=0.0)(pred, target)
        tensor([[0.3750]], dtype=torch.float64)
    """

    soft: bool = True
    dilation: int = 3
    min_mm3: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight(min_mm3=self.least_mm3)
        if not isinstance(self.dilation, int) or self.dilation < 0:
            raise ValueError(f"dilation must be an integer of at least 0, got {self.dilation!r}")

    @property
    def width(self) -> int:
        """Σ Dice, TP, FP, FN, and how many were too small."""
        return 5

    @property
    def least_mm3(self) -> float:
        """Lesions have to be larger than this."""
        return _BRATS_MM3 if self.min_mm3 is None else self.min_mm3

    @property
    def rules(self) -> LesionRules:
        """What makes a lesion: here small ones are left out later."""
        own = (self.threshold, self.target_threshold, self.connectivity, self.halo)
        return LesionRules(*own, soft=self.soft)

    @property
    def in_mm(self) -> bool:
        """Whether volumes matter."""
        return self.least_mm3 > 0

    @property
    def margin(self) -> int:
        """As far as lesions grow."""
        return self.dilation

    def check_axes(self, ndim: int) -> None:
        """Below 3D there is no volume to start from."""
        if self.min_mm3 is None and ndim < 3:
            unit = {1: "a length in mm", 2: "an area in mm²"}[ndim]
            raise ValueError(
                f"min_mm3 must be given where images have {ndim} axes and it is {unit} (0 leaves "
                "no lesion out), got None"
            )

    def count(self, scan: LesionScan) -> Sequence[float]:
        """Σ Dice, TP, FP, FN, and how many were too small."""
        extents, count = _extents(scan.truth.core > 0, self.dilation, self.connectivity)
        merged = replace(scan, truth=scan.truth.renumbered(_extent_of_each(scan, extents)))
        touches = touching(extents, scan.pred.core, (count, len(scan.pred)))
        shared, partners = merged_overlap(merged, touches)
        dice = ratio(mask_dice, shared, merged.truth.sizes(), partners)
        large = ~(merged.truth.core_sizes() * scan.voxel_mm3 <= self.least_mm3)  # also without mm
        self._warn(large)
        hit = touches.sum(axis=1) > 0
        false = touches.sum(axis=0) == 0
        counts = ((large & hit).sum(), false.sum(), (large & ~hit).sum(), (~large).sum())
        return [float(number) for number in (dice[large & hit].sum(), *counts)]

    def score(self, statistics: Float[Tensor, "*shape 5"]) -> Float[Tensor, "*shape"]:
        """Σ Dice / (TP + FP + FN)."""
        total, tp, fp, fn, _ = statistics.unbind(-1)
        lesions = tp + fp + fn
        score = total / lesions.clamp(min=1)
        return torch.where(lesions > 0, score, torch.nan if self.ignore_empty else self.empty)

    def details(self, statistics: Float[Tensor, "items 5"]) -> LesionCounts:
        """TP, FP and FN over all items, and how many were too small."""
        return LesionCounts(*(int(number) for number in statistics.sum(dim=0)[1:]))

    def _warn(self, large: np.ndarray) -> None:
        if len(large) and not large.any():
            warnings.warn(
                f"min_mm3={self.least_mm3:g} leaves out every true lesion of a scan, which scores "
                "as if it had none; details() says how many are left out, min_mm3=0 keeps all",
                stacklevel=2,
            )


def compute_lesionwise_dice(  # noqa: D417 (said once, in the measure)
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
    spacing: Spacing | None = None,
    mask: VoxelWeights | None = None,
    ignore_index: int | None = None,
    empty: float = 1.0,
    validate: bool | None = None,
) -> Scores:
    """`LesionwiseDice` as a function.

    Args:
        y_pred, y, mask: As in `Measure.statistics`.
        include_background, num_classes, ignore_index, validate: As in `MaskMeasure`.
        threshold, target_threshold, connectivity, halo, spacing: As in `LesionMeasure`.
        ignore_empty, soft, dilation, min_mm3, empty: As in `LesionwiseDice`.

    Returns:
        Score in [0, 1] or NaN, float64, shape (B, C), without the background if it does not count.

    Raises:
        ValueError: If shapes differ, a probability lies outside [0, 1], an argument is out of its
            range, no spacing is known and `min_mm3` is not 0, or `min_mm3` has no default.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]])
        >>> compute_lesionwise_dice(target, target, dilation=1, min_mm3=0.0)
        tensor([[1.]], dtype=torch.float64)
    """
    measure = LesionwiseDice(
        include_background=include_background,
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
    return measure(y_pred, y, mask=mask)


def _extents(inside: np.ndarray, dilation: int, connectivity: int) -> tuple[np.ndarray, int]:
    """Components of the dilated mask, numbered from 1, and how many there are."""
    if dilation and inside.any():  # scipy takes 0 iterations as "until nothing changes"
        ball = ndimage.generate_binary_structure(inside.ndim, min(2, inside.ndim))
        inside = ndimage.binary_dilation(inside, ball, iterations=dilation)
    labels = numbered(inside, neighbourhood(inside.ndim, connectivity))
    return labels, int(labels.max(initial=0))


def _extent_of_each(scan: LesionScan, extents: np.ndarray) -> np.ndarray:
    """The number of the extent in which each true component lies."""
    numbers = np.zeros(len(scan.truth) + 1, dtype=np.int32)
    numbers[scan.truth.core] = extents
    return numbers[1:]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
