"""FROC of found boxes, over all scans, those without lesions included.

In each scan the boxes are taken by descending score (equal scores in the order given), and each
takes the free lesion of its own label that it hits best. A box that hits only lesions that are
already taken is a duplicate, neither true nor false; one that hits no lesion is a false positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap.measures.detection._curves import checked_names
from softoverlap.measures.detection._froc import FROC, FROCOptions, froc_of
from softoverlap.measures.detection._hits import HitRule, Pooled, pooled_rows
from softoverlap.measures.detection._pooled import PooledBoxMetric
from softoverlap.measures.detection._scans import several
from softoverlap.measures.detection._sizes import ANY_SIZE, SizeClasses
from softoverlap.measures.detection.hits import Hit, Scan
from softoverlap.measures.inputs import Spacing

FP_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


def compute_froc(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: Hit | None = None,
    threshold: float = 0.1,
    fp_rates: Sequence[float] = FP_RATES,
    weight: str | None = "existence",
    size_edges: Sequence[float] = (),
    spacing: Spacing | str | None = None,
    size_of: str = "box",
    per_class: bool = False,
    class_names: Sequence[str] | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> FROC:
    """Sensitivity at given rates of false positives a scan, and their mean (CPM).

    The curve is a step function of the score: the sensitivity at a rate is the best one that an
    operating point reaches at or below that rate, and nothing is interpolated. Boxes of equal
    score make one operating point. A duplicate is neither true nor false. All classes are pooled;
    a box can hit lesions of its own label only.

    A lesion counts as much as its existence, if the target says it: the sensitivity is Σ existence
    of the lesions hit over Σ existence of all. A lesion with an existence of 0 is no lesion, and a
    box that hits nothing else is a false positive. Where all existences are 1, as by default, this
    is the usual FROC.

    The interval is a percentile bootstrap over scans. The draws are those of `seed`, from scans
    sorted by what they hold, so that neither the order in which they came nor the number of ranks
    matters.

    Args:
        predictions: A dict a scan with MONAI's keys: "box", shape (N, 2 * ndim), in voxels;
            "label", shape (N,); "label_scores", shape (N,), higher is better.
        targets: A dict a scan, in the same order: "box", shape (M, 2 * ndim), in voxels; "label",
            shape (M,); where known "existence", in [0, 1], shape (M,), or "lesions", a list of the
            M `Lesion` of the boxes, in their order, that hold it; and whatever else `hit` needs.
            `lesion_target(lesions_from_mask(mask, spacing=...))` makes one from a soft mask. Scans
            without lesions have M = 0 and count.
        hit: What hits: a name, `"box_iou"` by default, such as `"mask_box_dice"`,
            `"relative_mask_box_dice"` (relative to the best that any box reaches) or
            `"centre_in_mask"` (the mask's probability where the box has its centre), all of them
            in `softoverlap.measures.HIT_CRITERIA`; one of our overlaps itself; or a callable that
            takes the boxes (N, 2 * ndim) and the target of one scan and returns, of shape (M, N),
            either booleans or scores. Criteria with masks need "lesions", or "masks" of shape
            (M, *spatial).
        threshold: The lowest score that hits.
        fp_rates: False positives a scan at which to read the sensitivity.
        weight: `"existence"`, or None for lesions that count 1 each, whatever their existence.
        size_edges: Edges between size classes, rising, in mm³ with `spacing`, else in voxels, also
            where "lesions" know their volume. The names of the classes say which: "<10 mm³",
            "10–100 mm³", "≥100 mm³", or "<10 voxels".
        spacing: Edges of a voxel in mm, one number for cubes, or the key under which each target
            has them.
        size_of: The size of a lesion: `"box"`, the volume of its box, or `"mask"`, Σ probability.
        per_class: Also the curve of each class.
        class_names: Names of the labels 0, 1, ...; without, results stand under the label.
        resamples: Number of bootstrap resamples, 1000 is usual; 0 for no interval.
        confidence: Share of the resamples within the interval.
        seed: Of the generator that draws scans.

    Returns:
        Sensitivities in [0, 1] at each rate, their mean, and the whole curve; NaN where there is
        no lesion in any scan, since a share of nothing is not defined.

    Raises:
        TypeError: If an item is not a dict of tensors, `hit` is neither a name nor a callable or
            returns neither booleans nor scores, or a list is a single value.
        ValueError: If there is no scan, keys or shapes are wrong, a value is not finite, an
            existence lies outside [0, 1], a label is not whole, "lesions" are not those of the
            boxes in their order, a rate is negative, or an option is out of range.

    References:
        Setio et al., LUNA16, https://arxiv.org/abs/1612.08012 (rates, CPM and bootstrap)

    Examples:
        >>> import torch
        >>> lesion = torch.tensor([[0.0, 0.0, 4.0, 4.0], [20.0, 0.0, 24.0, 4.0]])
        >>> found = torch.tensor([[0.0, 0.0, 4.0, 3.0], [9.0, 9.0, 12.0, 12.0]])
        >>> labels, scores = torch.tensor([0, 0]), torch.tensor([0.9, 0.4])
        >>> prediction = {"box": found, "label": labels, "label_scores": scores}
        >>> target = {"box": lesion, "label": labels, "existence": torch.tensor([0.75, 0.25])}
        >>> compute_froc([prediction], [target]).cpm
        0.75
        >>> compute_froc([prediction], [target], weight=None).cpm
        0.5

        From a soft mask, with records of its lesions, so that masks can be hit too:

        >>> from softoverlap import lesion_target, lesions_from_mask
        >>> mask = torch.zeros(32, 32, 32)
        >>> mask[8:14, 8:14, 8:14], mask[20:24, 20:24, 20:24] = 0.8, 0.9
        >>> target = lesion_target(lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0)))
        >>> found = torch.tensor([[8.0, 8.0, 8.0, 14.0, 14.0, 15.0]])
        >>> prediction = {"box": found, "label": labels[:1], "label_scores": scores[:1]}
        >>> froc = compute_froc(
        ...     [prediction], [target], hit="mask_box_dice", threshold=0.5,
        ...     size_edges=[100.0], spacing=1.0,
        ... )
        >>> {size: curve.cpm for size, curve in froc.per_size.items()}
        {'<100 mm³': 0.0, '≥100 mm³': 1.0}
    """
    rule = _rule(hit, threshold, weight, size_edges, spacing, size_of)
    options = _options(fp_rates, per_class, class_names, resamples, confidence, seed)
    return froc_of(Pooled(*pooled_rows(predictions, targets, rule)), rule.sizes, options)


class FROCMetric(PooledBoxMetric):
    """`compute_froc` over the batches of a validation run.

    Call it with lists of predictions and targets, a dict a scan. `aggregate` gives the CPM, which
    is what MONAI's handlers log; `curve` gives the whole FROC.

    Args:
        hit: As in `compute_froc`.
        threshold: The lowest score that hits.
        fp_rates: False positives a scan at which to read the sensitivity.
        weight: As in `compute_froc`.
        size_edges: As in `compute_froc`.
        spacing: As in `compute_froc`.
        size_of: As in `compute_froc`.
        per_class: Also the curve of each class.
        class_names: Names of the labels 0, 1, ...
        resamples: Number of bootstrap resamples of `curve`; `aggregate` draws none.
        confidence: Share of the resamples within the interval.
        seed: Of the generator that draws scans.

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_froc`, and if no scan was seen before `aggregate` or `curve`.

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> label, scores = torch.tensor([0]), torch.tensor([0.9])
        >>> metric = FROCMetric(hit="box_dice", threshold=0.2)
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
        weight: str | None = "existence",
        size_edges: Sequence[float] = (),
        spacing: Spacing | str | None = None,
        size_of: str = "box",
        per_class: bool = False,
        class_names: Sequence[str] | None = None,
        resamples: int = 0,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(_rule(hit, threshold, weight, size_edges, spacing, size_of))
        self.options = _options(fp_rates, per_class, class_names, resamples, confidence, seed)

    def curve(self) -> FROC:
        """The whole FROC of all scans that all ranks have seen."""
        return froc_of(self.pooled(), self.rule.sizes, self.options)

    def aggregate(self) -> Float[Tensor, ""]:
        """The CPM, in float64."""
        plain_curve = froc_of(self.pooled(), ANY_SIZE, FROCOptions(self.options.fp_rates))
        return torch.tensor(plain_curve.cpm, dtype=torch.float64)


def _rule(
    hit: Hit | None,
    threshold: float,
    weight: str | None,
    size_edges: Sequence[float],
    spacing: Spacing | str | None,
    size_of: str,
) -> HitRule:
    check_choice("weight", weight, ("existence", None))
    sizes = SizeClasses.checked(size_edges, spacing, size_of)
    return HitRule.of(hit, (threshold,), sizes=sizes, by_existence=weight is not None)


def _options(
    fp_rates: Sequence[float],
    per_class: bool,
    class_names: Sequence[str] | None,
    resamples: int,
    confidence: float,
    seed: int,
) -> FROCOptions:
    rates, names = several("fp_rates", fp_rates), checked_names(class_names)
    return FROCOptions(rates, per_class, names, resamples, confidence, seed)
