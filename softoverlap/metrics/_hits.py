"""Which found box hits which lesion: the greedy pass that FROC and AP share.

Rows of the whole data set are pooled as one float64 tensor on the CPU, a row a found box:
label, score, outcome. Ranks can gather such rows, however many each of them has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors
from softoverlap._types import plain
from softoverlap.overlaps import box_iou

Scan = Mapping[str, Any]
Hit = Callable[[Tensor, Scan], Tensor]

TRUE_POSITIVE, DUPLICATE, FALSE_POSITIVE = 1, 0, -1
PREDICTION_KEYS = ("box", "label", "label_scores")
TARGET_KEYS = ("box", "label")


def pooled_rows(
    predictions: Sequence[Scan], targets: Sequence[Scan], *, hit: Hit | None, threshold: float
) -> tuple[Float[Tensor, "boxes 3"], Float[Tensor, "lesions 1"], Float[Tensor, "scans 1"]]:
    """Rows of label, score and outcome; each lesion's label; each scan's number of lesions."""
    _check_scans(predictions, targets, hit=hit, threshold=threshold)
    rows, labels = [torch.zeros(0, 3).double()], [torch.zeros(0, 1).double()]
    for prediction, target in zip(predictions, targets, strict=True):
        outcome = outcomes_of_scan(prediction, target, hit=hit, threshold=threshold)
        columns = (prediction["label"], prediction["label_scores"], outcome)
        rows.append(torch.stack([_column(column) for column in columns], dim=1))
        labels.append(_column(target["label"])[:, None])
    counts = [[float(len(target["label"]))] for target in targets]
    scans = torch.tensor(counts, dtype=torch.float64).reshape(-1, 1)
    return torch.cat(rows), torch.cat(labels), scans


def outcomes_of_scan(
    prediction: Scan, target: Scan, *, hit: Hit | None, threshold: float
) -> Int[Tensor, "boxes"]:
    """Greedy by descending score: each box takes the free lesion that it hits best."""
    return match_scan(prediction, target, hit=hit, threshold=threshold)[0]


def match_scan(
    prediction: Scan, target: Scan, *, hit: Hit | None = None, threshold: float = 0.1
) -> tuple[Int[Tensor, "boxes"], Int[Tensor, "boxes"]]:
    """Which box of a scan took which lesion, as FROC and average precision count them.

    Args:
        prediction: As one item of `compute_froc`.
        target: As one item of `compute_froc`.
        hit: As in `compute_froc`.
        threshold: The lowest score that hits.

    Returns:
        Outcome of each box: 1 for a lesion found, 0 for a duplicate, -1 for a false positive; and
        the lesion that it took, -1 for none. Both int64, shape (N,).

    Raises:
        TypeError: If `hit` returns neither booleans nor scores.
        ValueError: If `hit` returns another shape or NaN.

    Examples:
        >>> box = torch.tensor([[0.0, 4.0]])
        >>> found = {"box": torch.tensor([[0.0, 3.0], [0.0, 4.0], [8.0, 9.0]])}
        >>> found |= {"label": torch.zeros(3), "label_scores": torch.tensor([0.9, 0.8, 0.7])}
        >>> match_scan(found, {"box": box, "label": torch.zeros(1)})
        (tensor([ 1,  0, -1]), tensor([ 0, -1, -1]))
    """
    count = len(prediction["label"])
    outcome, taken = torch.full((count,), FALSE_POSITIVE), torch.full((count,), -1)
    quality, hits = _hits_of_scan(prediction, target, hit=hit, threshold=threshold)
    free = torch.ones(len(quality), dtype=torch.bool)
    outcome[hits.any(dim=0)] = DUPLICATE
    order = _column(prediction["label_scores"]).argsort(descending=True, stable=True)
    for box in order[hits.any(dim=0)[order]].tolist():
        open_lesions = (hits[:, box] & free).nonzero()[:, 0]
        if len(open_lesions):
            lesion = open_lesions[quality[open_lesions, box].argmax()]
            free[lesion] = False
            outcome[box], taken[box] = TRUE_POSITIVE, lesion
    return outcome, taken


def _hits_of_scan(
    prediction: Scan, target: Scan, *, hit: Hit | None, threshold: float
) -> tuple[Float[Tensor, "lesions boxes"], Bool[Tensor, "lesions boxes"]]:
    """How well each box hits each lesion, and whether it does; labels must agree."""
    lesions, boxes = _column(target["label"]), _column(prediction["label"])
    if not len(lesions) or not len(boxes):
        nothing = torch.zeros(len(lesions), len(boxes))
        return nothing.double(), nothing.bool()
    quality = (hit or _iou_with_lesions)(plain(prediction["box"]), target)
    hits = _as_hits(quality, (len(lesions), len(boxes)), threshold)
    return plain(quality).cpu().double(), hits & (lesions[:, None] == boxes[None])


def _iou_with_lesions(boxes: Shaped[Tensor, "boxes coords"], target: Scan) -> Tensor:
    """IoU in float64, so that a threshold such as 0.7 is met by 7/10."""
    lesions = plain(target["box"]).to(boxes.device)
    return box_iou(lesions.double(), boxes.double(), validate=False)


def _as_hits(
    quality: Tensor, shape: tuple[int, int], threshold: float
) -> Bool[Tensor, "lesions boxes"]:
    """Booleans as they are, scores by the threshold, compared in the scores' own dtype."""
    check_tensors(hit=quality)
    if tuple(quality.shape) != shape:
        raise ValueError(
            f"hit must return shape (lesions, boxes) = {shape}, got {tuple(quality.shape)}"
        )
    quality = plain(quality).detach().cpu()
    if quality.dtype == torch.bool:
        return quality
    if not quality.is_floating_point():
        raise TypeError(f"hit must return booleans or scores, got dtype {quality.dtype}")
    if quality.isnan().any():
        raise ValueError("hit must return numbers, got NaN")
    return quality >= threshold


def _check_scans(
    predictions: Sequence[Scan], targets: Sequence[Scan], *, hit: Hit | None, threshold: float
) -> None:
    """One prediction a scan, in order, with MONAI's keys, finite boxes and scores."""
    if hit is None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be an IoU in (0, 1], got {threshold}")
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, got {threshold}")
    for name, scans in (("predictions", predictions), ("targets", targets)):
        if not isinstance(scans, Sequence) or isinstance(scans, str):
            raise TypeError(f"{name} must be a list, an item a scan, got {type(scans).__name__}")
    if len(predictions) != len(targets):
        raise ValueError(
            f"targets must hold an item a scan, as predictions does ({len(predictions)}), "
            f"got {len(targets)}"
        )
    for number, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        _check_scan(f"predictions[{number}]", prediction, PREDICTION_KEYS)
        _check_scan(f"targets[{number}]", target, TARGET_KEYS)
        _check_equal_width(number, prediction["box"], target["box"])


def _check_scan(name: str, scan: object, keys: tuple[str, ...]) -> None:
    """Every key is there, boxes are boxes, and the rest has one number a box."""
    if not isinstance(scan, Mapping):
        raise TypeError(f"{name} must be a dict, got {type(scan).__name__}")
    missing = [key for key in keys if key not in scan]
    if missing:
        raise ValueError(f"{name} must have the keys {list(keys)}, got {sorted(scan)}")
    check_boxes(**{f"{name}[{keys[0]!r}]": scan[keys[0]]}, validate=True)
    for key in keys[1:]:
        argument = f"{name}[{key!r}]"
        check_tensors(**{argument: scan[key]})
        if tuple(scan[key].shape) != (len(scan["box"]),):
            raise ValueError(
                f"{argument} must have shape ({len(scan['box'])},), a number a box, "
                f"got {tuple(scan[key].shape)}"
            )
        if not torch.isfinite(scan[key]).all():
            raise ValueError(f"{argument} must hold finite numbers, got NaN or infinity")


def _check_equal_width(number: int, found: Tensor, truth: Tensor) -> None:
    if found.shape[1] != truth.shape[1]:
        raise ValueError(
            f"predictions[{number}]['box'] must have {truth.shape[1]} columns, as "
            f"targets[{number}]['box'] does, got {found.shape[1]}"
        )


def _column(values: Tensor) -> Float[Tensor, "rows"]:
    return plain(values).detach().cpu().double()
