"""What a hit is: an overlap, how much of it is needed, and whether it is relative to the best.

A found box and a lesion are scored by an overlap of two boxes, by one of a mask and a box, by
where the box has its centre, or by a callable that takes the found boxes (N, 2 * ndim) and the
target of one scan, and returns booleans or scores of shape (M, N), lesions first. What asks for
masks needs the target's `"lesions"`, a list of M `Lesion`, or its `"masks"`, probabilities of shape
(M, *spatial); what asks for millimetres needs its `"spacing"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap._checks import check_choice, check_tensors
from softoverlap._periodic import check_arcs
from softoverlap._types import plain
from softoverlap.anchors import anchor_quality
from softoverlap.mask_boxes import SummedVolume
from softoverlap.measures.criteria import (
    Scan,
    any_voxel,
    centre_in_mask,
    centre_within_radius,
    masks_of,
    under_one_name,
)
from softoverlap.overlaps import (
    BoxOverlap,
    Form,
    MaskBoxOverlap,
    MaskOverlap,
    MaskRotatedBoxOverlap,
    Overlap,
    RotatedBoxOverlap,
    SoftBoxOverlap,
    box_iou,
    overlap_named,
    overlap_names,
)

Criterion = Callable[..., Any]

BoxKind = Literal["upright", "oriented", "soft"]
"""What boxes a hit is about; soft ones may be without uncertainty, as upright ones are."""

_RELATIVE = "relative_"
_CENTRES = {"centre_in_mask": centre_in_mask, "centre_within_radius": centre_within_radius}
_SHARES = (centre_in_mask, centre_within_radius, any_voxel)  # in [0, 1], as overlaps say of theirs
_ORIENTED = (RotatedBoxOverlap, MaskRotatedBoxOverlap)
_FAMILIES = (BoxOverlap, MaskBoxOverlap, MaskOverlap, *_ORIENTED)


def _criteria() -> tuple[str, ...]:
    """Every name that there is now: overlaps of others count as soon as they are defined."""
    of_masks = [overlap_named(name, MaskBoxOverlap) for name in overlap_names(MaskBoxOverlap)]
    relative = [f"{_RELATIVE}{overlap.name}" for overlap in of_masks if overlap.tversky_weights]
    return (*overlap_names(BoxOverlap, MaskBoxOverlap), *relative, *_CENTRES)


HIT_CRITERIA = _criteria()
"""Names that `hit=` takes: our overlaps, mask overlaps relative to the best box, the centres.

Of oriented boxes it takes the names of their overlaps, such as `"rotated_box_iou"`.
"""


@dataclass(frozen=True)
class Hit:
    """What it takes for a found box to hit a lesion.

    Args:
        overlap: One of our overlaps of two boxes, or of a mask and a box, upright, soft
            (`soft_box_iou`) or oriented (`rotated_box_iou`, `mask_rotated_box_dice`);
            `centre_in_mask` or `centre_within_radius`; or a callable that takes the boxes
            (N, 2 * ndim) and the target of one scan and returns booleans or scores, shape (M, N).
            Between lesions of two masks: `mask_dice`, `mask_iou` or `any_voxel`.
        threshold: The lowest score that hits: by default 0.5 for `centre_within_radius`, which is
            its limit, and 0.1 for the others.
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
    threshold: float = field(default=None)  # pyright: ignore[reportAssignmentType]
    relative: bool = False

    def __post_init__(self) -> None:
        if self.threshold is None:
            object.__setattr__(self, "threshold", default_threshold(self.overlap))
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
        ours = self.overlap in _SHARES or isinstance(self.overlap, Overlap)
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

    @property
    def kind(self) -> BoxKind:
        """What boxes it is about: "oriented", (N, 5) or (N, 7), "soft", (N, 8) or (N, 12)."""
        if isinstance(self.overlap, SoftBoxOverlap):
            return "soft"
        return "oriented" if isinstance(self.overlap, _ORIENTED) else "upright"

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
        target = under_one_name(target)
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
        if isinstance(self.overlap, BoxOverlap | RotatedBoxOverlap):
            return _of_boxes(self.overlap, boxes, target)
        if isinstance(self.overlap, MaskBoxOverlap) and self.relative:
            return _relative(self.overlap, boxes, target)
        if isinstance(self.overlap, MaskBoxOverlap | MaskRotatedBoxOverlap):
            return _of_masks(self.overlap, boxes, target)
        if self.overlap is any_voxel:
            raise ValueError("hit must be one of boxes, or of masks and boxes, got any_voxel")
        return self.overlap(boxes, target)

    def reached(self, quality: Shaped[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """Booleans as they are, scores by the threshold, compared in the scores' own precision."""
        return quality if quality.dtype == torch.bool else quality >= self.threshold


def default_threshold(criterion: Criterion) -> float:
    """The lowest score that hits where nothing else is said."""
    return 0.5 if criterion is centre_within_radius else 0.1


AnyHit = Hit | Criterion | str
"""A hit, its overlap or another callable, or the name of a criterion."""


def hit_of(hit: AnyHit | None, threshold: float | None = None) -> Hit:
    """The hit meant by an argument `hit` with `threshold` beside it, or the criterion's own.

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
    level = default_threshold(criterion) if threshold is None else threshold
    return Hit(criterion, level, relative)


def _named(name: str) -> tuple[bool, Criterion]:
    """Whether it is relative, and the criterion."""
    check_choice("hit", name, (*_criteria(), *overlap_names(*_ORIENTED)))
    if name in _CENTRES:
        return False, _CENTRES[name]
    relative = name.startswith(_RELATIVE)
    return relative, overlap_named(name.removeprefix(_RELATIVE), *_FAMILIES)


def _has_best_box(overlap: Criterion) -> bool:
    return isinstance(overlap, MaskBoxOverlap) and overlap.tversky_weights is not None


def _of_boxes(
    overlap: BoxOverlap | RotatedBoxOverlap, boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """In float64, so that a threshold such as 0.7 is met by 7/10; the box is the prediction."""
    lesions = plain(target["box"]).to(boxes.device).double()
    check_arcs(overlap.period, None, boxes=boxes, box=lesions)
    return overlap(boxes.double(), lesions, validate=False).mT


def _of_masks(
    overlap: MaskBoxOverlap | MaskRotatedBoxOverlap,
    boxes: Shaped[Tensor, "boxes coords"],
    target: Scan,
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
