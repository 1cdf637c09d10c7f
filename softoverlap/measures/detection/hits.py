"""Hit criteria by name: which score says whether a found box hits a lesion.

A criterion takes the found boxes (N, 2 * ndim) and the target of one scan, and returns booleans
or scores of shape (M, N), lesions first. Criteria with masks need the target's `"lesions"`, a
list of M `Lesion`, or its `"masks"`, probabilities of shape (M, *spatial).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import overlaps
from softoverlap._checks import check_choice, check_probabilities, check_tensors
from softoverlap._types import plain, score_dtype
from softoverlap.anchors import anchor_quality
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume

Scan = Mapping[str, Any]
Criterion = Callable[[Tensor, Scan], Tensor]
Hit = str | Criterion

_SIGNED = ("box_giou", "box_diou", "box_ciou", "box_eiou", "mask_box_diou")
_OF_BOXES = ("box_iou", "box_dice", "box_iof", "box_nwd", *_SIGNED[:4])
_OF_MASKS = ("mask_box_dice", "mask_box_iou", "mask_box_tversky", "mask_box_diou")
_RELATIVE = {f"relative_mask_box_{ratio}": ratio for ratio in ("dice", "iou", "tversky")}

HIT_CRITERIA = (*_OF_BOXES, *_OF_MASKS, *_RELATIVE, "centre_in_mask")
"""Names that `hit=` takes: our overlaps, mask overlaps relative to the best box, and the centre."""


def criterion_of(hit: Any) -> Criterion:
    """The criterion behind a name, one of our overlaps (also as a partial), or a callable."""
    if hit is None or isinstance(hit, str):
        return _named(hit or "box_iou")
    if not callable(hit):
        raise TypeError(f"hit must be a name or a callable, got {type(hit).__name__}")
    given: Any = hit
    function = given.func if isinstance(given, partial) else given
    name = getattr(function, "__name__", "")
    if name in (*_OF_BOXES, *_OF_MASKS) and getattr(overlaps, name) is function:
        return partial(_of_boxes if name in _OF_BOXES else _of_masks, given)
    return given


def check_thresholds(hit: Any, thresholds: Sequence[float]) -> None:
    """Finite, and for a name within what its score can reach."""
    unit = hit is None or (isinstance(hit, str) and hit not in _SIGNED)
    for threshold in thresholds:
        if unit and not 0 < threshold <= 1:
            what = "an IoU" if hit is None else "a score"
            raise ValueError(f"threshold must be {what} in (0, 1], got {threshold}")
        if not math.isfinite(threshold):
            raise ValueError(f"threshold must be a finite number, got {threshold}")
        if isinstance(hit, str) and threshold > 1:
            raise ValueError(f"threshold must be at most 1 for hit {hit!r}, got {threshold}")


def masks_of(target: Scan) -> list[Lesion] | Tensor:
    """The soft masks of a checked scan's lesions, as many as it has boxes."""
    lesions, masks = target.get("lesions"), target.get("masks")
    if lesions is not None:
        return list(lesions)
    if masks is None:
        raise ValueError(
            "targets must hold 'lesions', a list of Lesion, or 'masks', probabilities "
            f"(M, *spatial), for a criterion or a size of masks, got {sorted(target)}"
        )
    check_tensors(masks=masks)
    if len(masks) != len(target["label"]):
        raise ValueError(
            f"targets must hold one mask for each of {len(target['label'])} boxes, got {len(masks)}"
        )
    return plain(masks)


def _named(name: str) -> Criterion:
    check_choice("hit", name, HIT_CRITERIA)
    if name == "centre_in_mask":
        return _centre_in_mask
    if name in _RELATIVE:
        return partial(_relative, _RELATIVE[name])
    return partial(_of_boxes if name in _OF_BOXES else _of_masks, getattr(overlaps, name))


def _of_boxes(
    overlap: Callable[..., Tensor], boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """In float64, so that a threshold such as 0.7 is met by 7/10; the box is the prediction."""
    lesions = plain(target["box"]).to(boxes.device).double()
    return overlap(boxes.double(), lesions, validate=False).mT


def _of_masks(
    overlap: Callable[..., Tensor], boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    masks = masks_of(target)
    if isinstance(masks, Tensor):  # scored in parts where they are large
        return overlap(masks.to(boxes.device), boxes.double(), validate=True)
    volume = SummedVolume.from_lesions(masks, device=boxes.device, validate=True)
    return overlap(volume, boxes.double(), validate=False)


def _relative(
    ratio: str, boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """Overlap with the mask, over the highest that any box reaches."""
    masks = masks_of(target)
    return anchor_quality(masks, boxes.double(), overlap=ratio, normalize="best", validate=True)


def _centre_in_mask(
    boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """The mask's probability in the voxel that holds the box's centre, 0 beyond the mask."""
    boxes = boxes.double().cpu()
    lower, upper = boxes.chunk(2, dim=1)
    voxels = ((lower + upper) / 2).floor().long()
    rows = [_probabilities(crop, voxels - offset) for crop, offset in _crops(target)]
    dtype = score_dtype(*rows)
    return torch.stack([row.to(dtype) for row in rows])


def _crops(target: Scan) -> list[tuple[Tensor, Tensor | int]]:
    masks = masks_of(target)
    if isinstance(masks, Tensor):
        check_probabilities(masks=masks, validate=True)
        return [(mask.cpu(), 0) for mask in masks]
    return [(plain(lesion.crop).cpu(), plain(lesion.offset).cpu()) for lesion in masks]


def _probabilities(
    crop: Shaped[Tensor, "*crop"], voxels: Shaped[Tensor, "boxes ndim"]
) -> Shaped[Tensor, "boxes"]:
    if crop.ndim != voxels.shape[1]:
        raise ValueError(f"targets must hold masks with {voxels.shape[1]} axes, got {crop.ndim}")
    shape = torch.tensor(crop.shape)
    inside = ((voxels >= 0) & (voxels < shape)).all(dim=1)
    safe = voxels.clamp(min=0).minimum((shape - 1).clamp(min=0))
    values = crop[tuple(safe.unbind(1))] if crop.numel() else crop.new_zeros(len(voxels))
    return torch.where(inside, values, torch.zeros_like(values))
