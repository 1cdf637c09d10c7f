"""How much of a lesion that is too large for a box the found boxes cover together."""

from __future__ import annotations

import torch
from torch import Tensor

from softoverlap.app.cohort.marked import Marked
from softoverlap.app.cohort.matches import Coverage


def coverage(truth: Marked, number: int, pred: Marked) -> Coverage:
    """The volume of a lesion, and how much of it is covered from each score on, in mm³.

    A voxel is covered where a box holds its centre; a lesion without a mask has the voxels that its
    own box covers.

    Args:
        truth: The true lesions.
        number: Which of them.
        pred: The found boxes.

    Returns:
        `volume_mm3`, and `steps`: pairs of a score, None where boxes have none, and a volume, by
        descending score.

    Examples:
        >>> from softoverlap.app.cohort.marked import marked_by_boxes
        >>> from softoverlap.images import BoxFile
        >>> whole, half = (
        ...     marked_by_boxes(BoxFile(torch.tensor([[0.0, 0, 0, edge, 2, 2]])), spacing=None)
        ...     for edge in (4, 2)
        ... )
        >>> coverage(whole, 0, half)
        {'volume_mm3': 16.0, 'steps': [(None, 8.0)]}
    """
    mask, offset = _mask(truth, number)
    voxel_mm3 = truth.spacing[0] * truth.spacing[1] * truth.spacing[2]
    left, covered, steps = mask.clone(), 0.0, []
    scores = pred.scores
    order = range(len(pred.boxes)) if scores is None else scores.argsort(descending=True).tolist()
    for box in order:
        window = _window(pred.boxes[box] - torch.cat([offset, offset]), mask.shape)
        gained = float(left[window].sum())
        if gained > 0:
            left[window] = 0
            covered += gained
            steps.append((None if scores is None else float(scores[box]), covered * voxel_mm3))
    return {"volume_mm3": float(mask.sum()) * voxel_mm3, "steps": steps}


def _mask(truth: Marked, number: int) -> tuple[Tensor, Tensor]:
    """The lesion's mask in float64 and its first voxel; ones in the box of a lesion without."""
    if truth.lesions is not None:
        lesion = truth.lesions[number]
        return lesion.crop.double().clone(), lesion.offset.double()
    first, end = _voxels(truth.boxes[number])
    return torch.ones(*(end - first).clamp(min=0).tolist(), dtype=torch.float64), first.double()


def _window(box: Tensor, shape: torch.Size) -> tuple[slice, ...]:
    """The voxels of a crop that a box covers."""
    sides = torch.tensor(shape)
    first, end = (edge.clamp(min=0).minimum(sides).tolist() for edge in _voxels(box))
    return tuple(slice(*ends) for ends in zip(first, end, strict=True))


def _voxels(box: Tensor) -> tuple[Tensor, Tensor]:
    """The first voxel whose centre a box holds on each axis, and the first one beyond them."""
    first, end = (box - 0.5).ceil().long().chunk(2)
    return first, end
