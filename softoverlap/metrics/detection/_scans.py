"""What found boxes and targets of a scan must look like, and what is read off a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_probabilities, check_tensors
from softoverlap._types import plain
from softoverlap.metrics.detection.hits import Scan, checked_lesions

PREDICTION_KEYS = ("box", "label", "label_scores")
TARGET_KEYS = ("box", "label")


def column(values: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers as float64 on the CPU."""
    return plain(values).detach().cpu().double()


def existence_of(target: Scan) -> Float[Tensor, "lesions"]:
    """Each lesion's existence: the key, else that of the records, else 1."""
    count = len(target["label"])
    existence, lesions = target.get("existence"), target.get("lesions")
    if existence is None and lesions is not None:
        existence = torch.tensor([lesion.existence for lesion in checked_lesions(lesions)]).double()
    if existence is None:
        return torch.ones(count, dtype=torch.float64)
    check_tensors(existence=existence)
    if tuple(existence.shape) != (count,):
        raise ValueError(
            f"targets['existence'] must have shape ({count},), a number a lesion, "
            f"got {tuple(existence.shape)}"
        )
    check_probabilities(existence=existence, validate=True)
    return column(existence)


def check_scans(predictions: Sequence[Scan], targets: Sequence[Scan]) -> None:
    """One prediction a scan, in order, with MONAI's keys, finite boxes and scores."""
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
