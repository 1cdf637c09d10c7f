"""A row for each true lesion: where it lies, how large it is, and what was found of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from softoverlap._checks import check_choice
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures.hit import Hit
from softoverlap.measures.inputs import MaskInputs
from softoverlap.measures.lesionwise._metric import (
    RaterMasks,
    checked_raters,
    lesion_scans,
    spacings_of,
)
from softoverlap.measures.lesionwise.hits import MatchedLesions, lesion_hit, matched_lesions
from softoverlap.measures.lesionwise.maps import MATCHINGS, LesionMap, LesionRules, LesionScan


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


def compute_lesion_overlaps(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    num_classes: int | None = None,
    *,
    threshold: float = 0.5,
    target_threshold: float | None = None,
    matching: str = "many_to_one",
    hit: Hit | str = "touch",
    hit_threshold: float | None = None,
    connectivity: int = 26,
    min_mm3: float = 0.0,
    halo: float = 0.01,
    spacing: Sequence[float] | float | None = None,
    raters: RaterMasks | None = None,
    mask: VoxelWeights | None = None,
    ignore_index: int | None = None,
    validate: bool | None = None,
) -> list[LesionMatch]:
    """Soft Dice and IoU of each true lesion, with what is matched to it.

    Lesions are the connected components of the voxels at or above the threshold, each with its
    halo (see `lesions_from_mask`). A predicted lesion touches a true one where they share a voxel
    at or above both thresholds, and only what touches is matched:

    - "many_to_one": all predicted lesions that touch a true one are merged, so a lesion found in
      pieces is found; one that touches several counts in full for each.
    - "one_to_one": pairs of one true and one predicted lesion, with the highest total soft IoU
      there is (the assignment problem, solved exactly).

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of single-channel labels, background included.
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target and the raters; by default `threshold`.
        matching: "many_to_one" or "one_to_one".
        hit: What makes a matched lesion detected: "touch", any match; or "dice" or "iou", a soft
            score of at least `hit_threshold`.
        hit_threshold: The lowest score that hits, in (0, 1], by default 0.1; None with "touch".
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold. A network's
            map is positive everywhere: at 0 the halos fill the image.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor.
        raters: Masks of R raters, shape (B, R, C, *spatial): true lesions are then those of their
            union, and existence is the share of raters that touch each.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do. It
            scales sums and volumes, and does not move a probability below a threshold.
        ignore_index: Voxels with this label do not count.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        A row for each true lesion, by item, class and first voxel; none without lesions. For
        predicted lesions that match nothing see `compute_false_positives`.

    Raises:
        ValueError: If shapes differ, a probability lies outside [0, 1], an argument is out of its
            range, or no spacing is known.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 1.0]]])
        >>> pred = torch.tensor([[[0.6, 0.6, 0.0, 0.0, 0.0]]])
        >>> first, second = compute_lesion_overlaps(pred, target, spacing=2.0)
        >>> first.volume_mm3, first.box, round(first.soft_dice, 6), first.matched
        (4.0, (0, 2), 0.75, (0,))
        >>> second.detected, second.centre
        (False, (4.5,))
    """
    inputs = MaskInputs(include_background, num_classes, ignore_index, validate)
    rules = LesionRules(threshold, target_threshold, connectivity, halo, min_mm3)
    check_choice("matching", matching, MATCHINGS)
    chosen = lesion_hit(hit, hit_threshold)
    pair = inputs.values(y_pred, y, mask=mask)
    spacings = spacings_of(spacing, y, y_pred, needed=True)
    marks = checked_raters(raters, pair, include_background=include_background)
    return [
        row
        for item, channel, scan in lesion_scans(pair, rules, spacings, marks)
        for row in rows_of_scan(item, channel, scan, matched_lesions(scan, matching, chosen))
    ]


def rows_of_scan(
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
        centre = ndimage.center_of_mass(weights if weights.any() else owned)
        low = (axis.start + first for axis, first in zip(window, origin, strict=True))
        centres.append(tuple(float(c) + o + 0.5 for c, o in zip(centre, low, strict=True)))
    return centres


def _boxes(lesions: LesionMap, origin: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Tight boxes in the image, all minima, then all maxima."""
    boxes = []
    for window in ndimage.find_objects(lesions.core, max_label=len(lesions)):
        low = [axis.start + first for axis, first in zip(window, origin, strict=True)]
        high = [axis.stop + first for axis, first in zip(window, origin, strict=True)]
        boxes.append((*low, *high))
    return boxes
