"""What found boxes lose of the IoU with whole lesions: by truncation, and by localisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_tensors
from softoverlap.mask_boxes import SummedVolume
from softoverlap.measures.detection.matching import Matching
from softoverlap.measures.detection.outcomes import TRUE_POSITIVE
from softoverlap.measures.detection.scans import checked_scans, column
from softoverlap.measures.hit import AnyHit, Scan
from softoverlap.overlaps import box_pair_iou, box_volume, visible_box, visible_fraction

_VIEWS = ("visible", "occluders", "occluder_mask")


@dataclass(frozen=True)
class IoUErrors:
    """Means over the lesions that were hit: `1 - iou = truncation + localisation`.

    Args:
        iou: IoU of the found box and the whole lesion's, in [0, 1], NaN without hits.
        truncation: What is lost since a part of the lesion is out of view, be it cut by the field
            of view or occluded, in [0, 1].
        localisation: What is lost otherwise, in [0, 1].
        hits: Number of lesions that were hit.
        lesions: Number of lesions.

    Examples:
        >>> IoUErrors(iou=0.5, truncation=0.3, localisation=0.2, hits=3, lesions=4).truncation
        0.3
    """

    iou: float
    truncation: float
    localisation: float
    hits: int
    lesions: int


@dataclass(frozen=True, kw_only=True)
class BoxIoUErrors:
    """What found boxes lose of the IoU with whole lesions, as a measure.

    `statistics` are four numbers a scan that add up: lesions, hits, and the sums of truncation and
    localisation over the hits. `score` reads the mean IoU of sums, `details` all of them. The
    settings are the options of `compute_iou_errors`.

    Raises:
        TypeError: As in `compute_iou_errors`.
        ValueError: As in `compute_iou_errors`.

    Examples:
        >>> import torch
        >>> target = {"box": torch.tensor([[-2.0, 2.0]]), "label": torch.zeros(1)}
        >>> target["visible"] = torch.tensor([0.0, 9.0])
        >>> found = {"box": torch.tensor([[0.0, 2.0]]), "label": torch.zeros(1)}
        >>> measure = BoxIoUErrors()
        >>> measure.statistics([{**found, "label_scores": torch.ones(1)}], [target])
        tensor([[1.0000, 1.0000, 0.5000, 0.0000]], dtype=torch.float64)
    """

    hit: AnyHit | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        kind = Matching.of(self.hit, self.threshold).kind
        if kind != "upright":
            raise ValueError(f"hit must be one of upright boxes, which have views, got {kind} ones")

    def statistics(
        self, predictions: Sequence[Scan], targets: Sequence[Scan]
    ) -> Float[Tensor, "scans 4"]:
        """The sums of each scan, float64; the arguments are those of `compute_iou_errors`."""
        matching = Matching.of(self.hit, self.threshold)
        rows = [
            _of_scan(matching, *scans, name=f"targets[{number}]")
            for number, scans in enumerate(checked_scans(predictions, targets))
        ]
        return torch.stack(rows)

    def score(self, statistics: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
        """The mean IoU of the hits, float64, NaN without any."""
        _, hits, truncation, localisation = statistics.unbind(-1)
        lost = (truncation + localisation) / torch.where(hits > 0, hits, 1)
        return torch.where(hits > 0, 1 - lost, math.nan)

    def details(self, statistics: Float[Tensor, "scans 4"]) -> IoUErrors:
        """The means over the hits of all scans."""
        total = statistics.sum(dim=0)
        lesions, hits, *lost = total.tolist()
        truncation, localisation = (each / hits if hits else math.nan for each in lost)
        iou = self.score(total).item()
        return IoUErrors(iou, truncation, localisation, int(hits), int(lesions))

    def __call__(self, predictions: Sequence[Scan], targets: Sequence[Scan]) -> Float[Tensor, ""]:
        """The mean IoU of all hits; the arguments are those of `compute_iou_errors`."""
        return self.score(self.statistics(predictions, targets).sum(dim=0))


def compute_iou_errors(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    hit: AnyHit | None = None,
    threshold: float | None = None,
) -> IoUErrors:
    """Split what found boxes lose of the IoU into truncation and localisation.

    Of each hit, P the found box, B the whole lesion's, the loss is the volume that only one of them
    has, over that of their union. What it holds of B out of view, and so out of reach of a
    prediction within the view, is truncation: `|hidden part of B outside P| / |P ∪ B|`, be it cut
    by the field of view or occluded, which KITTI's labels tell apart. The rest is localisation:
    what is missed in view, and all that is too much. Truncation is at most
    `1 - amodal_iou_bound(...)`; a box that is exactly the visible part loses that, and nothing
    else. One that guesses the hidden part right loses less.

    Args:
        predictions: As in `compute_froc`.
        targets: As in `compute_froc`, with whole boxes, and for each scan `"visible"`,
            `"occluders"` or `"occluder_mask"`, or the first one with another, as in
            `visible_fraction`: what is in view of the scan. Ignored lesions do not count.
        hit: As in `compute_froc`, of upright boxes; by default their IoU. It matches whole boxes:
            where the IoU has to reach 0.1, a box within a view of less than a tenth of a lesion
            misses.
        threshold: As in `compute_froc`.

    Returns:
        Means over the hits of all scans, and how many there are.

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_froc` and `visible_fraction`, and if a target does not say what
            is in view.

    References:
        Bolya et al., TIDE, https://arxiv.org/abs/2008.08115 (errors by kind, localisation)

    Examples:
        >>> import torch
        >>> target = {"box": torch.tensor([[-2.0, 0.0, 2.0, 4.0]]), "label": torch.zeros(1)}
        >>> target["visible"] = torch.tensor([0.0, 0.0, 9.0, 9.0])  # half of the lesion
        >>> found = {"box": torch.tensor([[0.0, 0.0, 2.0, 3.0]]), "label": torch.zeros(1)}
        >>> compute_iou_errors([{**found, "label_scores": torch.ones(1)}], [target])
        IoUErrors(iou=0.375, truncation=0.5, localisation=0.125, hits=1, lesions=1)
    """
    measure = BoxIoUErrors(hit=hit, threshold=threshold)
    return measure.details(measure.statistics(predictions, targets))


def _of_scan(
    matching: Matching, prediction: Scan, target: Scan, *, name: str
) -> Float[Tensor, "4"]:
    """Lesions, hits, and the sums of both errors."""
    views = _views(target, name)
    outcomes = matching.of_scan(prediction, target, name=name)
    hits = (outcomes.outcome[:, 0, 0] == TRUE_POSITIVE).nonzero()[:, 0]
    lesions = outcomes.lesion[hits, 0, 0]
    if "visible" in views and views["visible"].ndim == 2:
        views["visible"] = views["visible"][lesions]
    lost = _errors(outcomes.boxes[hits], outcomes.lesion_boxes[lesions], views)
    counts = [float((~outcomes.ignored).sum()), float(len(hits))]
    return torch.tensor([*counts, *lost.sum(dim=1).tolist()], dtype=torch.float64)


def _views(target: Scan, name: str) -> dict[str, Any]:
    """What the target says of what is in view, on the CPU."""
    given = {key: target[key] for key in _VIEWS if target.get(key) is not None}
    if not given:
        raise ValueError(f"{name} must have one of the keys {list(_VIEWS)}, got {sorted(target)}")
    for key, view in given.items():
        if not isinstance(view, SummedVolume):
            check_tensors(**{f"{name}[{key!r}]": view})
            given[key] = column(view)
    visible, (count, columns) = given.get("visible"), target["box"].shape
    if visible is not None and tuple(visible.shape) not in ((columns,), (count, columns)):
        raise ValueError(
            f"{name}['visible'] must be one box, shape ({columns},), or one for each of {count} "
            f"lesions, got shape {tuple(visible.shape)}"
        )
    return given


def _errors(
    found: Float[Tensor, "hits coords"], truth: Float[Tensor, "hits coords"], views: dict[str, Any]
) -> Float[Tensor, "2 hits"]:
    """Truncation and localisation of each hit."""
    both = visible_box(truth, found, validate=False)
    hidden, reached = (
        (1 - visible_fraction(boxes, **views)) * box_volume(boxes) for boxes in (truth, both)
    )
    union = box_volume(truth) + box_volume(found) - box_volume(both)
    lost = 1 - box_pair_iou(found, truth)
    missed = (hidden - reached).clamp(min=0)  # out of view
    truncation = scores.iof(missed, union, empty=0.0).minimum(lost)
    return torch.stack([truncation, lost - truncation])
