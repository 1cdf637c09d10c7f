"""Surface Dice and Hausdorff distance of soft masks at a stated threshold, measured by MONAI.

A soft mask has no surface until it is cut: the threshold has no default. What MONAI answers where a
mask is empty depends on the percentile (infinity, or NaN, which a mean leaves out and which so
flatters a network that misses everything): empty masks never reach it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from torch import Tensor

from softoverlap._checks import check_choice, check_number, check_threshold
from softoverlap._types import VoxelWeights
from softoverlap.measures import (
    MaskBatch,
    MaskMeasure,
    MaskPair,
    Spacing,
    reaches,
    voxel_spacing,
)

Edges = tuple[float, ...]
_DISTANCES = ("euclidean", "chessboard", "taxicab")


@dataclass(frozen=True, kw_only=True)
class SurfaceMeasure(MaskMeasure):
    """A number of the surfaces of whole scans, which does not add up; `mask` is of 0 and 1.

    `statistics` takes `spacing` too, in place of the setting. `details` counts the items of which
    exactly one mask is empty. Voxels that do not count are background in both masks, as in MONAI.

    Args:
        threshold: Lowest probability inside the predicted mask, in (0, 1].
        target_threshold: The same of the target, by default `threshold`.
        include_background: Whether channel 0 counts where there are several, by default not.
        distance_metric: "euclidean" in mm, or "chessboard" or "taxicab" in voxels.
        spacing: Edges of a voxel in mm; by default those of a MetaTensor.
        empty: Score where both masks are empty, by default NaN.
    """

    include_background: bool = False
    threshold: float
    target_threshold: float | None = None
    distance_metric: str = "euclidean"
    spacing: Spacing | None = None
    empty: float = math.nan

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {"threshold": self.threshold, "target_threshold": self.target_threshold}
        check_threshold(**{name: value for name, value in given.items() if value is not None})
        check_choice("distance_metric", self.distance_metric, _DISTANCES)

    @property
    def width(self) -> int:
        """The number, NaN where both masks are empty, infinity where one is."""
        return 1

    @property
    def adds_up(self) -> bool:
        """There is no surface of a data set."""
        return False

    @property
    @abstractmethod
    def score_of_one_empty(self) -> float:
        """The score where exactly one mask is empty."""

    @abstractmethod
    def measured(self, pred: Tensor, truth: Tensor, edges: Edges, channel: int) -> float:
        """The number of two hard masks (1, 1, *spatial)."""

    def check_classes(self, classes: int) -> None:
        """Refuse settings that are not for so many classes."""

    def statistics(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: VoxelWeights | None = None,
        spacing: Spacing | None = None,
    ) -> Float[Tensor, "batch channel 1"]:
        """The number of each item and class; see `Measure.statistics`."""
        batch = self.batch(y_pred, y, mask)
        if len(batch.spatial) not in (2, 3):
            raise ValueError(
                f"y_pred must have 2 or 3 spatial axes to have a surface, got {len(batch.spatial)}"
            )
        _check_whole(batch.counted())
        self.check_classes(batch.channels)
        edges = self._edges(batch, y_pred, y, self.spacing if spacing is None else spacing)
        size = (batch.items, batch.channels, 1)
        numbers = torch.full(size, torch.nan, dtype=torch.float64, device=batch.device)
        for number in range(batch.items):
            item = batch.item(number)
            for channel in range(batch.channels):
                masks = self._cut(item.values(channel))
                numbers[number, channel] = self._of_masks(*masks, edges[number], channel)
        return numbers

    def score(self, statistics: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape"]:
        """The number, with the scores of empty masks in their places."""
        number = statistics[..., 0]
        scored = torch.where(number.isinf(), self.score_of_one_empty, number)
        return torch.where(number.isnan(), self.empty, scored)

    def details(self, statistics: Float[Tensor, "items 1"]) -> int:
        """In how many items exactly one mask was empty."""
        return int(statistics.isinf().sum())

    def _cut(self, pair: MaskPair) -> tuple[Tensor, Tensor]:
        """Both hard masks; at a threshold, rounded as the map is, is inside."""
        theirs = self.threshold if self.target_threshold is None else self.target_threshold
        return reaches(pair.pred, self.threshold), reaches(pair.truth, theirs)

    def _of_masks(self, pred: Tensor, truth: Tensor, edges: Edges, channel: int) -> float:
        some = [bool(mask.any()) for mask in (pred, truth)]
        if not all(some):
            return math.inf if any(some) else math.nan
        box = _box_of(pred | truth)
        return self.measured(pred[box].float(), truth[box].float(), edges, channel)

    def _edges(
        self, batch: MaskBatch, y_pred: Tensor, y: Tensor, spacing: Spacing | None
    ) -> list[Edges]:
        ndim = len(batch.spatial)
        if self.distance_metric != "euclidean":
            return [(1.0,) * ndim] * batch.items  # MONAI counts voxels in its other distances
        return voxel_spacing(spacing, y_pred, y, items=batch.items, ndim=ndim)


@dataclass(frozen=True, kw_only=True)
class ThresholdedSurfaceDice(SurfaceMeasure):
    """Normalised surface Dice at a threshold, in [0, 1]: 0 where exactly one mask is empty.

    It is the share of both surfaces that lies within a tolerance of the other one. MONAI's
    distances are float32.

    Args:
        tolerance: Of each class that counts, or one for all, in the unit of the distances.
        use_subvoxels: Weigh elements of the surface by their area, as DeepMind's package does.

    References:
        Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and
        neck anatomy for radiotherapy, https://arxiv.org/abs/1809.04430

    Examples:
        >>> import torch
        >>> pred = torch.zeros(1, 1, 8, 8)
        >>> pred[..., 2:6, 2:6] = 0.6
        >>> ThresholdedSurfaceDice(tolerance=1.0, threshold=0.5, spacing=1.0)(pred, pred)
        tensor([[1.]], dtype=torch.float64)
    """

    tolerance: Sequence[float] | float
    use_subvoxels: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for tolerance in self._tolerances(1):
            check_number(tolerance=tolerance)
            if not 0 <= tolerance < math.inf:
                raise ValueError(
                    f"tolerance must hold finite numbers of at least 0, got {tolerance}"
                )

    @property
    def score_of_one_empty(self) -> float:
        """No surface is near one that is not there."""
        return 0.0

    def measured(self, pred: Tensor, truth: Tensor, edges: Edges, channel: int) -> float:
        """The share of both surfaces within the class's tolerance."""
        return compute_surface_dice(
            pred,
            truth,
            [float(self._tolerances(channel + 1)[channel])],
            include_background=True,
            distance_metric=self.distance_metric,
            spacing=edges,
            use_subvoxels=self.use_subvoxels,
        ).item()

    def check_classes(self, classes: int) -> None:
        """Tolerances are one, or as many as the classes that count."""
        if len(self._tolerances(classes)) != classes:
            raise ValueError(
                f"tolerance must hold a number for each of {classes} classes, "
                f"got {len(self._tolerances(classes))}"
            )

    def _tolerances(self, classes: int) -> Sequence[float]:
        several = isinstance(self.tolerance, Sequence) and not isinstance(self.tolerance, str)
        return self.tolerance if several else [self.tolerance] * classes  # pyright: ignore


@dataclass(frozen=True, kw_only=True)
class ThresholdedHausdorff(SurfaceMeasure):
    """Hausdorff distance of the surfaces at a threshold, in mm; lower is better.

    Where exactly one mask is empty the distance is infinite, and so is a mean over it: name a
    penalty in mm (`one_empty=374.0`, say), or NaN to leave such scans out; `details` says how many
    there were. MONAI's distances are float32.

    Args:
        percentile: Of each direction's distances, in [1, 100]; None for the maximum.
        directed: Only from the prediction's surface to the target's.
        one_empty: Distance where exactly one mask is empty, by default infinity.

    References:
        Huttenlocher et al., Comparing images using the Hausdorff distance,
        https://doi.org/10.1109/34.232073

    Examples:
        >>> import torch
        >>> pred = torch.zeros(1, 1, 8, 8)
        >>> pred[..., 2:6, 2:6] = 0.6
        >>> ThresholdedHausdorff(threshold=0.5, spacing=2.0)(pred, pred.roll(1, dims=2))
        tensor([[2.]], dtype=torch.float64)
    """

    percentile: float | None = 95.0
    directed: bool = False
    one_empty: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.percentile is None:
            return
        check_number(percentile=self.percentile)
        if not 1 <= self.percentile <= 100:  # MONAI takes 0 for 100; 0.95 is meant for 95
            raise ValueError(f"percentile must lie in [1, 100] or be None, got {self.percentile!r}")

    @property
    def score_of_one_empty(self) -> float:
        """The penalty."""
        return self.one_empty

    def measured(self, pred: Tensor, truth: Tensor, edges: Edges, channel: int) -> float:
        """The distance, or the larger one of both directions."""
        return compute_hausdorff_distance(
            pred,
            truth,
            include_background=True,
            distance_metric=self.distance_metric,
            percentile=self.percentile,
            directed=self.directed,
            spacing=edges,
        ).item()


def _check_whole(counted: Tensor | None) -> None:
    if counted is None:
        return
    between = (counted > 0) & (counted < 1)
    if between.any():
        value = counted[between][0].item()
        raise ValueError(f"mask must hold 0 or 1 where surfaces are measured, got {value:g}")


def _box_of(mask: Tensor) -> tuple[slice, ...]:
    """Where a mask (1, 1, *spatial) is, and a voxel around it: MONAI's surfaces need no more."""
    box = [slice(None), slice(None)]
    for axis in range(2, mask.ndim):
        others = [other for other in range(mask.ndim) if other != axis]
        inside = mask.any(dim=others).nonzero()
        box.append(slice(max(0, int(inside[0]) - 1), int(inside[-1]) + 2))
    return tuple(box)
