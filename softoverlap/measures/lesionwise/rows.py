"""A row for each true lesion: where it lies, how large it is, and what was found of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from softoverlap.lesion import centre_of_mass
from softoverlap.measures.lesionwise.hits import MatchedLesions
from softoverlap.measures.lesionwise.maps import LesionMap, LesionScan


@dataclass(frozen=True)
class LesionMatch:
    """One true lesion and the predicted lesions that are matched to it: a row of `lesions.csv`.

    Args:
        item: Which item of the batch it is of, from 0.
        channel: Which class, from 0; without the background if that does not count.
        lesion: Which lesion of the target, from 0 in the order of their first voxel.
        volume_mm3: Σ probability times the voxel's volume, halo included; an area in mm² in 2D.
        centre: Centre of mass in voxels (a single voxel `i` has centre `i + 0.5`), a number an
            axis.
        box: Tight box around the voxels at or above the threshold, all minima, then all maxima.
        soft_dice: Soft Dice with the matched lesions taken together; 0 without any.
        soft_iou: Soft IoU with them.
        detected: Whether the hit rule is met.
        existence: Share of raters that marked the lesion; 1 without raters.
        n_pred: How many predicted lesions are matched to it.
        matched: Which ones, from 0 in the order of their first voxel.
        pred_volume_mm3: Their volume, halos included.

    Examples:
        >>> from dataclasses import asdict
        >>> row = LesionMatch(
        ...     item=0, channel=0, lesion=0, volume_mm3=2.0, centre=(1.0,), box=(0, 2),
        ...     soft_dice=0.0, soft_iou=0.0, detected=False, existence=1.0, n_pred=0,
        ...     matched=(), pred_volume_mm3=0.0,
        ... )
        >>> asdict(row)["volume_mm3"]
        2.0
    """

    item: int
    channel: int
    lesion: int
    volume_mm3: float
    centre: tuple[float, ...]
    box: tuple[int, ...]
    soft_dice: float
    soft_iou: float
    detected: bool
    existence: float
    n_pred: int
    matched: tuple[int, ...]
    pred_volume_mm3: float


def lesion_rows(
    item: int, channel: int, scan: LesionScan, lesions: MatchedLesions
) -> list[LesionMatch]:
    """A row for each true lesion of one item and class, in their order."""
    if not len(scan.truth):
        return []
    centres, boxes = _centres(scan.truth, scan.origin), _boxes(scan.truth, scan.origin)
    partners = np.split(lesions.pairs.indices, lesions.pairs.indptr[1:-1])
    return [
        LesionMatch(
            item=item,
            channel=channel,
            lesion=number,
            volume_mm3=float(lesions.volumes[number]),
            centre=centres[number],
            box=boxes[number],
            soft_dice=float(lesions.dice[number]),
            soft_iou=float(lesions.iou[number]),
            detected=bool(lesions.detected[number]),
            existence=float(scan.truth.existence[number]),
            n_pred=len(partners[number]),
            matched=tuple(sorted(map(int, partners[number]))),
            pred_volume_mm3=float(lesions.pred_volumes[number]),
        )
        for number in range(len(scan.truth))
    ]


def _centres(lesions: LesionMap, origin: tuple[int, ...]) -> list[tuple[float, ...]]:
    """Centres of mass in the image; of the voxels where a lesion of raters has no mass."""
    centres = []
    windows = ndimage.find_objects(lesions.owned, max_label=len(lesions))
    for number, window in enumerate(windows, start=1):
        owned = lesions.owned[window] == number
        weights = np.where(owned, lesions.values[window], 0)
        centre = centre_of_mass(torch.from_numpy(weights if weights.any() else owned))
        low = (axis.start + first for axis, first in zip(window, origin, strict=True))
        centres.append(tuple(c + o for c, o in zip(centre.tolist(), low, strict=True)))
    return centres


def _boxes(lesions: LesionMap, origin: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Tight boxes in the image, all minima, then all maxima."""
    boxes = []
    for window in ndimage.find_objects(lesions.core, max_label=len(lesions)):
        low = [axis.start + first for axis, first in zip(window, origin, strict=True)]
        high = [axis.stop + first for axis, first in zip(window, origin, strict=True)]
        boxes.append((*low, *high))
    return boxes
