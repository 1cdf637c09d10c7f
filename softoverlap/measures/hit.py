"""What a hit is: an overlap, how much of it is needed, and whether it is relative to the best.

A found box and a lesion are scored by an overlap of two boxes, by one of a mask and a box, by
`centre_in_mask`, or by a callable that takes the found boxes (N, 2 * ndim) and the target of one
scan, and returns booleans or scores of shape (M, N), lesions first. What asks for masks needs the
target's `"lesions"`, a list of M `Lesion`, or its `"masks"`, probabilities of shape (M, *spatial).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap import overlaps
from softoverlap._checks import check_choice, check_probabilities, check_tensors
from softoverlap._types import plain, score_dtype
from softoverlap.anchors import anchor_quality
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume

Scan = Mapping[str, Any]
Criterion = Callable[..., Tensor]

_SIGNED = ("box_giou", "box_diou", "box_ciou", "box_eiou", "mask_box_diou")
_OF_BOXES = ("box_iou", "box_dice", "box_iof", "box_nwd", *_SIGNED[:4])
_OF_MASKS = ("mask_box_dice", "mask_box_iou", "mask_box_tversky", "mask_box_diou")
_WITH_BEST_BOX = {f"mask_box_{ratio}": ratio for ratio in ("dice", "iou", "tversky")}

HIT_CRITERIA = (
    *_OF_BOXES, *_OF_MASKS, *(f"relative_{name}" for name in _WITH_BEST_BOX), "centre_in_mask"
)  # fmt: skip
"""Names that `hit=` takes: our overlaps, mask overlaps relative to the best box, and the centre."""


@dataclass(frozen=True)
class Hit:
    """What it takes for a found box to hit a lesion.

    Args:
        overlap: One of our overlaps of two boxes, or of a mask and a box, also as a partial;
            `centre_in_mask`; or a callable that takes the boxes (N, 2 * ndim) and the target of
            one scan and returns booleans or scores, shape (M, N). Between lesions of two masks:
            `mask_dice`, `mask_iou` or `any_voxel`.
        threshold: The lowest score that hits.
        relative: Divide the overlap by the highest that any box reaches for that lesion; for
            `mask_box_dice`, `mask_box_iou` and `mask_box_tversky`.

    Raises:
        TypeError: If `overlap` is no callable.
        ValueError: If the threshold is not finite or out of the overlap's range, or the overlap
            has no best box to be relative to.

    Examples:
        >>> from softoverlap import box_iou, mask_box_dice
        >>> Hit(box_iou, 0.1) == Hit()
        True
        >>> Hit(mask_box_dice, 0.3, relative=True).at(0.5).threshold
        0.5
    """

    overlap: Criterion = overlaps.box_iou
    threshold: float = 0.1
    relative: bool = False

    def __post_init__(self) -> None:
        if not callable(self.overlap):
            raise TypeError(f"overlap must be an overlap or a callable, got {self.overlap!r}")
        if self.relative and _name_of(self.overlap) not in _WITH_BEST_BOX:
            raise ValueError(
                f"overlap must be one of {list(_WITH_BEST_BOX)} to be relative, got {self.overlap}"
            )
        self._check_threshold()

    def _check_threshold(self) -> None:
        name, threshold = _name_of(self.overlap), self.threshold
        if name and name not in _SIGNED and not 0 < threshold <= 1:
            what = "an IoU" if name == "box_iou" else "a score"
            raise ValueError(f"threshold must be {what} in (0, 1], got {threshold}")
        if not math.isfinite(threshold):
            raise ValueError(f"threshold must be a finite number, got {threshold}")
        if name and threshold > 1:
            raise ValueError(f"threshold must be at most 1 for hit {name!r}, got {threshold}")

    def at(self, threshold: float) -> Hit:
        """The same with another threshold."""
        return Hit(self.overlap, threshold, self.relative)

    def quality(
        self, boxes: Shaped[Tensor, "boxes coords"], target: Scan
    ) -> Shaped[Tensor, "lesions boxes"]:
        """How well each box meets each lesion, at least one of each: scores, or booleans.

        Raises:
            TypeError: If a callable returns neither booleans nor scores.
            ValueError: If it returns another shape or NaN, or the target lacks the masks.
        """
        quality = _criterion(self)(boxes, target)
        check_tensors(hit=quality)
        shape = (len(target["label"]), len(boxes))
        if tuple(quality.shape) != shape:
            raise ValueError(
                f"hit must return shape (lesions, boxes) = {shape}, got {tuple(quality.shape)}"
            )
        if quality.dtype != torch.bool and not quality.is_floating_point():
            raise TypeError(f"hit must return booleans or scores, got dtype {quality.dtype}")
        if quality.isnan().any():
            raise ValueError("hit must return numbers, got NaN")
        return plain(quality).detach().cpu()

    def reached(self, quality: Shaped[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """Booleans as they are, scores by the threshold, compared in the scores' own precision."""
        return quality if quality.dtype == torch.bool else quality >= self.threshold


AnyHit = Hit | Criterion | str
"""A hit, its overlap or another callable, or the name of a criterion."""


def hit_of(hit: AnyHit | None, threshold: float | None = None) -> Hit:
    """The hit that is meant by an argument `hit` with `threshold` beside it, by default 0.1.

    Raises:
        TypeError: If `hit` is neither a hit, a name nor a callable.
        ValueError: If a name is unknown, or a `Hit` meets a second threshold.
    """
    if isinstance(hit, Hit):
        if threshold is not None:
            raise ValueError(f"threshold must be None where hit is a Hit, got {threshold}")
        return hit
    relative, criterion = False, hit
    if hit is None or isinstance(hit, str):
        relative, criterion = _named(hit or "box_iou")
    if not callable(criterion):
        raise TypeError(f"hit must be a name or a callable, got {type(hit).__name__}")
    return Hit(criterion, 0.1 if threshold is None else threshold, relative)


def _named(name: str) -> tuple[bool, Criterion]:
    """Whether it is relative, and the criterion."""
    check_choice("hit", name, HIT_CRITERIA)
    if name == "centre_in_mask":
        return False, centre_in_mask
    overlap = name.removeprefix("relative_")
    return overlap != name, getattr(overlaps, overlap)


def _name_of(overlap: Criterion) -> str:
    """The name of one of our overlaps, also of a partial, or of the centre; "" of others."""
    function: Any = overlap.func if isinstance(overlap, partial) else overlap
    name = getattr(function, "__name__", "")
    ours = centre_in_mask if name == "centre_in_mask" else getattr(overlaps, name, None)
    return name if name in HIT_CRITERIA and ours is function else ""


def _criterion(hit: Hit) -> Criterion:
    name = _name_of(hit.overlap)
    if hit.relative:
        return partial(_relative, _WITH_BEST_BOX[name])
    if name in _OF_BOXES:
        return partial(_of_boxes, hit.overlap)
    return partial(_of_masks, hit.overlap) if name in _OF_MASKS else hit.overlap


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


def _of_boxes(
    overlap: Criterion, boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """In float64, so that a threshold such as 0.7 is met by 7/10; the box is the prediction."""
    lesions = plain(target["box"]).to(boxes.device).double()
    return overlap(boxes.double(), lesions, validate=False).mT


def _of_masks(
    overlap: Criterion, boxes: Shaped[Tensor, "boxes coords"], target: Scan
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


def centre_in_mask(
    boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Shaped[Tensor, "lesions boxes"]:
    """The mask's probability in the voxel that holds the box's centre, 0 beyond the mask.

    Args:
        boxes: Found boxes in voxels, shape (N, 2 * ndim).
        target: The target of the scan, with "lesions" or "masks".

    Returns:
        Probabilities in [0, 1], shape (M, N).

    Examples:
        >>> target = {"label": torch.zeros(1), "masks": torch.tensor([[0.0, 0.25, 0.5]])}
        >>> centre_in_mask(torch.tensor([[0.0, 3.0], [2.0, 4.0]]), target)
        tensor([[0.2500, 0.0000]])
    """
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
