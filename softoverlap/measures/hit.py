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

from softoverlap._checks import check_choice, check_probabilities, check_tensors
from softoverlap._types import plain, score_dtype
from softoverlap.anchors import anchor_quality
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps import (
    BoxOverlap,
    Form,
    MaskBoxOverlap,
    MaskOverlap,
    Overlap,
    box_iou,
    overlap_named,
    overlap_names,
)

Scan = Mapping[str, Any]
Criterion = Callable[..., Any]

_RELATIVE = "relative_"
_FAMILIES = (BoxOverlap, MaskBoxOverlap, MaskOverlap)


def _criteria() -> tuple[str, ...]:
    """Every name that there is now: overlaps of others count as soon as they are defined."""
    of_masks = [overlap_named(name, MaskBoxOverlap) for name in overlap_names(MaskBoxOverlap)]
    relative = [f"{_RELATIVE}{overlap.name}" for overlap in of_masks if overlap.tversky_weights]
    return (*overlap_names(BoxOverlap, MaskBoxOverlap), *relative, "centre_in_mask")


HIT_CRITERIA = _criteria()
"""Names that `hit=` takes: our overlaps, mask overlaps relative to the best box, and the centre."""


@dataclass(frozen=True)
class Hit:
    """What it takes for a found box to hit a lesion.

    Args:
        overlap: One of our overlaps of two boxes, or of a mask and a box; `centre_in_mask`; or a
            callable that takes the boxes (N, 2 * ndim) and the target of one scan and returns
            booleans or scores, shape (M, N). Between lesions of two masks: `mask_dice`,
            `mask_iou` or `any_voxel`.
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

    overlap: Criterion = box_iou
    threshold: float = 0.1
    relative: bool = False

    def __post_init__(self) -> None:
        if not callable(self.overlap):
            raise TypeError(f"overlap must be an overlap or a callable, got {self.overlap!r}")
        if isinstance(self.overlap, Form) and not isinstance(self.overlap, _FAMILIES):
            raise ValueError(
                "overlap must be one of boxes, of a mask and a box, or of masks, "
                f"got {self.overlap!r}"
            )
        if not isinstance(self.relative, bool):
            raise TypeError(f"relative must be True or False, got {self.relative!r}")
        if self.relative and not _has_best_box(self.overlap):
            raise ValueError(
                "overlap must be one of a mask and a box that has a best box, such as "
                f"mask_box_dice, to be relative, got {self.overlap!r}"
            )
        self._check_threshold()

    def _check_threshold(self) -> None:
        ours = self.overlap is centre_in_mask or isinstance(self.overlap, Overlap)
        low, high = getattr(self.overlap, "range", (0.0, 1.0)) if ours else (-math.inf, math.inf)
        if low >= 0 and not 0 < self.threshold <= high:
            what = "an IoU" if self.overlap is box_iou else "a score"
            raise ValueError(f"threshold must be {what} in (0, {high:g}], got {self.threshold}")
        if not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be a finite number, got {self.threshold}")
        if self.threshold > high:
            raise ValueError(
                f"threshold must be at most {high:g} for {self.overlap!r}, got {self.threshold}"
            )

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
        quality = self._score(boxes, target)
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

    def _score(self, boxes: Tensor, target: Scan) -> Any:
        if isinstance(self.overlap, BoxOverlap):
            return _of_boxes(self.overlap, boxes, target)
        if isinstance(self.overlap, MaskBoxOverlap):
            return (_relative if self.relative else _of_masks)(self.overlap, boxes, target)
        return self.overlap(boxes, target)

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
    if hit is None:
        criterion = box_iou
    if isinstance(hit, str):
        relative, criterion = _named(hit)
    if isinstance(criterion, partial) and isinstance(criterion.func, Overlap):
        criterion = criterion.func.with_(**criterion.keywords)
    if not callable(criterion):
        raise TypeError(f"hit must be a name or a callable, got {type(hit).__name__}")
    return Hit(criterion, 0.1 if threshold is None else threshold, relative)


def _named(name: str) -> tuple[bool, Criterion]:
    """Whether it is relative, and the criterion."""
    check_choice("hit", name, _criteria())
    if name == "centre_in_mask":
        return False, centre_in_mask
    relative = name.startswith(_RELATIVE)
    return relative, overlap_named(name.removeprefix(_RELATIVE), BoxOverlap, MaskBoxOverlap)


def _has_best_box(overlap: Criterion) -> bool:
    return isinstance(overlap, MaskBoxOverlap) and overlap.tversky_weights is not None


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
    overlap: BoxOverlap, boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """In float64, so that a threshold such as 0.7 is met by 7/10; the box is the prediction."""
    lesions = plain(target["box"]).to(boxes.device).double()
    return overlap(boxes.double(), lesions, validate=False).mT


def _of_masks(
    overlap: MaskBoxOverlap, boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    masks = masks_of(target)
    if isinstance(masks, Tensor):  # scored in parts where they are large
        return overlap(masks.to(boxes.device), boxes.double(), validate=True)
    volume = SummedVolume.from_lesions(masks, device=boxes.device, validate=True)
    return overlap(volume, boxes.double(), validate=False)


def _relative(
    overlap: MaskBoxOverlap, boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """Overlap with the mask, over the highest that any box reaches."""
    masks = masks_of(target)
    return anchor_quality(masks, boxes.double(), overlap=overlap, normalize="best", validate=True)


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
