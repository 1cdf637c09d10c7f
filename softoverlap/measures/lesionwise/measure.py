"""What the lesion-wise measures share: from batches to counts of each item and class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from softoverlap._checks import check_probabilities, check_tensors
from softoverlap._types import VoxelWeights, plain
from softoverlap.measures.inputs import MaskBatch, Spacing, knows_spacing, voxel_spacing
from softoverlap.measures.lesionwise.maps import LesionRules, LesionScan, lesion_scan
from softoverlap.measures.measure import MaskMeasure, Statistics

RaterMasks = Shaped[Tensor, "batch raters marked *spatial"]
Place = tuple[int, int, LesionScan]
"""An item, a class, and the lesions there."""


@dataclass(frozen=True, kw_only=True)
class LesionMeasure(MaskMeasure):
    """Counts of the lesions of whole scans, which add up over items but not over parts of one.

    A lesion is a connected component of the voxels at or above the threshold, with its halo (see
    `lesions_from_mask`). `statistics` takes `spacing` too, in place of the setting. Weights of
    voxels (`mask`) scale sums and volumes, and move no probability below a threshold.

    Args:
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target and the raters; by default `threshold`.
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold. A network's
            map is positive everywhere: at 0 the halos fill the image.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor. Needed only
            where volumes matter; else it only settles to which of two lesions a voxel between
            them belongs.
    """

    threshold: float = 0.5
    target_threshold: float | None = None
    connectivity: int = 26
    halo: float = 0.01
    min_mm3: float | None = 0.0
    spacing: Spacing | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rules  # noqa: B018 (refuses what makes no lesion)

    @property
    def rules(self) -> LesionRules:
        """What makes a lesion."""
        return LesionRules(
            self.threshold,
            self.target_threshold,
            self.connectivity,
            self.halo,
            0.0 if self.min_mm3 is None else self.min_mm3,
        )

    @property
    def in_mm(self) -> bool:
        """Whether volumes matter."""
        return bool(self.min_mm3)

    @property
    def margin(self) -> int:
        """Voxels around the lesions that are looked at."""
        return 0

    def check_axes(self, ndim: int) -> None:
        """Refuse images of so many axes that this measure cannot count."""

    @abstractmethod
    def count(self, scan: LesionScan) -> Sequence[float]:
        """The statistics of one item and class."""

    def statistics(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: VoxelWeights | None = None,
        spacing: Spacing | None = None,
    ) -> Statistics:
        """The counts of each item and class; see `Measure.statistics`."""
        return self.counts(y_pred, y, mask=mask, spacing=spacing)

    def counts(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: Tensor | None,
        spacing: Spacing | None,
        raters: Tensor | None = None,
    ) -> Statistics:
        """The counts of each item and class, where the raters may tell the true lesions."""
        batch = self.batch(y_pred, y, mask)
        self.check_axes(len(batch.spatial))
        edges = self._spacings(y_pred, y, spacing, needed=self.in_mm)
        size = (batch.items, batch.channels, self.width)
        counts = torch.zeros(size, dtype=torch.float64)
        for item, channel, scan in self.scans(batch, edges, raters):
            counts[item, channel] = torch.tensor(self.count(scan), dtype=torch.float64)
        return counts.to(batch.device)

    def scans(
        self,
        batch: MaskBatch,
        spacings: Sequence[tuple[float, ...] | None],
        raters: Tensor | None = None,
    ) -> Iterator[Place]:
        """Item, class and lesions, one after the other."""
        marks = None if raters is None else _checked_raters(raters, batch)
        for number, spacing in enumerate(spacings):
            item = batch.item(number)
            for channel in range(batch.channels):
                pair = item.values(channel)
                counted = None if pair.counted is None else pair.counted[0, 0]
                own = None if marks is None else _counted_marks(marks[number, :, channel], counted)
                scan = lesion_scan(
                    pair.pred[0, 0],
                    pair.truth[0, 0],
                    rules=self.rules,
                    spacing=spacing,
                    raters=own,
                    counted=counted,
                    margin=self.margin,
                )
                yield number, channel, scan

    def _spacings(
        self, y_pred: Tensor, y: Tensor, spacing: Spacing | None, *, needed: bool
    ) -> Sequence[tuple[float, ...] | None]:
        """Edges of each item's voxels in mm; None where they are unknown and nothing is in mm."""
        if y.ndim > 5:
            raise ValueError(
                "y must have shape (B, C, *spatial) with one to three spatial axes, "
                f"got shape {tuple(y.shape)}"
            )
        spacing = self.spacing if spacing is None else spacing
        known = spacing is not None or knows_spacing(y) or knows_spacing(y_pred)
        if not known and not needed:
            return [None] * len(y)
        return voxel_spacing(spacing, y, y_pred, items=len(y), ndim=y.ndim - 2)


@dataclass(frozen=True, kw_only=True)
class RaterLesionMeasure(LesionMeasure):
    """Counts of lesions that several raters may have marked: `statistics` takes `raters` too."""

    def statistics(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: VoxelWeights | None = None,
        spacing: Spacing | None = None,
        raters: RaterMasks | None = None,
    ) -> Statistics:
        """The counts of each item and class; see `Measure.statistics`.

        Args:
            y_pred: The prediction.
            y: The target.
            mask: How much each voxel counts.
            spacing: Edges of a voxel in mm, in place of the setting.
            raters: Masks of R raters, shape (B, R, C, *spatial): true lesions are then those of
                their union, and existence is the share of raters that touch each. Without, it
                is 1.

        Returns:
            Float64 numbers, shape (B, C, width).

        Raises:
            ValueError: If shapes differ, a probability lies outside [0, 1] or no spacing is known
                where volumes matter.
        """
        return self.counts(y_pred, y, mask=mask, spacing=spacing, raters=raters)


def _checked_raters(raters: Tensor, batch: MaskBatch) -> RaterMasks:
    """Raters' masks (B, R, C, *spatial) of the classes that count."""
    check_tensors(raters=raters)
    classes, spatial = batch.channels, batch.spatial
    marks = plain(raters).detach()
    if batch.classes.start and marks.ndim > 2 and marks.shape[2] == batch.classes.stop:
        marks = marks[:, :, 1:]
    right = (batch.items, classes, *spatial)
    if marks.ndim != len(spatial) + 3 or not marks.shape[1] or marks[:, 0].shape != right:
        expected = ", ".join([str(batch.items), "R > 0", str(classes), *map(str, spatial)])
        raise ValueError(f"raters must have shape ({expected}), got {tuple(raters.shape)}")
    return marks.to(batch.device)


def _counted_marks(marks: Tensor, counted: Tensor | None) -> Tensor:
    """The raters' masks of one class, zero where nothing counts."""
    if counted is not None:
        marks = marks.masked_fill(~(counted > 0), 0)
    check_probabilities(raters=marks, validate=True)
    return marks
