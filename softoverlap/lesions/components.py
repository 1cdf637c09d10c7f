"""From a soft mask to its lesions: connected components, each with its soft edge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import (
    check_choice,
    check_number,
    check_probabilities,
    check_tensors,
    check_threshold,
    check_weight,
    refusal,
)
from softoverlap._types import plain
from softoverlap.lesion import Lesion, centre_of_mass
from softoverlap.lesions.fast import numbered
from softoverlap.lesions.nearest import share_out, slabs

_STEPS = {1: {2: 1, 26: 1}, 2: {4: 1, 8: 2, 26: 2}, 3: {6: 1, 18: 2, 26: 3}}
"""Number of axes in which neighbours may differ, by dimension and connectivity."""

CONNECTIVITIES = sorted({count for counts in _STEPS.values() for count in counts})
"""Those of one to three axes."""


def lesions_from_mask(
    mask: Shaped[Tensor, "*spatial"],
    *,
    spacing: Sequence[float | int],
    threshold: float | int = 0.5,
    low: float | int | None = None,
    halo: float | int = 0.0,
    raters: Shaped[Tensor, "raters *spatial"] | None = None,
    connectivity: int = 26,
    min_mm3: float | int = 0.0,
) -> list[Lesion]:
    """Lesions of a soft mask: connected components of the voxels at or above a threshold.

    With `low` (hysteresis), components are those of the voxels at or above `low` that contain at
    least one voxel at or above the threshold: each has a sure core, and extends as far as `low`
    allows. Two cores that are connected by voxels above `low` are one lesion.

    With `raters`, components are those of the union of the raters' masks, and a lesion's existence
    is the share of raters that touch it; without, existence is 1.

    A lesion's crop keeps its soft edge: voxels below the threshold that are connected to it
    through voxels of positive probability. Where such an edge lies between several lesions, each
    voxel belongs to the nearest one, so no probability counts twice. Positive voxels that are not
    connected to a component belong to no lesion.

    A network's map is positive everywhere, and edges then reach from lesion to lesion: with `halo`,
    probabilities below it count as 0. `softoverlap score` uses 0.01 by default;
    `load_case`, and so `softoverlap train`, uses every positive voxel.

    Args:
        mask: Probabilities, shape (*spatial) of one, two or three axes.
        spacing: Edge lengths of a voxel in mm, one for each axis. Volumes assume
            perpendicular axes; for a sheared affine pass `Volume.lesion_spacing`.
        threshold: Lowest probability inside a component, in (0, 1]; of raters' masks too.
        low: Lowest probability of a component's voxels other than its core, in (0, threshold]; None
            for no hysteresis.
        halo: Lowest probability of a soft edge, in [0, threshold], and not above `low`; lower ones
            count as 0, in a lesion's mass and volume too.
        raters: One mask per rater, shape (R, *spatial).
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D. The default, 26,
            means all neighbours in any dimension.
        min_mm3: Smallest `volume_mm3` of a lesion, in mm³.

    Returns:
        Lesions in the order of their first voxel; none for an empty mask. Boxes are tight around
        the component's voxels.

    Raises:
        TypeError: If mask or raters is not a tensor of real numbers, or spacing one number.
        ValueError: If a shape, the spacing, a threshold, the halo, the connectivity or the smallest
            volume is wrong, or a probability lies outside [0, 1].

    References:
        Canny, A computational approach to edge detection (hysteresis),
        https://doi.org/10.1109/TPAMI.1986.4767851

    Examples:
        >>> mask = torch.tensor([0.2, 0.9, 0.6, 0.0, 1.0])
        >>> first, second = lesions_from_mask(mask, spacing=[2.0])
        >>> first.box, first.crop
        (tensor([1., 3.]), tensor([0.2000, 0.9000, 0.6000]))
        >>> second.volume_mm3
        2.0
        >>> lesions_from_mask(mask, spacing=[2.0], low=0.1)[0].box
        tensor([0., 3.])
        >>> lesions_from_mask(mask, spacing=[2.0], halo=0.3)[0].crop
        tensor([0.9000, 0.6000])
    """
    return labelled_lesions(
        mask,
        spacing=spacing,
        threshold=threshold,
        low=low,
        halo=halo,
        raters=raters,
        connectivity=connectivity,
        min_mm3=min_mm3,
    )[0]


class ComponentMaps(NamedTuple):
    """For each voxel the number of its component, from 1 in the order of their first voxel.

    `core` is 0 outside the components' own voxels, `owned` outside their halos.
    """

    core: np.ndarray
    owned: np.ndarray


def labelled_lesions(
    mask: Shaped[Tensor, "*spatial"],
    *,
    spacing: Sequence[float | int],
    threshold: float | int = 0.5,
    low: float | int | None = None,
    halo: float | int = 0.0,
    raters: Shaped[Tensor, "raters *spatial"] | None = None,
    connectivity: int = 26,
    min_mm3: float | int = 0.0,
) -> tuple[list[Lesion], ComponentMaps]:
    """`lesions_from_mask`, and the maps in which lesion `k` of the list has the number `k + 1`."""
    check_probabilities(mask=mask, validate=True)
    steps = neighbourhood(mask.ndim, connectivity)
    _check_numbers(spacing, mask.ndim, threshold, min_mm3)
    check_low(low, threshold)
    _check_halo(halo, threshold if low is None else low)
    values = _as_array(mask)
    if halo > 0:
        values = np.where(_reaching(mask, halo), values, values.dtype.type(0))
    marked = None if raters is None else marked_voxels(raters, mask, threshold)
    if mask.numel() == 0:
        none = np.zeros(tuple(mask.shape), dtype=np.int16)
        return [], ComponentMaps(none, none)
    core = np.asarray(_reaching(mask, threshold) if marked is None else marked.any(axis=0))
    if low is not None:
        wide = _reaching(mask, low)
        if raters is not None:
            wide = np.asarray(marked_voxels(raters, mask, low).any(axis=0))
        core = _grown(core, wide, steps)
    maps = component_maps(values > 0, core, steps, tuple(map(float, spacing)))
    lesions = [_lesion(part, values, marked, spacing, mask.device) for part in _components(*maps)]
    return _large_enough(lesions, maps, min_mm3)


def _large_enough(
    lesions: list[Lesion], maps: ComponentMaps, min_mm3: float | int
) -> tuple[list[Lesion], ComponentMaps]:
    """The lesions of at least this volume, renumbered in the maps too."""
    kept = np.array([lesion.volume_mm3 >= min_mm3 for lesion in lesions], dtype=bool)
    if kept.all():
        return lesions, maps
    numbers = np.concatenate([[0], np.where(kept, kept.cumsum(), 0)]).astype(maps.core.dtype)
    core, owned = (looked_up(numbers, found) for found in maps)
    chosen = [lesion for lesion, keep in zip(lesions, kept, strict=True) if keep]
    return chosen, ComponentMaps(core, owned)


def component_maps(
    positive: np.ndarray, core: np.ndarray, steps: int, spacing: tuple[float, ...]
) -> ComponentMaps:
    """Components of `core`, with halos of positive voxels as `lesions_from_mask` has them."""
    labels = _narrowed(numbered(core, steps))
    return ComponentMaps(labels, _owners(positive, labels, steps, spacing))


def _narrowed(labels: np.ndarray) -> np.ndarray:
    """Few components in 16 bits: half the memory of a scan that is one island."""
    return labels.astype(np.int16) if _fits(int(labels.max(initial=0))) else labels


def _fits(count: int) -> bool:
    return count < 1 << 15


def neighbourhood(ndim: int, connectivity: int) -> int:
    """In how many axes the neighbours of a voxel may differ from it.

    Raises:
        ValueError: If there are no one to three axes, or these have no such connectivity.
    """
    if ndim not in _STEPS:
        raise ValueError(f"mask must have one, two or three axes, got {ndim}")
    check_choice("connectivity", connectivity, _STEPS[ndim])
    return _STEPS[ndim][connectivity]


@dataclass(frozen=True)
class _Component:
    """One component: its voxels, and those of its soft edge."""

    window: tuple[slice, ...]
    inside: np.ndarray
    reach: tuple[slice, ...]
    owned: np.ndarray


def _components(labels: np.ndarray, owners: np.ndarray) -> list[_Component]:
    """All components with their soft edges."""
    windows, reaches = ndimage.find_objects(labels), ndimage.find_objects(owners)
    return [
        _Component(window, labels[window] == index, reach, owners[reach] == index)
        for index, (window, reach) in enumerate(zip(windows, reaches, strict=True), start=1)
    ]


def _grown(core: np.ndarray, wide: np.ndarray, steps: int) -> np.ndarray:
    """The components of `wide` that hold a voxel of `core`."""
    labels = numbered(wide, steps)
    kept = np.zeros(labels.max() + 1, dtype=bool)
    kept[labels[core]] = True
    return kept[labels]


def _owners(
    positive: np.ndarray, labels: np.ndarray, steps: int, spacing: tuple[float, ...]
) -> np.ndarray:
    """For each voxel its component, 0 for none.

    Where an island holds one component that has all of it; only where several share one do
    distances decide. Memory counts, as one island may fill a scan.
    """
    if not (positive & (labels == 0)).any():
        return labels
    islands = _narrowed(numbered(positive | (labels > 0), steps))
    island_of = np.zeros(int(labels.max()) + 1, dtype=np.int32)
    core = labels > 0
    island_of[labels[core]] = islands[core]
    del core
    components = np.bincount(island_of[1:], minlength=int(islands.max()) + 1)
    owner = np.zeros(len(components), dtype=labels.dtype if _fits(len(components)) else np.int32)
    owner[island_of[1:]] = np.arange(1, len(island_of))
    shared = np.flatnonzero(components > 1)
    owner[shared] = -shared
    windows = ndimage.find_objects(islands) if len(shared) else []
    owners = looked_up(owner, islands)
    del islands
    for island in shared.tolist():
        window = windows[island - 1]
        inside = owners[window] == -island
        share_out(owners[window], inside, labels[window], spacing)
    return owners


def looked_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The table's value for each number, a part at a time: NumPy widens numbers to 64 bits."""
    found = np.empty(numbers.shape, dtype=table.dtype)
    for part in slabs(numbers):
        found[part] = table[numbers[part]]
    return found


def _lesion(
    part: _Component,
    values: np.ndarray,
    marked: np.ndarray | None,
    spacing: Sequence[float | int],
    device: torch.device,
) -> Lesion:
    crop = np.where(part.owned, values[part.reach], 0)
    offset = [edge.start for edge in part.reach]
    box = [edge.start for edge in part.window] + [edge.stop for edge in part.window]
    touched = 1.0
    if marked is not None:
        hits = marked[(slice(None), *part.window)] & part.inside
        touched = float(hits.reshape(len(hits), -1).any(axis=1).mean())
    weights = crop if crop.any() else part.owned  # raters may mark voxels where the mask is 0
    centre = centre_of_mass(torch.from_numpy(weights)) + torch.tensor(offset)
    return Lesion(
        box=torch.tensor(box, dtype=torch.float32, device=device),
        crop=torch.from_numpy(crop).to(device),
        offset=torch.tensor(offset, device=device),
        centre=centre.to(device, torch.float32),
        volume_mm3=float(crop.sum(dtype=np.float64)) * math.prod(map(float, spacing)),
        existence=touched,
    )


def _as_array(mask: Tensor) -> np.ndarray:
    """The values as float32, or float64 if they are that already."""
    dtype = torch.float64 if mask.dtype == torch.float64 else torch.float32
    return plain(mask).detach().to("cpu", dtype).contiguous().numpy()


def marked_voxels(raters: Tensor, mask: Tensor, threshold: float | int) -> np.ndarray:
    """Which voxels each rater marked."""
    check_tensors(raters=raters)
    if raters.ndim != mask.ndim + 1 or not len(raters) or raters.shape[1:] != mask.shape:
        expected = ", ".join(["R > 0", *map(str, mask.shape)])
        raise ValueError(f"raters must have shape ({expected}), got {tuple(raters.shape)}")
    check_probabilities(raters=raters, validate=True)
    return _reaching(raters, threshold)


def _reaching(values: Tensor, threshold: float | int) -> np.ndarray:
    """Where values reach the threshold, in their own precision: a half 0.9 reaches 0.9."""
    return (plain(values).detach() >= threshold).cpu().numpy()


def check_low(low: float | int | None, threshold: float | int) -> None:
    """Check that the lower threshold of hysteresis is not above the other."""
    if low is None:
        return
    check_number(low=low)
    if not 0 < low <= threshold:
        raise refusal("low", f"must lie in (0, {threshold:g}], up to the threshold, got {low!r}")


def _check_halo(halo: float | int, highest: float | int) -> None:
    check_number(halo=halo)
    if not 0 <= halo <= highest:
        raise refusal("halo", f"must lie in [0, {highest:g}], got {halo!r}")


def _check_numbers(
    spacing: Sequence[float | int], ndim: int, threshold: float | int, min_mm3: float | int
) -> None:
    if isinstance(spacing, str) or not isinstance(spacing, Iterable):
        raise TypeError(f"spacing must hold {ndim} lengths in mm, one an axis, got {spacing!r}")
    edges = [float(edge) for edge in spacing]
    if len(edges) != ndim or not all(0 < edge < math.inf for edge in edges):
        raise ValueError(f"spacing must hold {ndim} positive lengths in mm, got {edges}")
    check_threshold(threshold=threshold)
    check_weight(min_mm3=min_mm3)
