"""From a pair of soft masks to their lesions, and which lesion shares how much with which.

Everything is counted on label maps, so the time depends on the voxels and not on the number of
lesions. Overlaps of lesions are sparse arrays (true lesions, predicted lesions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage, sparse
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from softoverlap import scores
from softoverlap._checks import check_choice, check_weight
from softoverlap.data.components import component_maps, marked_voxels, neighbourhood

MATCHINGS = ("many_to_one", "one_to_one")


@dataclass(frozen=True)
class LesionRules:
    """What makes a lesion of a soft mask; `truth_threshold` is `threshold` unless given."""

    threshold: float = 0.5
    truth_threshold: float | None = None
    connectivity: int = 26
    halo: float = 0.01
    min_mm3: float = 0.0
    soft: bool = True

    def __post_init__(self) -> None:
        thresholds = {"threshold": self.threshold, "truth_threshold": self.of_truth}
        for name, value in thresholds.items():
            if not 0 < value <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {value!r}")
        if not 0 <= self.halo <= min(thresholds.values()):
            raise ValueError(
                f"halo must lie in [0, {min(thresholds.values())}], from 0 to the threshold, "
                f"got {self.halo!r}"
            )
        check_weight(min_mm3=self.min_mm3)
        if self.connectivity not in (4, 6, 8, 18, 26):
            raise ValueError(f"connectivity must be 4, 6, 8, 18 or 26, got {self.connectivity!r}")

    @property
    def of_truth(self) -> float:
        """The threshold of the target."""
        return self.threshold if self.truth_threshold is None else self.truth_threshold


@dataclass(frozen=True)
class LesionMap:
    """The lesions of one mask, numbered from 1 in the order of their first voxel, and 0 for none.

    `core` holds the voxels at or above the threshold, `owned` the halo too; `values` are the
    probabilities of what is owned.
    """

    values: np.ndarray
    core: np.ndarray
    owned: np.ndarray
    existence: np.ndarray

    def __len__(self) -> int:
        return len(self.existence)

    def sizes(self) -> np.ndarray:
        """Σ probability of each lesion, in voxels."""
        return self._summed(self.owned, self.values)

    def core_sizes(self) -> np.ndarray:
        """How many voxels of each lesion lie at or above the threshold."""
        return self._summed(self.core, np.ones_like(self.values))

    def renumbered(self, numbers: np.ndarray) -> LesionMap:
        """With lesion `i + 1` called `numbers[i]`; 0 leaves it out, equal numbers merge."""
        table = np.concatenate([[0], numbers]).astype(np.int32)
        existence = np.zeros(int(table.max()))
        np.maximum.at(existence, table[table > 0] - 1, self.existence[numbers > 0])
        owned = table[self.owned]
        values = np.where(owned > 0, self.values, 0)
        return LesionMap(values, table[self.core], owned, existence)

    def keeping(self, kept: np.ndarray) -> LesionMap:
        """Without the others, numbered anew."""
        return self if kept.all() else self.renumbered(np.where(kept, kept.cumsum(), 0))

    def _summed(self, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        inside = labels > 0
        return np.bincount(labels[inside], weights[inside], minlength=len(self) + 1)[1:]


@dataclass(frozen=True)
class LesionScan:
    """The lesions of prediction and target of one item and class, cut to the part they lie in."""

    pred: LesionMap
    truth: LesionMap
    origin: tuple[int, ...]
    voxel_mm3: float

    def touches(self) -> sparse.csr_array:
        """1 where a true and a predicted lesion share a voxel of both cores."""
        return touching(self.truth.core, self.pred.core, (len(self.truth), len(self.pred)))

    def shared(self) -> sparse.csr_array:
        """Σ min of the probabilities, of true lesions that meet predicted ones."""
        both = (self.truth.owned > 0) & (self.pred.owned > 0)
        minima = np.minimum(self.truth.values[both], self.pred.values[both])
        places = (self.truth.owned[both] - 1, self.pred.owned[both] - 1)
        return _counted(minima, places, (len(self.truth), len(self.pred)))


def lesion_scan(
    pred: Tensor,
    truth: Tensor,
    *,
    rules: LesionRules,
    spacing: Sequence[float] | None,
    raters: Tensor | None = None,
    margin: int = 0,
) -> LesionScan:
    """The lesions of one item and class, probabilities (*spatial) in float64.

    With raters (R, *spatial) true lesions are those of the union of their masks. The part that is
    kept reaches `margin` voxels beyond every lesion, inside the image.
    """
    structure = neighbourhood(pred.ndim, rules.connectivity)
    edges = (1.0,) * pred.ndim if spacing is None else tuple(map(float, spacing))
    marked = None if raters is None else marked_voxels(raters, truth, rules.of_truth)
    found, target = pred.cpu().numpy(), truth.cpu().numpy()
    inside = np.asarray(target >= rules.of_truth if marked is None else marked.any(axis=0))
    lowest = min(rules.halo or np.nextafter(0, 1), rules.threshold)
    window = _window((found >= lowest) | (target >= lowest) | inside, margin)
    cut = None if marked is None else marked[(slice(None), *window)]
    scan = LesionScan(
        _lesion_map(found[window], found[window] >= rules.threshold, structure, edges, rules),
        _lesion_map(target[window], inside[window], structure, edges, rules, cut),
        origin=tuple(axis.start for axis in window),
        voxel_mm3=math.prod(edges),
    )
    return _without_small(scan, rules.min_mm3) if rules.min_mm3 else scan


def touching(truth: np.ndarray, pred: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """1 where two numbers meet in a voxel of the two label maps."""
    both = (truth > 0) & (pred > 0)
    places = (truth[both] - 1, pred[both] - 1)
    met = _counted(np.ones(len(places[0])), places, shape)
    met.data[:] = 1
    return met


def matched(scan: LesionScan, matching: str) -> sparse.csr_array:
    """1 where a predicted lesion is taken for a true one that it touches."""
    check_choice("matching", matching, MATCHINGS)
    touches = scan.touches()
    if matching == "many_to_one" or not touches.nnz:
        return touches
    truths, preds = (np.unique(numbers) for numbers in touches.nonzero())
    meet = touches[truths][:, preds].toarray()
    shared = scan.shared()[truths][:, preds].toarray()
    sizes = scan.truth.sizes()[truths][:, None], scan.pred.sizes()[preds][None]
    best = linear_sum_assignment(ratio("iou", shared, *sizes) * meet, maximize=True)
    rows, cols = (numbers[meet[best] > 0] for numbers in best)
    places = (truths[rows], preds[cols])
    return _counted(np.ones(len(rows)), places, (len(scan.truth), len(scan.pred)))


def merged_overlap(scan: LesionScan, pairs: sparse.csr_array) -> tuple[np.ndarray, ...]:
    """Σ min with what each true lesion is paired with, taken together, and the size of that."""
    return (scan.shared() * pairs).sum(axis=1), pairs @ scan.pred.sizes()


def ratio(kind: str, shared: np.ndarray, truth: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Soft "dice" or "iou" from sizes, 0 where there is nothing."""
    form = scores.dice if kind == "dice" else scores.iou
    parts = (torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in (shared, truth, pred))
    return form(*parts, empty=0.0).numpy()


def _lesion_map(
    values: np.ndarray,
    core: np.ndarray,
    structure: np.ndarray,
    edges: tuple[float, ...],
    rules: LesionRules,
    marked: np.ndarray | None = None,
) -> LesionMap:
    source = values if rules.soft else core.astype(np.float64)
    labels, owned = component_maps(
        np.where(source >= rules.halo, source, 0), core, structure, edges
    )
    count = int(labels.max(initial=0))
    existence = np.ones(count) if marked is None else _existence(labels, marked, count)
    return LesionMap(np.where(owned > 0, source, 0), labels, owned, existence)


def _without_small(scan: LesionScan, min_mm3: float) -> LesionScan:
    """Without small lesions of either mask, and without what touches small true ones only."""
    pred, truth = (
        lesions.sizes() * scan.voxel_mm3 >= min_mm3 for lesions in (scan.pred, scan.truth)
    )
    touches = scan.touches()
    excused = (touches[~truth].sum(axis=0) > 0) & (touches[truth].sum(axis=0) == 0)
    return replace(scan, pred=scan.pred.keeping(pred & ~excused), truth=scan.truth.keeping(truth))


def _existence(labels: np.ndarray, marked: np.ndarray, count: int) -> np.ndarray:
    """The share of raters that marked a voxel of each component."""
    hits = [np.bincount(labels[rater], minlength=count + 1)[1:] > 0 for rater in marked]
    return np.mean(hits, axis=0)


def _window(found: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The part of the image that holds what was found, and one voxel of it where nothing was."""
    places = ndimage.find_objects(found.astype(np.int8)) if found.size else []
    if not places:
        return (slice(0, 1),) * found.ndim
    return tuple(
        slice(max(0, axis.start - margin), min(side, axis.stop + margin))
        for axis, side in zip(places[0], found.shape, strict=True)
    )


def _counted(
    weights: np.ndarray, places: tuple[np.ndarray, np.ndarray], shape: tuple[int, ...]
) -> sparse.csr_array:
    """Weights summed in their places; scipy adds what falls in one."""
    return sparse.coo_array((weights, places), shape=shape).tocsr()
