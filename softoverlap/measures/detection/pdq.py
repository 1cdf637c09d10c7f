"""Probability-based detection quality: do detections know where they are unsure?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from softoverlap._checks import check_probabilities, check_rank, check_tensors, check_within
from softoverlap._types import plain
from softoverlap.measures.criteria import Scan, under_one_name
from softoverlap.measures.detection.scans import (
    check_column,
    check_keys,
    check_whole,
    column,
    ignored_of,
    paired_scans,
)
from softoverlap.soft_box import check_soft_boxes, soft_box_masks

_FLOOR = 1e-14
"""No probability is taken for lower, so that a single voxel does not decide; the authors' value."""

_NOTHING = 1e-8
"""A spatial quality below is none, and the pair no match, as in the authors' evaluation."""

_HALF = 0.5
"""The least probability of an object's voxel, if it has any so high."""

Object = tuple[Tensor, tuple[slice, ...]]
"""A mask of booleans, cut to its tight box, and where that is."""

_FIELDS = ("quality", "spatial", "label", "foreground", "background")


@dataclass(frozen=True)
class PDQFigures:
    """Probability-based detection quality, and what it is made of.

    Args:
        pdq: Σ quality of the pairs over TP + FP + FN, in [0, 1], NaN where there is nothing.
        quality: Mean quality of the pairs, NaN without any, as the following ones.
        spatial: Their mean spatial quality, foreground times background.
        label: Their mean probability of the true class.
        foreground: Mean of the geometric means of the probability on the objects' voxels.
        background: The same of what is not claimed outside their boxes.
        tp: Pairs.
        fp: Detections without an object.
        fn: Objects without a detection.

    Examples:
        >>> figures = PDQFigures(0.4, 0.8, 0.8, 0.8, 0.9, 0.9, tp=1, fp=1, fn=0)
        >>> figures.pdq, figures.fp
        (0.4, 1)
    """

    pdq: float
    quality: float
    spatial: float
    label: float
    foreground: float
    background: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True, kw_only=True)
class PDQ:
    """Settings of the probability-based detection quality, called like a function.

    A call is `score(statistics(predictions, targets))`. Statistics are float64 numbers of each
    scan; those of several scans or processes are added up before they are scored.

    Args:
        least_probability: A detection claims no voxel with a lower probability, in [0, 1].

    Examples:
        >>> import torch
        >>> truth = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]])
        >>> found = {"masks": 0.81 * truth, "label_scores": torch.tensor([[1.0, 0.0]])}
        >>> PDQ()([found], [{"masks": truth, "label": torch.tensor([0])}])
        tensor(0.9000, dtype=torch.float64)
    """

    least_probability: float = 0.0027

    def __post_init__(self) -> None:
        check_within(0, 1, least_probability=self.least_probability)

    def statistics(
        self, predictions: Sequence[Scan], targets: Sequence[Scan]
    ) -> Float[Tensor, "scans 8"]:
        """Of each scan Σ quality, spatial, label, foreground and background of pairs, TP, FP, FN.

        The arguments are those of `compute_pdq`.
        """
        rows = [
            self._of_scan(number, *map(under_one_name, pair))
            for number, pair in enumerate(paired_scans(predictions, targets))
        ]
        return torch.stack(rows)

    def score(self, statistics: Float[Tensor, "*shape 8"]) -> Float[Tensor, "*shape"]:
        """Σ quality over TP + FP + FN, float64, NaN where there is neither object nor detection."""
        count = statistics[..., -3:].sum(dim=-1)
        safe = torch.where(count > 0, count, 1)
        return torch.where(count > 0, statistics[..., 0] / safe, torch.nan)

    def details(self, statistics: Float[Tensor, "scans 8"]) -> PDQFigures:
        """All figures over these scans together."""
        total = statistics.sum(dim=0)
        *sums, tp, fp, fn = total.tolist()
        means = {
            name: value / tp if tp else math.nan for name, value in zip(_FIELDS, sums, strict=True)
        }
        return PDQFigures(pdq=float(self.score(total)), **means, tp=int(tp), fp=int(fp), fn=int(fn))

    def __call__(self, predictions: Sequence[Scan], targets: Sequence[Scan]) -> Float[Tensor, ""]:
        """The score of these scans; the arguments are those of `compute_pdq`."""
        return self.score(self.statistics(predictions, targets).sum(dim=0))

    def _of_scan(self, number: int, prediction: Any, target: Any) -> Float[Tensor, "8"]:
        name, truth = f"predictions[{number}]", f"targets[{number}]"
        objects, labels, masks_shape = _truth(truth, target)
        label = _label_quality(name, prediction, labels)
        losses = label.new_zeros(2, *label.shape)
        found = _found(name, prediction, label.shape[1], truth, masks_shape)
        for place, probability in enumerate(found):
            claimed = torch.where(probability < self.least_probability, 0, probability)
            losses[:, :, place] = _losses(objects, claimed)
        spatial = (-losses.sum(dim=0)).exp()
        spatial = torch.where(spatial < _NOTHING, 0, spatial)
        quality = (label * spatial).sqrt()
        rows, columns = linear_sum_assignment(quality.numpy(), maximize=True)
        pairs = torch.stack([quality, spatial, label, *(-losses).exp()])[:, rows, columns]
        pairs = pairs[:, pairs[0] > 0]
        tp = pairs.shape[1]
        counts = pairs.new_tensor([tp, label.shape[1] - tp, label.shape[0] - tp])
        return torch.cat([pairs.sum(dim=1), counts])


def compute_pdq(
    predictions: Sequence[Scan], targets: Sequence[Scan], *, least_probability: float = 0.0027
) -> PDQFigures:
    """Probability-based detection quality: of detections that say where they are unsure.

    A detection gives each voxel a probability of being part of the object. The quality of a pair
    of object and detection is the geometric mean of two: the probability of the object's class,
    and the spatial quality `exp(-(L_FG + L_BG))`. L_FG is the mean of -log p over the object's
    voxels; L_BG is the sum of -log(1 - p) over the voxels outside the object's tight box, divided
    by the number of the object's voxels. Within the box, background costs nothing, so that boxes
    can be perfect. Objects and detections are paired for the highest sum of quality, a pair
    without quality is none, and the sum is divided by the number of pairs, of detections and of
    objects that are left over.

    Conventions are those of the authors' evaluation: no probability is taken for lower than 1e-14
    in a logarithm, and a spatial quality below 1e-8 is none. Objects are segments, so of a soft
    truth the voxels of at least 0.5 are taken, or those of its highest probability where it stays
    below: its faint rim neither counts nor widens its box. The calibration of the labels, which
    later versions of that evaluation multiply with, is left to other measures.

    Args:
        predictions: A dict a scan. "label_scores": the probability of each class, shape (N, C), or
            of one class beside its "label", both (N,). "masks": probabilities (N, *spatial), or
            else "box": soft boxes (N, 4 * ndim) as `soft_boxes` makes them, in voxels.
        targets: A dict a scan: "masks", hard or soft, shape (M, *spatial), and "label", classes
            from 0, shape (M,). `soft_box_masks` makes masks of objects of which only boxes are
            known. None may be "ignored".
        least_probability: A detection claims no voxel with a lower probability, in [0, 1].

    Returns:
        PDQ, what it is made of, and the counts.

    Raises:
        TypeError: If a scan is not a dict of tensors.
        ValueError: If there is no scan, a key is missing, shapes disagree, a value is out of range
            or no number, an object has no voxel, or one is to be ignored.

    References:
        Hall et al., Probabilistic object detection: definition and evaluation, WACV 2020,
        https://arxiv.org/abs/1811.10800

    Examples:
        >>> import torch
        >>> from softoverlap import soft_boxes
        >>> truth = torch.zeros(1, 12, 12)
        >>> truth[:, 3:9, 4:8] = 1
        >>> boxes = soft_boxes(torch.tensor([[3.0, 4.0, 9.0, 8.0], [0.0, 9.0, 2.0, 11.0]]), 0.1)
        >>> found = {"box": boxes, "label_scores": torch.tensor([[0.9, 0.1], [0.2, 0.8]])}
        >>> figures = compute_pdq([found], [{"masks": truth, "label": torch.tensor([0])}])
        >>> round(figures.pdq, 3), round(figures.spatial, 3), figures.tp, figures.fp
        (0.459, 0.935, 1, 1)
    """
    measure = PDQ(least_probability=least_probability)
    return measure.details(measure.statistics(predictions, targets))


def _truth(name: str, target: Any) -> tuple[list[Object], Tensor, tuple[int, ...]]:
    """The objects, their labels, and the shape of their masks, checked, on the CPU."""
    check_keys(name, target, ("masks", "label"))
    argument, masks, labels = f"{name}['masks']", target["masks"], target["label"]
    check_rank(2, "(M, *spatial)", **{argument: masks})
    check_probabilities(**{argument: masks}, validate=True)
    check_tensors(**{f"{name}['label']": labels})
    if labels.ndim == 1 and len(labels) != len(masks):
        raise ValueError(
            f"{argument} must have shape (M, *spatial), a mask for each of {len(labels)} labels, "
            f"got {tuple(masks.shape)}"
        )
    _check_classes(f"{name}['label']", labels, len(masks))
    if ignored_of(target, name).any():
        raise ValueError(f"{name} must have no object that is 'ignored', which PDQ does not know")
    objects = []
    for number, mask in enumerate(plain(masks).detach()):
        if not (mask > 0).any():
            raise ValueError(f"{argument} must mark voxels of each object, got none of {number}")
        own = column(mask) >= min(_HALF, float(mask.max()))
        voxels = own.nonzero()
        bounds = zip(voxels.amin(dim=0).tolist(), voxels.amax(dim=0).tolist(), strict=True)
        place = tuple(slice(low, high + 1) for low, high in bounds)
        objects.append((own[place], place))
    return objects, column(labels), tuple(masks.shape)


def _label_quality(name: str, prediction: Any, labels: Tensor) -> Float[Tensor, "objects boxes"]:
    """The probability that each detection gives to the class of each object."""
    check_keys(name, prediction, ("label_scores",))
    argument, scores = f"{name}['label_scores']", prediction["label_scores"]
    check_probabilities(**{argument: scores}, validate=True)
    if scores.ndim == 1:
        check_keys(name, prediction, ("label", "label_scores"))
        own = prediction["label"]
        _check_classes(f"{name}['label']", own, len(scores))
        return torch.where(labels[:, None] == column(own), column(scores), 0.0)
    if scores.ndim != 2:
        raise ValueError(f"{argument} must have shape (N, C) or (N,), got {tuple(scores.shape)}")
    highest = int(labels.max()) if len(labels) else -1
    if highest >= scores.shape[1]:
        raise ValueError(
            f"{argument} must have a column for each class: class {highest} of the targets needs "
            f"{highest + 1} columns, got {scores.shape[1]}"
        )
    return column(scores).mT[labels.long()]


def _found(
    name: str, prediction: Any, count: int, truth: str, masks_shape: tuple[int, ...]
) -> Iterator[Float[Tensor, "*spatial"]]:
    """The mask of each detection, one after the other."""
    kind, spatial = "box" if prediction.get("masks") is None else "masks", masks_shape[1:]
    check_keys(name, prediction, (kind,))
    argument, given = f"{name}[{kind!r}]", prediction[kind]
    check_tensors(**{argument: given})
    shape = (count, *spatial) if kind == "masks" else (count, 4 * len(spatial))
    if tuple(given.shape) != shape:
        raise ValueError(
            f"{argument} must have shape {shape}, as {count} rows of 'label_scores' and "
            f"{truth}['masks'], (M, *spatial) = {masks_shape}, ask for, got {tuple(given.shape)}"
        )
    if kind == "masks":
        check_probabilities(**{argument: given}, validate=True)
        yield from map(column, given)
    else:
        check_soft_boxes(**{argument: given}, validate=True)
        yield from (soft_box_masks(box[None], spatial)[0] for box in column(given))


def _losses(
    objects: list[Object], claimed: Float[Tensor, "*spatial"]
) -> Float[Tensor, "2 objects"]:
    """L_FG and L_BG of a detection with each object."""
    inside = claimed.clamp(min=_FLOOR).log()
    outside = (1 - claimed).clamp(min=_FLOOR).log()
    everywhere, found = outside.sum(), claimed.new_zeros(2, len(objects))
    for number, (own, place) in enumerate(objects):
        beyond = everywhere - outside[place].sum()
        found[:, number] = -torch.stack([inside[place][own].sum(), beyond]) / own.sum()
    return found.clamp(min=0)


def _check_classes(argument: str, labels: Tensor, count: int) -> None:
    """Whole numbers from 0, one a row."""
    check_column(argument, labels, count)
    check_whole(argument, labels)
    least = labels.double().min().item() if len(labels) else 0  # torch has none of unsigned ones
    if least < 0:
        raise ValueError(f"{argument} must hold classes from 0, got {least:g}")
