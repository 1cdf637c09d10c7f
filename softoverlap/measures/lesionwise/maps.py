"""From a pair of soft masks to their lesions, and which lesion shares how much with which.

Everything is counted on label maps, so the time depends on the voxels and not on the number of
lesions. Overlaps of lesions are sparse arrays (true lesions, predicted lesions).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage, sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csgraph
from torch import Tensor

from softoverlap._checks import check_choice, check_number, check_threshold, check_weight
from softoverlap._types import accumulation_dtype
from softoverlap.lesions import (
    component_maps,
    looked_up,
    marked_voxels,
    neighbourhood,
    slabs,
)
from softoverlap.measures.inputs import in_dtype, reaches
from softoverlap.overlaps import MaskOverlap, mask_iou

MATCHINGS = ("many_to_one", "one_to_one")


@dataclass(frozen=True)
class LesionRules:
    """What makes a lesion of a soft mask; `target_threshold` is `threshold` unless given."""

    threshold: float = 0.5
    target_threshold: float | None = None
    connectivity: int = 26
    halo: float = 0.01
    min_mm3: float = 0.0
    soft: bool = True

    def __post_init__(self) -> None:
        thresholds = {"threshold": self.threshold, "target_threshold": self.of_target}
        check_threshold(**thresholds)
        check_number(halo=self.halo)
        if not 0 <= self.halo <= min(thresholds.values()):
            raise ValueError(
                f"halo must lie in [0, {min(thresholds.values())}], from 0 to the threshold, "
                f"got {self.halo!r}"
            )
        check_weight(min_mm3=self.min_mm3)
        if self.connectivity not in (4, 6, 8, 18, 26):
            raise ValueError(f"connectivity must be 4, 6, 8, 18 or 26, got {self.connectivity!r}")

    @property
    def of_target(self) -> float:
        """The threshold of the target."""
        return self.threshold if self.target_threshold is None else self.target_threshold


@dataclass(frozen=True)
class LesionMap:
    """The lesions of one mask, numbered from 1 in the order of their first voxel, and 0 for none.

    `core` holds the voxels at or above the threshold, `owned` the halo too; `values` are the
    probabilities, of all voxels, times how much each counts (`weights`, None for 1).
    """

    values: np.ndarray
    core: np.ndarray
    owned: np.ndarray
    existence: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.existence)

    def sizes(self) -> np.ndarray:
        """Σ probability of each lesion, in voxels."""
        return self._summed(self.owned, self.values)

    def core_sizes(self) -> np.ndarray:
        """How many voxels of each lesion lie at or above the threshold, as much as they count."""
        weights = np.ones_like(self.values) if self.weights is None else self.weights
        return self._summed(self.core, weights)

    def renumbered(self, numbers: np.ndarray) -> LesionMap:
        """With lesion `i + 1` called `numbers[i]`; 0 leaves it out, equal numbers merge."""
        table = np.concatenate([[0], numbers]).astype(np.int32)
        existence = np.zeros(int(table.max()))
        np.maximum.at(existence, table[table > 0] - 1, self.existence[numbers > 0])
        core, owned = (looked_up(table, labels) for labels in (self.core, self.owned))
        return LesionMap(self.values, core, owned, existence, self.weights)

    def keeping(self, kept: np.ndarray) -> LesionMap:
        """Without the others, numbered anew."""
        return self if kept.all() else self.renumbered(np.where(kept, kept.cumsum(), 0))

    def _summed(self, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total = np.zeros(len(self) + 1)
        for part in slabs(labels):
            inside = labels[part] > 0
            total += np.bincount(labels[part][inside], weights[part][inside], minlength=len(total))
        return total[1:]


@dataclass(frozen=True)
class LesionScan:
    """The lesions of prediction and target of one item and class, cut to the part they lie in.

    `voxel_mm3` is NaN where no spacing is known, and so is every volume. It is the product of the
    spacing, which knows no affine: the axes are taken to be perpendicular.
    """

    pred: LesionMap
    truth: LesionMap
    origin: tuple[int, ...]
    voxel_mm3: float

    def touches(self) -> sparse.csr_array:
        """1 where a true and a predicted lesion share a voxel of both cores."""
        return touching(self.truth.core, self.pred.core, (len(self.truth), len(self.pred)))

    def shared(self) -> sparse.csr_array:
        """Σ min of the probabilities, of true lesions that meet predicted ones."""
        shape = (len(self.truth), len(self.pred))
        return _added_up(
            (_shared(self.truth, self.pred, part, shape) for part in slabs(self.truth.owned)), shape
        )


def lesion_scan(
    pred: Tensor,
    truth: Tensor,
    *,
    rules: LesionRules,
    spacing: Sequence[float] | None,
    raters: Tensor | None = None,
    counted: Tensor | None = None,
    margin: int = 0,
) -> LesionScan:
    """The lesions of one item and class, probabilities (*spatial), each cut in its own precision.

    With raters (R, *spatial) true lesions are those of the union of their masks. How much a voxel
    counts, (*spatial), scales sums and leaves the lesions as they are: voxels that do not count at
    all are zero in every mask already. The part that is kept reaches `margin` voxels beyond every
    lesion, inside the image.
    """
    steps = neighbourhood(pred.ndim, rules.connectivity)
    edges = (1.0,) * pred.ndim if spacing is None else tuple(map(float, spacing))
    marked = None
    if raters is not None:
        marked = marked_voxels(raters, truth, in_dtype(rules.of_target, raters.dtype))
    inside = _reaches(truth, rules.of_target) if marked is None else marked.any(axis=0)
    cores = _reaches(pred, rules.threshold), np.asarray(inside)
    kept = cores[0] | cores[1]
    if rules.soft:
        kept = kept | _reaches(pred, rules.halo) | _reaches(truth, rules.halo)
    window = _window(kept, margin)  # wide numbers only there
    del kept  # one island may fill the scan
    weights = None if counted is None else counted[window].double().cpu().numpy()
    predicted, target = (
        _lesion_map(mask[window], core[window], rules, (steps, edges), weights)
        for mask, core in zip((pred, truth), cores, strict=True)
    )
    if marked is not None:
        target = replace(target, existence=_existence(target.core, marked[(slice(None), *window)]))
    scan = LesionScan(
        predicted,
        target,
        origin=tuple(axis.start for axis in window),
        voxel_mm3=math.nan if spacing is None else math.prod(edges),
    )
    return without_small([scan], rules.min_mm3)[0] if rules.min_mm3 else scan


def touching(truth: np.ndarray, pred: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """1 where two numbers meet in a voxel of the two label maps."""
    met = _added_up((_meeting(truth[part], pred[part], shape) for part in slabs(truth)), shape)
    met.data[:] = 1
    return met


def matched(scan: LesionScan, matching: str) -> sparse.csr_array:
    """1 where a predicted lesion is taken for a true one that it touches."""
    check_choice("matching", matching, MATCHINGS)
    touches = scan.touches()
    if matching == "many_to_one" or not touches.nnz:
        return touches
    truths, preds = touches.nonzero()
    shared = np.asarray(scan.shared()[truths, preds]).ravel()
    iou = ratio(mask_iou, shared, scan.truth.sizes()[truths], scan.pred.sizes()[preds])
    chosen = _best_pairs(truths, preds, iou)
    places = (truths[chosen], preds[chosen])
    return _counted(np.ones(len(chosen)), places, (len(scan.truth), len(scan.pred)))


def _best_pairs(truths: np.ndarray, preds: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Which of the pairs to take, so that none is taken twice and the sum of IoU is highest.

    Lesions that touch none in common are assigned apart: a block is as small as its group.
    """
    rows, cols = (np.unique(numbers, return_inverse=True)[1] for numbers in (truths, preds))
    places = (rows, cols + rows.max() + 1)
    nodes = int(places[1].max()) + 1
    graph = sparse.coo_array((np.ones(len(rows)), places), shape=(nodes, nodes))
    group = csgraph.connected_components(graph, directed=False)[1][rows]
    order = group.argsort(kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return np.concatenate([_assigned(block, truths, preds, iou) for block in blocks])


def _assigned(
    block: np.ndarray, truths: np.ndarray, preds: np.ndarray, iou: np.ndarray
) -> np.ndarray:
    """The pairs taken of one group."""
    if len(block) == 1:
        return block
    (own_rows, rows), (own_cols, cols) = (
        np.unique(numbers[block], return_inverse=True) for numbers in (truths, preds)
    )
    pair = np.full((len(own_rows), len(own_cols)), -1)
    score = np.zeros(pair.shape)
    pair[rows, cols], score[rows, cols] = block, iou[block]
    taken = pair[linear_sum_assignment(score, maximize=True)]
    return taken[taken >= 0]


def merged_overlap(scan: LesionScan, pairs: sparse.csr_array) -> tuple[np.ndarray, ...]:
    """Σ min with what each true lesion is paired with, taken together, and the size of that."""
    return (scan.shared() * pairs).sum(axis=1), pairs @ scan.pred.sizes()


def ratio(
    overlap: MaskOverlap, shared: np.ndarray, truth: np.ndarray, pred: np.ndarray
) -> np.ndarray:
    """The overlap from sizes, 0 where there is nothing."""
    parts = (torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in (shared, pred, truth))
    return overlap.ratio(*parts, empty=0.0).numpy()


def _reaches(mask: Tensor, level: float) -> np.ndarray:
    """Where a mask is at or above a level as its own precision holds it, and above 0."""
    reached = reaches(mask, level)
    if mask.dtype != torch.bool:
        reached = reached & (mask > 0)
    return np.ascontiguousarray(reached.cpu().numpy())


def _lesion_map(
    mask: Tensor,
    core: np.ndarray,
    rules: LesionRules,
    geometry: tuple[int, tuple[float, ...]],
    weights: np.ndarray | None,
) -> LesionMap:
    """The lesions of a mask: its cores, and by the rules the halo around them."""
    if rules.soft:
        values = mask.to(accumulation_dtype(mask)).cpu().numpy()
        halo = _reaches(mask, rules.halo)
    else:
        values, halo = np.ones(core.shape), core
    labels, owned = component_maps(halo, core, *geometry)
    existence = np.ones(int(labels.max(initial=0)))
    return LesionMap(
        values if weights is None else values * weights, labels, owned, existence, weights
    )


def without_small(scans: Sequence[LesionScan], min_mm3: float) -> list[LesionScan]:
    """Scans of one prediction without small lesions, and without what touches small true ones only.

    Args:
        scans: The prediction against each of several truths.
        min_mm3: The smallest volume that counts, in mm³.

    Returns:
        The scans, which all have the same predicted lesions.
    """
    pred = scans[0].pred.sizes() * scans[0].voxel_mm3 >= min_mm3
    truths = [scan.truth.sizes() * scan.voxel_mm3 >= min_mm3 for scan in scans]
    of_small, of_large = np.zeros((2, len(pred)))
    for scan, truth in zip(scans, truths, strict=True):
        touches = scan.touches()
        of_small = of_small + touches[~truth].sum(axis=0)
        of_large = of_large + touches[truth].sum(axis=0)
    kept = pred & ~((of_small > 0) & (of_large == 0))
    return [
        replace(scan, pred=scan.pred.keeping(kept), truth=scan.truth.keeping(truth))
        for scan, truth in zip(scans, truths, strict=True)
    ]


def _existence(labels: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """The share of raters that marked a voxel of each component."""
    count = int(labels.max(initial=0))
    hits = [np.bincount(labels[rater], minlength=count + 1)[1:] > 0 for rater in marked]
    return np.mean(hits, axis=0)


def _window(kept: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The part of the image that holds what is kept, and one voxel of it where nothing is."""
    places = ndimage.find_objects(kept.view(np.int8)) if kept.size else []
    if not places:
        return (slice(0, 1),) * kept.ndim
    return tuple(
        slice(max(0, axis.start - margin), min(side, axis.stop + margin))
        for axis, side in zip(places[0], kept.shape, strict=True)
    )


def _shared(
    truth: LesionMap, pred: LesionMap, part: slice, shape: tuple[int, int]
) -> sparse.csr_array:
    """Σ min of the probabilities in a part."""
    owned = truth.owned[part], pred.owned[part]
    both = (owned[0] > 0) & (owned[1] > 0)
    minima = np.minimum(truth.values[part][both], pred.values[part][both], dtype=np.float64)
    return _counted(minima, (owned[0][both] - 1, owned[1][both] - 1), shape)


def _meeting(truth: np.ndarray, pred: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """In how many voxels two numbers meet."""
    both = (truth > 0) & (pred > 0)
    places = (truth[both] - 1, pred[both] - 1)
    return _counted(np.ones(len(places[0])), places, shape)


def _added_up(parts: Iterable[sparse.csr_array], shape: tuple[int, int]) -> sparse.csr_array:
    """The sum of parts, where there may be none."""
    total = None
    for part in parts:
        total = part if total is None else total + part
    return sparse.csr_array(shape) if total is None else total


def _counted(
    weights: np.ndarray, places: tuple[np.ndarray, np.ndarray], shape: tuple[int, ...]
) -> sparse.csr_array:
    """Weights summed in their places; scipy adds what falls in one."""
    return sparse.coo_array((weights, places), shape=shape).tocsr()
