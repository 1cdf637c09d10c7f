"""What found boxes and targets of a scan must look like, and what is read off a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap._checks import (
    check_boxes,
    check_probabilities,
    check_rotated_boxes,
    check_tensors,
)
from softoverlap._types import plain
from softoverlap.lesion import Lesion
from softoverlap.measures.criteria import Scan, under_one_name
from softoverlap.measures.hit import BoxKind
from softoverlap.soft_box import check_soft_boxes, is_soft

PREDICTION_KEYS = ("box", "label", "label_scores")
TARGET_KEYS = ("box", "label")

_APART = 1e-3  # voxels between a record's box and the target's


def column(values: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers as float64 on the CPU."""
    return plain(values).detach().cpu().double()


def several(name: str, values: Any, what: str = "numbers") -> tuple[Any, ...]:
    """A list of numbers or of names, not a single one."""
    try:
        listed = None if isinstance(values, str) else tuple(values)
    except TypeError:  # also a tensor without axes, which has the method but not the items
        listed = None
    if listed is None:
        raise TypeError(f"{name} must be a list of {what}, got {values!r}")
    return listed


def existence_of(target: Scan, name: str, *, required: bool) -> Float[Tensor, "lesions"]:
    """Each lesion's existence: the key, else that of the records, else 1 unless it is required."""
    count = len(target["label"])
    existence, lesions = target.get("existence"), target.get("lesions")
    if existence is None and lesions is not None:
        return torch.tensor([lesion.existence for lesion in lesions]).double()
    if existence is None:
        if required and count:
            raise ValueError(
                f"{name} must hold 'existence', shape ({count},), or 'lesions', a list of Lesion "
                f"that hold it, got {sorted(target)}"
            )
        return torch.ones(count, dtype=torch.float64)
    argument = f"{name}['existence']"
    check_tensors(**{argument: existence})
    if tuple(existence.shape) != (count,):
        raise ValueError(
            f"{argument} must have shape ({count},), a number a lesion, "
            f"got {tuple(existence.shape)}"
        )
    check_probabilities(**{argument: existence}, validate=True)
    return column(existence)


def ignored_of(target: Scan, name: str) -> Bool[Tensor, "lesions"]:
    """Which lesions are neither hit nor missed: the key, else none of them."""
    count, ignored = len(target["label"]), target.get("ignored")
    if ignored is None:
        return torch.zeros(count, dtype=torch.bool)
    argument = f"{name}['ignored']"
    if not isinstance(ignored, Tensor):
        ignored = torch.tensor(several(argument, ignored, "booleans"))
    if tuple(ignored.shape) != (count,):
        raise ValueError(
            f"{argument} must have shape ({count},), a boolean a lesion, got {tuple(ignored.shape)}"
        )
    if count and ignored.dtype != torch.bool:
        raise TypeError(f"{argument} must hold booleans, got dtype {ignored.dtype}")
    return plain(ignored).detach().cpu().bool()


def checked_scans(
    predictions: Sequence[Scan], targets: Sequence[Scan], *, kind: BoxKind = "upright"
) -> list[tuple[Scan, Scan]]:
    """One prediction a scan, in order, each with MONAI's keys and boxes of this kind."""
    return [
        checked_scan(*scan, f"predictions[{number}]", f"targets[{number}]", kind=kind)
        for number, scan in enumerate(paired_scans(predictions, targets))
    ]


def paired_scans(predictions: Sequence[Scan], targets: Sequence[Scan]) -> list[tuple[Scan, Scan]]:
    """One prediction a scan, in order, of at least one scan; the scans are not looked at."""
    for name, scans in (("predictions", predictions), ("targets", targets)):
        if not isinstance(scans, Sequence) or isinstance(scans, str):
            raise TypeError(f"{name} must be a list, an item a scan, got {type(scans).__name__}")
    if len(predictions) != len(targets):
        raise ValueError(
            f"targets must hold an item a scan, as predictions does ({len(predictions)}), "
            f"got {len(targets)}"
        )
    if not len(predictions):
        raise ValueError("predictions must hold at least one scan, got none")
    return list(zip(predictions, targets, strict=True))


def checked_scan(
    prediction: Scan, target: Scan, pred_name: str, target_name: str, *, kind: BoxKind = "upright"
) -> tuple[Scan, Scan]:
    """Boxes, whole labels and finite scores of one scan, and records that are its lesions."""
    prediction, target = under_one_name(prediction), under_one_name(target)
    boxes = _checked_boxes(pred_name, prediction, PREDICTION_KEYS, kind)
    lesions = _checked_boxes(target_name, target, TARGET_KEYS, kind)
    if boxes.shape[1] != lesions.shape[1]:
        raise ValueError(
            f"{pred_name}['box'] must have {lesions.shape[1]} columns, as "
            f"{target_name}['box'] does, got {boxes.shape[1]}"
        )
    if target.get("lesions") is not None:
        if kind == "oriented" or (kind == "soft" and is_soft(lesions)):
            raise ValueError(
                f"{target_name} must hold 'masks' and 'existence' for {kind} boxes, got "
                "'lesions', whose boxes are upright and sure"
            )
        _check_lesions(f"{target_name}['lesions']", target["lesions"], lesions)
    return prediction, target


def _checked_boxes(
    name: str, scan: Any, keys: tuple[str, ...], kind: BoxKind
) -> Shaped[Tensor, "boxes _"]:
    """Every key is there, boxes are boxes, and the rest has one number a box."""
    check_keys(name, scan, keys)
    check = check_rotated_boxes if kind == "oriented" else check_boxes
    check(**{f"{name}['box']": scan["box"]}, validate=True)
    if kind == "soft" and is_soft(scan["box"]):
        check_soft_boxes(**{f"{name}['box']": scan["box"]}, validate=True)
    for key in keys[1:]:
        check_column(f"{name}[{key!r}]", scan[key], len(scan["box"]))
    check_whole(f"{name}['label']", scan["label"])
    return scan["box"]


def check_keys(name: str, scan: object, keys: tuple[str, ...]) -> None:
    """A scan is a dict that has every one of these."""
    if not isinstance(scan, Mapping):
        raise TypeError(f"{name} must be a dict, got {type(scan).__name__}")
    missing = [key for key in keys if key not in scan]
    if missing:
        raise ValueError(f"{name} must have the keys {list(keys)}, got {sorted(scan)}")


def check_column(argument: str, values: Tensor, count: int) -> None:
    """A finite number a box."""
    check_tensors(**{argument: values})
    if tuple(values.shape) != (count,):
        raise ValueError(
            f"{argument} must have shape ({count},), a number a box, got {tuple(values.shape)}"
        )
    if not torch.isfinite(values).all():
        raise ValueError(f"{argument} must hold finite numbers, got NaN or infinity")


def check_whole(argument: str, labels: Tensor) -> None:
    """A class is a whole number, in whatever type."""
    apart = column(labels)
    apart = apart[apart != apart.round()]
    if len(apart):
        raise ValueError(f"{argument} must hold whole numbers, got {apart[0].item():g}")


def _check_lesions(argument: str, lesions: object, boxes: Shaped[Tensor, "boxes _"]) -> None:
    """A record a box, in the order of the boxes: else existence and masks go to wrong boxes."""
    if not isinstance(lesions, Sequence) or isinstance(lesions, str):
        raise TypeError(f"{argument} must be a list of Lesion, got {type(lesions).__name__}")
    for lesion in lesions:
        if not isinstance(lesion, Lesion):
            raise TypeError(f"{argument} must hold Lesion, got {type(lesion).__name__}")
        if 2 * lesion.crop.ndim != boxes.shape[1]:
            raise ValueError(
                f"{argument} must hold lesions of {boxes.shape[1] // 2} axes, as 'box' does, "
                f"got {lesion.crop.ndim}"
            )
    if len(lesions) != len(boxes):
        raise ValueError(
            f"{argument} must hold one Lesion for each of {len(boxes)} boxes, got {len(lesions)}"
        )
    for row, (lesion, box) in enumerate(zip(lesions, boxes, strict=True)):
        own, given = column(lesion.box), column(box)
        if ((own - given).abs() > _APART + _rounding(lesion.box) + _rounding(box)).any():
            raise ValueError(
                f"{argument} must be the lesions of 'box', in the same order, got a record of "
                f"{own.tolist()} for the box {given.tolist()} in row {row}; "
                "lesion_target makes both from one list"
            )


def _rounding(box: Shaped[Tensor, "coords"]) -> Float[Tensor, "coords"]:
    """How far a coordinate may lie from what was meant, for its type: a voxel in half precision."""
    step = torch.finfo(box.dtype).eps if box.is_floating_point() else 0.0
    return column(box).abs() * step
