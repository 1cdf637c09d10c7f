"""The lesions or boxes of one side of a case, and which of them count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from softoverlap.app.cohort.hit_rule import IGNORED, why_not_counted
from softoverlap.app.cohort.islands import cut, single_islands
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.boxes import centres, volume
from softoverlap.images import BoxFile
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask

UNKNOWN_SPACING = (1.0, 1.0, 1.0)


class StoredPoint(NamedTuple):
    """What a detector stored with its boxes: its score threshold, the rule, its smallest anchor."""

    score_threshold: float | None = None
    threshold_rule: str | None = None
    smallest_anchor: tuple[float, ...] | None = None


NOTHING_STORED = StoredPoint()


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
        spacing: Edges of a voxel in mm, 1 where they are unknown.
        not_counted: Why each does not count, empty if it does.
        stored: The operating point that the file of found boxes holds.

    Examples:
        >>> boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2]]).double()
        >>> marked_by_boxes(BoxFile(boxes), spacing=(1.0, 1.0, 2.0)).volumes
        [16.0]
    """

    boxes: Tensor
    volumes: list[float]
    centres: list[list[float]]
    existence: list[float]
    scores: Tensor | None
    lesions: list[Lesion] | None
    spacing: tuple[float, ...] = UNKNOWN_SPACING
    not_counted: tuple[str, ...] = ()
    stored: StoredPoint = NOTHING_STORED

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each does not count, empty if it does."""
        return self.not_counted or ("",) * len(self.boxes)

    @property
    def edges_mm(self) -> Tensor:
        """The edges of the tight boxes in mm, shape (N, 3)."""
        low, high = self.boxes.chunk(2, dim=1)
        return (high - low) * torch.tensor(self.spacing, dtype=torch.float64)

    def judged(self, settings: ScoreSettings, *, boxes: bool) -> Marked:
        """The same, where those too large for a box or marked by too few do not count either."""
        rows = zip(self.reasons, self.edges_mm.amax(dim=1).tolist(), self.existence, strict=True)
        reasons = (
            reason or why_not_counted(longest, existence, settings, boxes=boxes)
            for reason, longest, existence in rows
        )
        return replace(self, not_counted=tuple(reasons))

    def with_ignored(self, others: Marked) -> Marked:
        """These, and others that are ignored."""
        lesions = None if self.lesions is None else [*self.lesions, *(others.lesions or ())]
        return replace(
            self,
            boxes=torch.cat([self.boxes, others.boxes]),
            volumes=[*self.volumes, *others.volumes],
            centres=[*self.centres, *others.centres],
            existence=[*self.existence, *others.existence],
            scores=None,
            lesions=lesions,
            not_counted=(*self.reasons, *(IGNORED for _ in others.volumes)),
        )


def marked_by_boxes(file: BoxFile, *, spacing: Sequence[float] | None) -> Marked:
    """The boxes of a file; without a spacing volumes are unknown, and a voxel counts as 1 mm.

    Examples:
        >>> marked_by_boxes(BoxFile(torch.zeros(0, 6).double()), spacing=None).centres
        []
    """
    voxel_mm3 = math.nan if spacing is None else math.prod(spacing)
    volumes = (volume(file.boxes) * voxel_mm3).tolist()
    ignored = [] if file.ignored is None else file.ignored.tolist()
    return Marked(
        file.boxes,
        volumes,
        centres(file.boxes).tolist(),
        [1.0] * len(volumes),
        file.scores,
        None,
        spacing=UNKNOWN_SPACING if spacing is None else tuple(map(float, spacing)),
        not_counted=tuple(IGNORED if is_ignored else "" for is_ignored in ignored),
        stored=StoredPoint(file.score_threshold, file.threshold_rule, file.smallest_anchor),
    )


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
    parts = single_islands([(values, halo) for values in masks], cores)
    for window, inside in parts:
        cuts = [torch.from_numpy(cut(values, window, inside)) for values in masks]
        own = lesions_from_mask(
            cuts[0],
            spacing=spacing,
            threshold=settings.threshold,
            halo=halo,
            raters=torch.stack(cuts[1:]) if stack else None,
        )
        start = [axis.start or 0 for axis in window]
        lesions += [_moved(lesion, start) for lesion in own if _is_listed(lesion, settings)]
    boxes = [lesion.box.double() for lesion in lesions]
    return Marked(
        torch.stack(boxes) if lesions else torch.zeros(0, 6, dtype=torch.float64),
        [lesion.volume_mm3 for lesion in lesions],
        [lesion.centre.tolist() for lesion in lesions],
        [lesion.existence for lesion in lesions],
        torch.tensor([float(lesion.crop.max()) for lesion in lesions], dtype=torch.float64),
        lesions,
        spacing=tuple(map(float, spacing)),
    )


def _is_listed(lesion: Lesion, settings: ScoreSettings) -> bool:
    """Whether it is large enough, or ignored: what hits an ignored one of any size is not false."""
    is_ignored = lesion.existence < settings.ignore_below_existence
    return is_ignored or lesion.volume_mm3 >= settings.min_mm3


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
