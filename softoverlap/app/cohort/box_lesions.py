"""Found boxes against lesions, found lesions against true boxes, boxes against boxes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softoverlap._units import MM3_PER_ML
from softoverlap.app.cohort.islands import cut, islands
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.app.cohort.tables import LesionTables, lesion_columns, place_columns
from softoverlap.boxes import centres, volume
from softoverlap.images import BoxFile
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask
from softoverlap.measures import match_quality
from softoverlap.overlaps import box_dice, box_iou, mask_box_dice, mask_box_iou


@dataclass(frozen=True)
class Marked:
    """Lesions or boxes of one side, whichever its file holds.

    Args:
        boxes: Tight boxes, in voxels, float64, shape (N, 6).
        volumes: Their volumes in mm³, or NaN.
        centres: Their centres in voxels.
        existence: The share of raters that marked each.
        scores: A score each, or None.
        lesions: The lesions' soft masks, or None for boxes alone.

    Examples:
        >>> boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2]]).double()
        >>> marked_by_boxes(BoxFile(boxes), voxel_mm3=2.0).volumes
        [16.0]
    """

    boxes: Tensor
    volumes: list[float]
    centres: list[list[float]]
    existence: list[float]
    scores: Tensor | None
    lesions: list[Lesion] | None


def marked_by_boxes(file: BoxFile, *, voxel_mm3: float) -> Marked:
    """The boxes of a file.

    Examples:
        >>> marked_by_boxes(BoxFile(torch.zeros(0, 6).double()), voxel_mm3=1.0).centres
        []
    """
    volumes = (volume(file.boxes) * voxel_mm3).tolist()
    middles = centres(file.boxes).tolist()
    return Marked(file.boxes, volumes, middles, [1.0] * len(volumes), file.scores, None)


def marked_by_mask(
    mask: Tensor,
    raters: Tensor | None,
    *,
    spacing: Sequence[float],
    settings: ScoreSettings,
) -> Marked:
    """The lesions of a mask; the score of each is its highest probability.

    Args:
        mask: Probabilities, shape (D, H, W).
        raters: Masks of the raters, shape (R, D, H, W), or None.
        spacing: Edges of a voxel in mm.
        settings: The threshold, the halo and the smallest lesion.

    Returns:
        The lesions, in the order of their first voxel within each part of a large scan.

    Examples:
        >>> mask = torch.zeros(4, 4, 4)
        >>> mask[1:3, 1:3, 1:3] = 0.75
        >>> marked_by_mask(mask, None, spacing=[1, 1, 1], settings=ScoreSettings()).scores
        tensor([0.7500], dtype=torch.float64)
    """
    stack = [] if raters is None else [rater.numpy() for rater in raters]
    masks = [mask.numpy(), *stack]
    halo = min(settings.halo, settings.threshold)
    lesions: list[Lesion] = []
    cores = [(values, settings.threshold) for values in masks]
    parts = islands([(values, halo) for values in masks], cores)
    for window, inside in parts:
        cuts = [torch.from_numpy(cut(values, window, inside)) for values in masks]
        own = lesions_from_mask(
            cuts[0],
            spacing=spacing,
            threshold=settings.threshold,
            halo=halo,
            raters=torch.stack(cuts[1:]) if stack else None,
            min_mm3=settings.min_mm3,
        )
        start = [axis.start or 0 for axis in window]
        lesions += [_moved(lesion, start) for lesion in own]
    boxes = [lesion.box.double() for lesion in lesions]
    return Marked(
        torch.stack(boxes) if lesions else torch.zeros(0, 6, dtype=torch.float64),
        [lesion.volume_mm3 for lesion in lesions],
        [lesion.centre.tolist() for lesion in lesions],
        [lesion.existence for lesion in lesions],
        torch.tensor([float(lesion.crop.max()) for lesion in lesions], dtype=torch.float64),
        lesions,
    )


def box_lesions(pred: Marked, truth: Marked, *, settings: ScoreSettings) -> LesionTables:
    """Match what was found with what is there, where at least one side is boxes.

    A found one hits if its IoU is at least the settings' `hit_iou`: that of two boxes, or the soft
    IoU of a box and a lesion's mask. One takes one.

    Args:
        pred: Found boxes or lesions.
        truth: True lesions or boxes.
        settings: The lowest overlap that hits.

    Returns:
        Rows of true lesions, and the outcomes of the found boxes.

    Examples:
        >>> boxes = marked_by_boxes(BoxFile(torch.tensor([[0.0, 0, 0, 2, 2, 2]])), voxel_mm3=1.0)
        >>> box_lesions(boxes, boxes, settings=ScoreSettings()).lesions[0]["soft_dice"]
        1.0
    """
    iou, dice = _overlaps(pred, truth)
    outcomes = match_quality(
        iou,
        iou >= settings.hit_iou,
        boxes=pred.boxes,
        scores=pred.scores,
        lesion_boxes=truth.boxes,
        existence=truth.existence,
        sizes=truth.volumes,
    )
    lesions = []
    for number, box in enumerate(outcomes.box_of_lesion):
        hit = box is not None
        lesions.append(
            {
                "lesion": number,
                "volume_mm3": truth.volumes[number],
                "soft_dice": float(dice[number, box]) if hit else 0.0,
                "soft_iou": float(iou[number, box]) if hit else 0.0,
                "detected": hit,
                "existence": truth.existence[number],
                "n_pred": int(hit),
                "pred_volume_mm3": pred.volumes[box] if hit else 0.0,
                **place_columns(truth.boxes[number].tolist(), truth.centres[number]),
            }
        )
    false_mm3 = math.fsum(itertools.compress(pred.volumes, outcomes.false_positive.tolist()))
    columns = lesion_columns(lesions, outcomes, false_ml=false_mm3 / MM3_PER_ML)
    return LesionTables(columns, lesions, outcomes)


def _overlaps(pred: Marked, truth: Marked) -> tuple[Tensor, Tensor]:
    """IoU and Dice, true ones by found ones; a mask meets a box by its soft mask."""
    if not len(pred.boxes) or not len(truth.boxes):
        nothing = torch.zeros(len(truth.boxes), len(pred.boxes), dtype=torch.float64)
        return nothing, nothing
    if truth.lesions is not None:
        args = (truth.lesions, pred.boxes)
        return mask_box_iou(*args).double(), mask_box_dice(*args).double()
    if pred.lesions is not None:
        args = (pred.lesions, truth.boxes)
        return mask_box_iou(*args).T.double(), mask_box_dice(*args).T.double()
    return box_iou(truth.boxes, pred.boxes), box_dice(truth.boxes, pred.boxes)


def _moved(lesion: Lesion, start: list[int]) -> Lesion:
    """The lesion of a part in coordinates of the whole image, to be summed in float64."""
    shift = torch.tensor(start)
    return replace(
        lesion,
        crop=lesion.crop.double(),
        box=lesion.box + torch.cat([shift, shift]),
        offset=lesion.offset + shift,
        centre=lesion.centre + shift,
    )
