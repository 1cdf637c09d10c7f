"""Probability-based detection quality: do detections know where they are unsure?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from softoverlap._checks import check_probabilities, check_rank, check_tensors, check_within
from softoverlap._types import plain
from softoverlap.measures.criteria import Scan, under_one_name
from softoverlap.measures.detection.scans import column
from softoverlap.soft_box import check_soft_boxes, soft_box_masks

_FLOOR = 1e-14
"""No probability is taken for lower, so that a single voxel does not decide; the authors' value."""

_NOTHING = 1e-8
"""A spatial quality below is none, and the pair no match, as in the authors' evaluation."""

Object = tuple[Tensor, tuple[slice, ...]]
"""A mask, cut to its tight box, and where that is."""

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
        for name, scans in (("predictions", predictions), ("targets", targets)):
            if not isinstance(scans, Sequence) or isinstance(scans, str):
                raise TypeError(f"{name} must be a list, an item a scan, got {scans!r}")
        if len(predictions) != len(targets):
            raise ValueError(
                f"targets must hold an item a scan, as predictions does ({len(predictions)}), "
                f"got {len(targets)}"
            )
        rows = [
            self._of_scan(f"[{number}]", *map(under_one_name, pair))
            for number, pair in enumerate(zip(predictions, targets, strict=True))
        ]
        return torch.stack(rows) if rows else torch.zeros(0, 8, dtype=torch.float64)

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

    def _of_scan(self, place: str, prediction: Any, target: Any) -> Float[Tensor, "8"]:
        objects, labels, spatial_size = _truth(f"targets{place}", target)
        name = f"predictions{place}"
        label = _label_quality(name, prediction, labels)
        losses = label.new_zeros(2, *label.shape)
        found = _found(name, prediction, spatial_size, label.shape[1])
        for number, probability in enumerate(found):
            claimed = torch.where(probability < self.least_probability, 0, probability)
            losses[:, :, number] = _losses(objects, claimed)
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
    in a logarithm, and a spatial quality below 1e-8 is none. Of a soft truth each voxel counts by
    its probability. The calibration of the labels, which later versions of that evaluation
    multiply with, is left to other measures.

    Args:
        predictions: A dict a scan. "label_scores": the probability of each class, shape (N, C), or
            of one class beside its "label", both (N,). "masks": probabilities (N, *spatial), or
            else "box": soft boxes (N, 4 * ndim) as `soft_boxes` makes them, in voxels.
        targets: A dict a scan: "masks", hard or soft, shape (M, *spatial), and "label", classes
            from 0, shape (M,). `soft_box_masks` makes masks of objects of which only boxes are
            known.
        least_probability: A detection claims no voxel with a lower probability, in [0, 1].

    Returns:
        PDQ, what it is made of, and the counts.

    Raises:
        TypeError: If a scan is not a dict of tensors.
        ValueError: If a key is missing, shapes disagree, a value is out of range, or an object has
            no voxel.

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
    """The objects, their labels, and the size of the image, checked, on the CPU."""
    masks, labels = _entry(name, target, "masks"), _entry(name, target, "label")
    check_rank(2, "(M, *spatial)", **{f"{name}['masks']": masks})
    check_probabilities(**{f"{name}['masks']": masks}, validate=True)
    _check_rows(f"{name}['label']", labels, len(masks))
    objects = []
    for number, mask in enumerate(plain(masks).detach()):
        voxels = mask.nonzero()
        if not len(voxels):
            raise ValueError(
                f"{name}['masks'] must mark voxels of each object, got none of {number}"
            )
        bounds = zip(voxels.amin(dim=0).tolist(), voxels.amax(dim=0).tolist(), strict=True)
        place = tuple(slice(low, high + 1) for low, high in bounds)
        objects.append((column(mask[place]), place))
    return objects, column(labels), tuple(masks.shape[1:])


def _label_quality(name: str, prediction: Any, labels: Tensor) -> Float[Tensor, "objects boxes"]:
    """The probability that each detection gives to the class of each object."""
    argument, scores = f"{name}['label_scores']", _entry(name, prediction, "label_scores")
    check_probabilities(**{argument: scores}, validate=True)
    if scores.ndim == 1:
        own = _entry(name, prediction, "label")
        _check_rows(f"{name}['label']", own, len(scores))
        return torch.where(labels[:, None] == column(own), column(scores), 0.0)
    if scores.ndim != 2:
        raise ValueError(f"{argument} must have shape (N, C) or (N,), got {tuple(scores.shape)}")
    known = (labels >= 0) & (labels < scores.shape[1]) & (labels == labels.round())
    if not known.all():
        raise ValueError(
            f"{argument} must hold a probability for each class of the targets, which are "
            f"{labels.unique().tolist()}, got {scores.shape[1]} classes"
        )
    return column(scores).mT[labels.long()]


def _found(
    name: str, prediction: Any, spatial: tuple[int, ...], count: int
) -> Iterator[Float[Tensor, "*spatial"]]:
    """The mask of each detection, one after the other."""
    kind = "box" if prediction.get("masks") is None else "masks"
    argument, given = f"{name}[{kind!r}]", _entry(name, prediction, kind)
    check_tensors(**{argument: given})
    shape = (count, *spatial) if kind == "masks" else (count, 4 * len(spatial))
    if tuple(given.shape) != shape:
        raise ValueError(
            f"{argument} must have shape {shape}, as 'label_scores' and the targets' masks say, "
            f"got {tuple(given.shape)}"
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
        found[:, number] = -torch.stack([(own * inside[place]).sum(), beyond]) / own.sum()
    return found.clamp(min=0)


def _entry(name: str, scan: Any, key: str) -> Tensor:
    if not isinstance(scan, Mapping):
        raise TypeError(f"{name} must be a dict, got {type(scan).__name__}")
    if key not in scan:
        raise ValueError(f"{name} must have the key {key!r}, got {sorted(scan)}")
    return scan[key]


def _check_rows(argument: str, values: Tensor, count: int) -> None:
    check_tensors(**{argument: values})
    if tuple(values.shape) != (count,):
        raise ValueError(f"{argument} must have shape ({count},), got {tuple(values.shape)}")
