"""FROC and average precision of found boxes, over all scans, those without lesions included.

Both share one greedy pass: in each scan the boxes are taken by descending score (equal scores in
the order given), and each takes the free lesion of its own label that it hits best. A box that
hits only lesions that are already taken is a duplicate: FROC ignores it, AP counts it as false,
as COCO does. A box that hits no lesion is a false positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from monai.metrics import CumulativeIterationMetric
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from softoverlap.metrics import _curves
from softoverlap.metrics._curves import FROC, AveragePrecision
from softoverlap.metrics._hits import Hit, Scan, pooled_rows

FP_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
_ROW_WIDTHS = (3, 1, 1)


def compute_froc(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: Hit | None = None,
    threshold: float = 0.1,
    fp_rates: Sequence[float] = FP_RATES,
) -> FROC:
    """Sensitivity at given rates of false positives a scan, and their mean (CPM).

    The curve is a step function of the score: the sensitivity at a rate is the best one that an
    operating point reaches at or below that rate, and nothing is interpolated. Boxes of equal
    score make one operating point. A duplicate is neither true nor false. All classes are pooled;
    a box can hit lesions of its own label only.

    Args:
        predictions: A dict a scan with MONAI's keys: "box", shape (N, 2 * ndim), in voxels;
            "label", shape (N,); "label_scores", shape (N,), higher is better.
        targets: A dict a scan, in the same order: "box", shape (M, 2 * ndim), in voxels; "label",
            shape (M,); and whatever else `hit` needs. Scans without lesions have M = 0 and count.
        hit: Takes the boxes (N, 2 * ndim) and the target of one scan; returns, of shape (M, N),
            either booleans or scores, of which those at or above `threshold` hit. By default the
            IoU of the boxes, in float64.
        threshold: The lowest score that hits.
        fp_rates: False positives a scan at which to read the sensitivity.

    Returns:
        Sensitivities in [0, 1] at each rate, their mean, and the whole curve; NaN where there is
        no lesion in any scan, since a share of nothing is not defined.

    Raises:
        TypeError: If an item is not a dict of tensors, or `hit` returns neither booleans nor
            scores.
        ValueError: If there is no scan, keys or shapes are wrong, a value is not finite, or a
            rate is negative.

    References:
        Setio et al., LUNA16, https://arxiv.org/abs/1612.08012 (rates and CPM)

    Examples:
        >>> import torch
        >>> lesion = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> found = torch.tensor([[0.0, 0.0, 4.0, 3.0], [9.0, 9.0, 12.0, 12.0]])
        >>> labels, scores = torch.tensor([0, 0]), torch.tensor([0.9, 0.4])
        >>> prediction = {"box": found, "label": labels, "label_scores": scores}
        >>> target = {"box": lesion, "label": torch.tensor([0])}
        >>> compute_froc([prediction], [target]).cpm
        1.0
    """
    rows, lesions, scans = pooled_rows(predictions, targets, hit=hit, threshold=threshold)
    return _curves.froc(rows, scans=len(scans), lesions=len(lesions), fp_rates=fp_rates)


def compute_average_precision(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: Hit | None = None,
    threshold: float = 0.1,
) -> AveragePrecision:
    """Area under the precision envelope over recall, a class at a time.

    Precision at a recall is the highest one reached at that recall or above, and the area is
    summed over every step of recall (the all-point form of Pascal VOC 2010). Boxes of equal score
    make one operating point. A duplicate is false, and so is every box in a scan without lesions.

    Args:
        predictions: As in `compute_froc`.
        targets: As in `compute_froc`.
        hit: As in `compute_froc`; by default the IoU of the boxes.
        threshold: The lowest score that hits, for AP@0.5 pass 0.5.

    Returns:
        Average precision in [0, 1] of each label that some lesion has, and their mean, NaN where
        there is no lesion at all. Classes that only predictions have are absent.

    Raises:
        TypeError: If an item is not a dict of tensors, or `hit` returns neither booleans nor
            scores.
        ValueError: If there is no scan, keys or shapes are wrong, or a value is not finite.

    References:
        Everingham et al., The Pascal Visual Object Classes Challenge: A Retrospective,
        https://doi.org/10.1007/s11263-014-0733-5

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> prediction = {
        ...     "box": box, "label": torch.tensor([0]), "label_scores": torch.tensor([0.9])
        ... }
        >>> target = {"box": box, "label": torch.tensor([0])}
        >>> compute_average_precision([prediction], [target], threshold=0.5).per_class
        {0: 1.0}
    """
    rows, lesions, scans = pooled_rows(predictions, targets, hit=hit, threshold=threshold)
    return _curves.average_precision(rows, lesions, scans=len(scans))


class _PooledBoxMetric(CumulativeIterationMetric):
    """Buffers of rows that ranks gather, however many rows, even none, each of them has."""

    def __init__(self, *, hit: Hit | None = None, threshold: float = 0.1) -> None:
        super().__init__()
        self.hit, self.threshold = hit, threshold

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        raise TypeError(f"y_pred must be a list of dicts of boxes, got {type(y_pred).__name__}")

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: object) -> list[Any]:
        if y is None:
            raise ValueError("y must hold the targets, a dict a scan, got None")
        return list(pooled_rows(y_pred, y, hit=self.hit, threshold=self.threshold))

    def _gathered(self) -> list[Tensor]:
        self._sync()
        return [rows for rows in self._synced_tensors or [] if rows is not None]

    def extend(self, *data: Shaped[Tensor, "_ _"]) -> None:
        """Add rows; MONAI's own method fails on a scan without any."""
        if self._buffers is None:
            self._buffers = [[] for _ in _ROW_WIDTHS]
        for buffer, rows in zip(self._buffers, data, strict=True):
            buffer.append(rows)
        self._synced = False

    def _sync(self) -> None:
        """Gather every rank's rows; MONAI's own method leaves a rank without data waiting."""
        if self._synced:
            return
        buffers = self._buffers or [[] for _ in _ROW_WIDTHS]
        rows = [
            torch.cat([torch.zeros(0, width).double(), *buffer])
            for buffer, width in zip(buffers, _ROW_WIDTHS, strict=True)
        ]
        self._synced_tensors = [evenly_divisible_all_gather(row, concat=True) for row in rows]
        self._synced = True


class FROCMetric(_PooledBoxMetric):
    """`compute_froc` over the batches of a validation run.

    Call it with lists of predictions and targets, a dict a scan. `aggregate` gives the CPM, which
    is what MONAI's handlers log; `curve` gives the whole FROC.

    Args:
        hit: As in `compute_froc`.
        threshold: The lowest score that hits.
        fp_rates: False positives a scan at which to read the sensitivity.

    Raises:
        ValueError: If no scan was seen before `aggregate` or `curve`.

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> label, scores = torch.tensor([0]), torch.tensor([0.9])
        >>> metric = FROCMetric()
        >>> target = {"box": box, "label": label}
        >>> _ = metric([{**target, "label_scores": scores}], [target])
        >>> metric.aggregate().item()
        1.0
    """

    def __init__(
        self,
        *,
        hit: Hit | None = None,
        threshold: float = 0.1,
        fp_rates: Sequence[float] = FP_RATES,
    ) -> None:
        super().__init__(hit=hit, threshold=threshold)
        self.fp_rates = fp_rates

    def curve(self) -> FROC:
        """The whole FROC of all scans that all ranks have seen."""
        rows, lesions, scans = self._gathered()
        return _curves.froc(rows, scans=len(scans), lesions=len(lesions), fp_rates=self.fp_rates)

    def aggregate(self) -> Float[Tensor, ""]:
        """The CPM, in float64."""
        return torch.tensor(self.curve().cpm, dtype=torch.float64)


class BoxAPMetric(_PooledBoxMetric):
    """`compute_average_precision` over the batches of a validation run.

    Call it with lists of predictions and targets, a dict a scan. `aggregate` gives the mean over
    the classes that occur; `average_precision` gives each of them.

    Args:
        hit: As in `compute_froc`.
        threshold: The lowest score that hits.

    Raises:
        ValueError: If no scan was seen before `aggregate` or `average_precision`.

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> label, scores = torch.tensor([0]), torch.tensor([0.9])
        >>> metric = BoxAPMetric(threshold=0.5)
        >>> target = {"box": box, "label": label}
        >>> _ = metric([{**target, "label_scores": scores}], [target])
        >>> metric.aggregate().item()
        1.0
    """

    def average_precision(self) -> AveragePrecision:
        """Average precision of each class over all scans that all ranks have seen."""
        rows, lesions, scans = self._gathered()
        return _curves.average_precision(rows, lesions, scans=len(scans))

    def aggregate(self) -> Float[Tensor, ""]:
        """The mean over the classes that occur, in float64."""
        return torch.tensor(self.average_precision().mean, dtype=torch.float64)
