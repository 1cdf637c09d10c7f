"""Masks and boxes brought together: ratios of mass, volume and size, of all or aligned pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_boxes, is_traced
from softoverlap._types import plain, score_dtype
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import (
    SummedVolume,
    as_summed_volume,
    centres_of_mass,
    kernels_take,
    mass_of_pairs,
    meeting_pairs,
    scores_by_kernels,
    summed_volumes,
    supports,
)

AnyMasks = Shaped[Tensor, "lesions *spatial"] | Sequence[Lesion] | SummedVolume
Pairwise = Float[Tensor, "lesions boxes"]
Aligned = Float[Tensor, "pairs"]

Ratio = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A score from (mass, volume of the box, size of the mask)."""

Penalty = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What is taken off, float64, from (centre of mass, support of the mask, box); they broadcast."""

VOXELS_AT_ONCE = 1 << 24  # of whole-image masks: their tables take 8 bytes a voxel
_PAIRS_PER_BLOCK = 1 << 20
_FARTHEST = 2.0**300


def in_parts(
    score: Callable[[SummedVolume, Tensor, torch.dtype], Tensor],
    masks: AnyMasks,
    boxes: Tensor,
    validate: bool | None,
    at_least: torch.dtype | None = None,
) -> Tensor:
    """The scores of tables and boxes, of a type that the boxes decide as they were given.

    Those of large masks are never held all at once.
    """
    if not isinstance(masks, Tensor) or is_traced() or masks.numel() <= VOXELS_AT_ONCE:
        volume, moved = prepared(masks, boxes, validate)
        return score(volume, moved, result_dtype(volume, boxes, at_least))
    _check_axes(masks, boxes)
    rows: list[Tensor] = []
    for volume in summed_volumes(masks, VOXELS_AT_ONCE, validate=validate):
        dtype = result_dtype(volume, boxes, at_least)
        rows.append(score(volume, _fitting(boxes, volume, False if rows else validate), dtype))
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def all_ratios(
    ratio: Ratio,
    volume: SummedVolume,
    boxes: Tensor,
    dtype: torch.dtype,
    *,
    form: str | None = None,
) -> Tensor:
    """The ratio of all pairs; those that don't meet have 0 without being read.

    A `form` that is the name of a ratio says that this is it, and lets a GPU form it on the way.
    """
    if form is not None and kernels_take(volume, boxes):
        return scores_by_kernels(volume, boxes, form, getattr(ratio, "keywords", {}), dtype)
    masks, count = volume.starts.shape[0], boxes.shape[0]  # no len(), which a graph forgets
    result = torch.zeros(masks * count, dtype=dtype, device=volume.device)
    score_of = mass_of_pairs if form == "mass" else partial(ratio_of, ratio)
    for rows, columns in meeting_pairs(volume, boxes):
        score = score_of(volume, boxes, rows, columns).to(dtype)
        result.index_put_((rows * count + columns,), score)
    return result.view(masks, count)


def check_as_many(masks: AnyMasks, boxes: Tensor) -> None:
    """Aligned forms have a mask for each box."""
    if len(masks) != len(boxes):
        raise ValueError(f"masks and boxes must be as many, got {len(masks)} and {len(boxes)}")


def aligned_ratios(ratio: Ratio, volume: SummedVolume, boxes: Tensor) -> Tensor:
    """The ratio of mask i and box i, float64."""
    check_as_many(volume, boxes)
    rows = torch.arange(volume.starts.shape[0], device=volume.device)
    return ratio_of(ratio, volume, boxes, rows, rows)


def ratio_of(
    ratio: Ratio, volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor
) -> Aligned:
    """The ratio of the pairs, formed in float64."""
    mass = mass_of_pairs(volume, boxes, rows, columns)
    if not is_traced() and len(columns) < len(boxes):
        box_volumes = geometry.volume(within_reach(boxes[columns]))
    else:
        box_volumes = geometry.volume(within_reach(boxes))[columns]
    return ratio(mass, box_volumes, volume.sizes[rows])


def less_penalty(
    score: Tensor, penalty: Penalty, volume: SummedVolume, boxes: Tensor
) -> Float[Tensor, "lesions boxes"]:
    """The score of all pairs less their penalty; in place where no gradient asks for the score."""
    centre, support = centres_of_mass(volume), supports(volume)
    in_place, rows = not score.requires_grad and not is_traced(), []
    step = max(1, _PAIRS_PER_BLOCK // max(1, len(boxes)))
    blocks = [slice(start, start + step) for start in range(0, len(volume), step)]
    for some in [slice(None)] if is_traced() else blocks:
        taken = penalty(centre[some, None], support[some, None], boxes[None])
        taken = torch.where(volume.sizes[some, None] == 0, 0, taken).to(score.dtype)
        rows.append(score[some].sub_(taken) if in_place else score[some] - taken)
    return score if in_place else torch.cat(rows)


def aligned_penalty(penalty: Penalty, volume: SummedVolume, boxes: Tensor) -> Aligned:
    """The penalty of mask i and box i, float64; an empty mask has no centre, so it has none."""
    taken = penalty(centres_of_mass(volume), supports(volume), boxes)
    return torch.where(volume.sizes == 0, 0, taken)


def prepared(masks: AnyMasks, boxes: Tensor, validate: bool | None) -> tuple[SummedVolume, Tensor]:
    """Tables of the masks, and the boxes as a plain tensor; both checked."""
    _check_axes(masks, boxes)
    volume = as_summed_volume(masks, validate=validate)
    return volume, _fitting(boxes, volume, validate)


def _fitting(boxes: Tensor, volume: SummedVolume, validate: bool | None) -> Tensor:
    """The boxes as a plain tensor, if they fit the masks."""
    check_boxes(boxes=boxes, ndim=volume.ndim, validate=validate)
    if boxes.device != volume.device:
        raise ValueError(
            f"boxes must be on {volume.device}, where the masks are, got {boxes.device}"
        )
    return volume.unwrapped(plain(boxes), validate=validate)


def within_reach(boxes: Tensor) -> Tensor:
    """In float64, and no farther than products and squares stay finite; scores there are 1e-90."""
    return boxes.to(torch.float64).clamp(-_FARTHEST, _FARTHEST)


def result_dtype(
    volume: SummedVolume, boxes: Tensor, at_least: torch.dtype | None = None
) -> torch.dtype:
    """Type of the scores of masks and boxes as they were given."""
    dtype = score_dtype(torch.empty(0, dtype=volume.dtype), boxes)
    return dtype if at_least is None else torch.promote_types(dtype, at_least)


def _check_axes(masks: AnyMasks, boxes: Tensor) -> None:
    """A batch or channel axis is no spatial one."""
    if not isinstance(masks, Tensor) or not isinstance(boxes, Tensor) or boxes.ndim != 2:
        return
    if boxes.shape[1] and boxes.shape[1] % 2 == 0 and masks.ndim - 1 > boxes.shape[1] // 2:
        raise ValueError(
            f"masks must have shape (K, *spatial) with {boxes.shape[1] // 2} spatial axes for "
            f"boxes of shape {tuple(boxes.shape)}, got {tuple(masks.shape)}"
        )
