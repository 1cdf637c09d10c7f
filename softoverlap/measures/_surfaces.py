"""From soft masks to surfaces at a threshold, and MONAI's measures of them.

What MONAI answers where a mask is empty depends on the percentile (infinity, or NaN, which a mean
leaves out and which so flatters a network that misses everything): empty masks never reach it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from torch import Tensor

from softoverlap._checks import check_choice, check_number, check_threshold
from softoverlap.measures.mask_inputs import MaskInputs, MaskPair, voxel_spacing
from softoverlap.measures.near import in_dtype

Edges = tuple[float, ...]
_DISTANCES = ("euclidean", "chessboard", "taxicab")


@dataclass(frozen=True)
class SurfaceDice:
    """MONAI's normalised surface Dice, with a tolerance a class or one for all."""

    tolerances: Sequence[float] | float
    distance_metric: str
    use_subvoxels: bool

    def __post_init__(self) -> None:
        check_choice("distance_metric", self.distance_metric, _DISTANCES)
        one = isinstance(self.tolerances, int | float)
        for tolerance in [self.tolerances] if one else self.tolerances:  # pyright: ignore[reportGeneralTypeIssues]
            if not 0 <= tolerance < math.inf:
                raise ValueError(
                    f"class_thresholds must hold finite tolerances of at least 0, got {tolerance}"
                )

    def __call__(self, pred: Tensor, truth: Tensor, edges: Edges, channel: int) -> float:
        """The share of both surfaces within the class's tolerance."""
        one = isinstance(self.tolerances, int | float)
        tolerance = self.tolerances if one else self.tolerances[channel]  # pyright: ignore[reportIndexIssue]
        return compute_surface_dice(
            pred,
            truth,
            [float(tolerance)],  # pyright: ignore[reportArgumentType]
            include_background=True,
            distance_metric=self.distance_metric,
            spacing=edges,
            use_subvoxels=self.use_subvoxels,
        ).item()

    def check_classes(self, channels: int) -> None:
        """Tolerances are one, or as many as the classes that count."""
        if not isinstance(self.tolerances, int | float) and len(self.tolerances) != channels:
            raise ValueError(
                f"class_thresholds must hold a tolerance for each of {channels} classes, "
                f"got {len(self.tolerances)}"
            )


@dataclass(frozen=True)
class Hausdorff:
    """MONAI's Hausdorff distance at a percentile of each direction's distances."""

    distance_metric: str
    percentile: float | None
    directed: bool

    def __post_init__(self) -> None:
        check_choice("distance_metric", self.distance_metric, _DISTANCES)
        if self.percentile is None:
            return
        check_number(percentile=self.percentile)
        if not 1 <= self.percentile <= 100:  # MONAI takes 0 for 100; 0.95 is meant for 95
            raise ValueError(f"percentile must lie in [1, 100] or be None, got {self.percentile!r}")

    def __call__(self, pred: Tensor, truth: Tensor, edges: Edges, channel: int) -> float:
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

    def check_classes(self, channels: int) -> None:
        """Any number of classes will do."""


SurfaceMeasure = SurfaceDice | Hausdorff


@dataclass(frozen=True)
class Cut:
    """Thresholds that turn soft masks into hard ones; at a threshold is inside."""

    threshold: float
    target_threshold: float | None

    def __post_init__(self) -> None:
        given = {"threshold": self.threshold, "target_threshold": self.target_threshold}
        check_threshold(**{name: value for name, value in given.items() if value is not None})

    def __call__(self, pair: MaskPair, y_pred: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Both hard masks; thresholds are rounded as the maps that came are."""
        theirs = self.threshold if self.target_threshold is None else self.target_threshold
        pred = pair.pred >= in_dtype(self.threshold, y_pred.dtype)
        return pred, pair.truth >= in_dtype(theirs, y.dtype)


def measured(
    measure: SurfaceMeasure,
    cut: Cut,
    inputs: MaskInputs,
    y_pred: Tensor,
    y: Tensor,
    *,
    mask: Tensor | None,
    spacing: Sequence[float] | float | None,
) -> Float[Tensor, "batch channel"]:
    """The measure of each item and class; NaN where both masks are empty, inf where one is."""
    pair = inputs(y_pred, y, mask=mask)
    if pair.pred.ndim not in (4, 5):
        raise ValueError(
            f"y_pred must have 2 or 3 spatial axes to have a surface, got {pair.pred.ndim - 2}"
        )
    _check_whole(pair.counted)
    measure.check_classes(pair.pred.shape[1])
    items, ndim = len(pair.pred), pair.pred.ndim - 2
    edges = [(1.0,) * ndim] * items  # MONAI counts voxels in its other distances
    if measure.distance_metric == "euclidean":
        edges = voxel_spacing(spacing, y_pred, y, items=items, ndim=ndim)
    return _each(measure, *cut(pair, y_pred, y), edges)


def filled(found: Tensor, empty: float, one_empty: float) -> Tensor:
    """What was measured, with the scores of empty masks in their places."""
    scored = torch.where(found.isinf(), one_empty, found)
    return torch.where(found.isnan(), empty, scored)


def _each(
    measure: SurfaceMeasure,
    pred: Bool[Tensor, "batch channel *spatial"],
    truth: Bool[Tensor, "batch channel *spatial"],
    edges: Sequence[Edges],
) -> Float[Tensor, "batch channel"]:
    found = torch.full(pred.shape[:2], torch.nan, dtype=torch.float64, device=pred.device)
    for item, channel in np.ndindex(*found.shape):
        masks = pred[item, channel], truth[item, channel]
        some = [bool(mask.any()) for mask in masks]
        if all(some):
            first, second = (mask[None, None].float() for mask in masks)
            found[item, channel] = measure(first, second, edges[item], channel)
        elif any(some):
            found[item, channel] = torch.inf
    return found


def _check_whole(counted: Tensor | None) -> None:
    if counted is None:
        return
    between = (counted > 0) & (counted < 1)
    if between.any():
        value = counted[between][0].item()
        raise ValueError(f"mask must hold 0 or 1 where surfaces are measured, got {value:g}")
