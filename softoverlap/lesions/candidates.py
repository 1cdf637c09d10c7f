"""Candidates in a probability map, and what a score can be read from: the map in and around each.

A score is a callable that takes a `LesionCandidate` and returns a number, the higher the surer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import (
    check_positive,
    check_probabilities,
    check_threshold,
    check_weight,
)
from softoverlap._types import plain
from softoverlap.lesion import Lesion
from softoverlap.lesions.components import check_low, labelled_lesions
from softoverlap.lesions.fast import distances

SOFT_EDGE = 0.01
"""Lowest probability of a lesion's soft edge, that of `softoverlap score`."""

_ROUNDING = 1 + 1e-6  # distances may be computed in float32


@dataclass(frozen=True, eq=False)
class LesionCandidate:
    """A component of a probability map: what a score of it is read from.

    `lesion_candidates` makes them. A score of your own is a callable that takes one and returns a
    number.

    Args:
        lesion: Its box, soft crop, centre and volume.
        number: Its number in `components`, from 1.
        probabilities: The whole map, shape (*spatial).
        components: For each voxel the number of its component, 0 for none, shape (*spatial); those
            too small to be a candidate have numbers too.
        spacing: Edges of a voxel in mm, one for each axis.

    Examples:
        >>> image = torch.tensor([0.1, 0.2, 0.9, 0.6, 0.3])
        >>> (candidate,) = lesion_candidates(image, spacing=[2.0], threshold=0.5)
        >>> candidate.values, candidate.around(2.0).float()
        (tensor([0.9000, 0.6000], dtype=torch.float64), tensor([0.2000, 0.3000]))
    """

    lesion: Lesion
    number: int
    probabilities: Shaped[np.ndarray, "*spatial"]
    components: Shaped[np.ndarray, "*spatial"]
    spacing: tuple[float, ...]

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return math.prod(self.spacing)

    @cached_property
    def values(self) -> Float64[Tensor, "voxels"]:
        """The probabilities of its own voxels, at least one, in [0, 1]."""
        window = self._window(0.0)
        return self._taken(window, self.components[window] == self.number)

    def around(self, reach_mm: float | int) -> Float64[Tensor, "voxels"]:
        """The probabilities of the voxels near it that belong to no component.

        Args:
            reach_mm: How far the centre of such a voxel may lie from that of the component's
                nearest voxel, in mm.

        Returns:
            Probabilities in [0, 1], shape (V,); of a component that fills the map, none.
        """
        window = self._window(reach_mm)
        components = self.components[window]
        near = distances(components == self.number, self.spacing) <= reach_mm * _ROUNDING
        return self._taken(window, near & (components == 0))

    def _window(self, reach_mm: float | int) -> tuple[slice, ...]:
        """The box, so much larger on each side, within the map."""
        low, high = self.lesion.box.long().tolist(), self.components.shape
        starts, stops = low[: len(high)], low[len(high) :]
        edges = [math.ceil(reach_mm / edge) for edge in self.spacing]
        return tuple(
            slice(max(0, start - more), min(size, stop + more))
            for start, stop, size, more in zip(starts, stops, high, edges, strict=True)
        )

    def _taken(self, window: tuple[slice, ...], chosen: np.ndarray) -> Tensor:
        values = self.probabilities[window][chosen].astype(np.float64)
        return torch.from_numpy(values).clamp(0, 1)


LesionScore = Callable[[LesionCandidate], float]
"""A score of a candidate: any callable that takes one and returns a number.

It may say its `range`; of one in (0, 1) a calibration takes the log odds.
"""


def lesion_candidates(
    probabilities: Shaped[Tensor, "*spatial"],
    *,
    spacing: Sequence[float | int],
    threshold: float | int,
    low: float | int | None = None,
    connectivity: int = 26,
    min_mm3: float | int = 0.0,
) -> list[LesionCandidate]:
    """The components of a probability map, each with the map in and around it.

    Lesions are those of `lesions_from_mask` with `halo=0.01`, which keeps the low probabilities
    that a network gives everywhere out of their volumes, as `softoverlap score` does.

    Args:
        probabilities: A network's map of one class, in [0, 1], shape (*spatial) of one, two or
            three axes.
        spacing: Edges of a voxel in mm, one for each axis.
        threshold: Lowest probability inside a component, in (0, 1].
        low: With hysteresis, the lowest probability of a component that holds a voxel at or above
            the threshold, in (0, threshold]; None for none.
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all.
        min_mm3: Smallest volume of a lesion, in mm³.

    Returns:
        Candidates in the order of their first voxel.

    Raises:
        TypeError: If the map is not a tensor of real numbers, or spacing one number.
        ValueError: If a shape, the spacing, a threshold, the connectivity or the smallest volume is
            wrong, or a probability is NaN or lies outside [0, 1].

    Examples:
        >>> image = torch.tensor([0.9, 0.6, 0.0, 0.8])
        >>> candidates = lesion_candidates(image, spacing=[1.0], threshold=0.5)
        >>> [one.lesion.box.tolist() for one in candidates]
        [[0.0, 2.0], [3.0, 4.0]]
    """
    check_probabilities(probabilities=probabilities, validate=True)
    check_threshold(threshold=threshold)
    check_low(low, threshold)
    check_weight(min_mm3=min_mm3)
    lowest = threshold if low is None else low
    lesions, maps = labelled_lesions(
        probabilities,
        spacing=spacing,
        threshold=threshold,
        low=low,
        halo=min(SOFT_EDGE, lowest),
        connectivity=connectivity,
    )  # without min_mm3: small components are no background of others either
    values = plain(probabilities).detach().cpu()
    array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    edges = tuple(map(float, spacing))
    return [
        LesionCandidate(lesion, number, array, maps.core, edges)
        for number, lesion in enumerate(lesions, start=1)
        if lesion.volume_mm3 >= min_mm3
    ]


@dataclass(frozen=True)
class MaxProbability:
    """Score of a lesion: the highest probability of its voxels, in (0, 1].

    What most detectors made of a segmentation use. It saturates: many true and many false lesions
    hold one voxel of probability 1.

    Examples:
        >>> image = torch.tensor([0.1, 0.75, 0.5])
        >>> MaxProbability()(*lesion_candidates(image, spacing=[1.0], threshold=0.5))
        0.75
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, candidate: LesionCandidate) -> float:
        """The highest probability."""
        return float(candidate.values.max())


@dataclass(frozen=True)
class MeanProbability:
    """Score of a lesion: the mean probability of its voxels, in (0, 1].

    A single voxel at the threshold counts as much as one at the peak, so a small sure lesion
    outranks a large one with a wide soft edge.

    Examples:
        >>> image = torch.tensor([0.1, 0.75, 0.5])
        >>> MeanProbability()(*lesion_candidates(image, spacing=[1.0], threshold=0.5))
        0.625
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, candidate: LesionCandidate) -> float:
        """The mean probability."""
        return float(candidate.values.mean())


@dataclass(frozen=True)
class MassAboveBackground:
    """Score of a lesion: how much probability it holds beyond what lies around it, in mm³.

    Σ max(p − b, 0) · voxel volume over its voxels, where b is the mean probability of the voxels
    within `reach_mm` of it that belong to no lesion, 0 where there are none. Large lesions score
    high; the score has no upper bound.

    Args:
        reach_mm: How far around the lesion the background is taken, in mm.

    Raises:
        ValueError: If the reach is not above 0 and finite.

    Examples:
        >>> image = torch.tensor([0.0, 0.25, 1.0, 0.75, 0.25])
        >>> score = MassAboveBackground(reach_mm=2.0)
        >>> score(*lesion_candidates(image, spacing=[2.0], threshold=0.5))  # 2 mm · (0.75 + 0.5)
        2.5
    """

    range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    reach_mm: float | int = 3.0

    def __post_init__(self) -> None:
        check_positive(reach_mm=self.reach_mm)

    def __call__(self, candidate: LesionCandidate) -> float:
        """The mass above the background, in mm³."""
        around = candidate.around(self.reach_mm)
        background = float(around.mean()) if len(around) else 0.0
        return float((candidate.values - background).clamp(min=0).sum()) * candidate.voxel_mm3


@dataclass(frozen=True)
class HaloDice:
    """Score of a lesion: soft Dice of its component with the map in and around it, in (0, 1].

    2 Σ p / (n + Σ p + Σ q): p are the probabilities of the component's n voxels, q those of the
    voxels within `reach_mm` of it that belong to no component. It is the soft Dice (sum of minima)
    of the component, hard, and of the map within the component grown by `reach_mm`. It is 1 where
    the network is sure inside and sees nothing outside, and falls with every doubt on either side.

    Args:
        reach_mm: How far the component is grown, in mm.

    Raises:
        ValueError: If the reach is not above 0 and finite.

    Examples:
        >>> image = torch.tensor([0.0, 0.25, 1.0, 0.5, 0.25])
        >>> HaloDice(reach_mm=1.0)(*lesion_candidates(image, spacing=[1.0], threshold=0.5))
        0.75
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    reach_mm: float | int = 3.0

    def __post_init__(self) -> None:
        check_positive(reach_mm=self.reach_mm)

    def __call__(self, candidate: LesionCandidate) -> float:
        """The soft Dice score."""
        inside, around = candidate.values, candidate.around(self.reach_mm)
        component = inside.new_tensor(len(inside))
        return float(scores.dice(inside.sum(), component, inside.sum() + around.sum()))
