"""Which share of the true lesions is found, by size, and by how many raters marked them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap.measures.hit import Hit
from softoverlap.measures.inputs import MaskInputs
from softoverlap.measures.lesionwise._metric import LesionMetric, RaterMasks
from softoverlap.measures.lesionwise.hits import lesion_hit, matched_lesions
from softoverlap.measures.lesionwise.maps import MATCHINGS, LesionRules, LesionScan

WEIGHTS = ("lesions", "existence")


def compute_lesion_recall(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    num_classes: int | None = None,
    *,
    edges: Sequence[float] = (),
    weight_by: str = "lesions",
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
) -> Float[Tensor, "batch classes sizes"]:
    """Share of the true lesions that are found, of each item, class and size class.

    Lesions, matching and hit are those of `compute_lesion_overlaps`. A lesion's size is its soft
    volume, Σ probability times the voxel's volume; a volume on an edge belongs to the larger class.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of single-channel labels, background included.
        edges: Volumes in mm³ (areas in mm² in 2D) that part the size classes, rising: (10, 100)
            makes "<10 mm³", "10–100 mm³" and "≥100 mm³". Without any, all lesions are one class.
        weight_by: "lesions", each counts 1; or "existence", each counts the share of raters that
            marked it (needs `raters`): Σ existence of the found ones / Σ existence.
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target and the raters; by default `threshold`.
        matching: "many_to_one" or "one_to_one".
        hit: What makes a matched lesion found: "touch", any voxel at or above both thresholds; or
            "dice" or "iou", a soft score of at least `hit_threshold`.
        hit_threshold: The lowest score that hits, in (0, 1], by default 0.1; None with "touch".
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor. Needed only with
            `edges` or `min_mm3`.
        raters: Masks of R raters, shape (B, R, C, *spatial): true lesions are then those of their
            union, and existence is the share of raters that touch each. Without, it is 1.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do. It
            scales sums and volumes, and does not move a probability below a threshold.
        ignore_index: Voxels with this label do not count.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Recall in [0, 1], NaN where there is no such lesion, float64, shape (B, C, sizes), with one
        size without `edges`.

    Raises:
        ValueError: If shapes differ, a probability lies outside [0, 1], an argument is out of its
            range, raters are missing, or no spacing is known where volumes matter.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 1.0, 0.0, 1.0]]])
        >>> pred = torch.tensor([[[0.0, 0.9, 0.0, 0.0, 0.0]]])
        >>> compute_lesion_recall(pred, target)
        tensor([[[0.5000]]], dtype=torch.float64)
        >>> compute_lesion_recall(pred, target, spacing=1.0, edges=[2.0])
        tensor([[[0., 1.]]], dtype=torch.float64)
    """
    metric = LesionRecallMetric(
        include_background,
        num_classes=num_classes,
        edges=edges,
        weight_by=weight_by,
        threshold=threshold,
        target_threshold=target_threshold,
        matching=matching,
        hit=hit,
        hit_threshold=hit_threshold,
        connectivity=connectivity,
        min_mm3=min_mm3,
        halo=halo,
        spacing=spacing,
        ignore_index=ignore_index,
        validate=validate,
    )
    found = metric._statistics(y_pred, y, mask=mask, raters=raters)
    return _recall(found.unflatten(-1, (-1, 4)), weight_by)


@dataclass(frozen=True)
class LesionRecall:
    """How many lesions of a size were found.

    Args:
        recall: Found lesions / lesions, NaN where there is none.
        existence_recall: Σ existence of the found lesions / Σ existence.
        found: How many were found.
        lesions: How many there are.

    Examples:
        >>> LesionRecall(recall=0.5, existence_recall=0.6, found=1, lesions=2).found
        1
    """

    recall: float
    existence_recall: float
    found: int
    lesions: int


class LesionRecallMetric(LesionMetric):
    """Share of the true lesions that are found, over a data set; see `compute_lesion_recall`.

    `aggregate()` gives the recall of lesions of all sizes: with "mean" that of scans, averaged;
    with "dataset" that of all lesions. `by_size()` gives the recall of each size class. Call it
    with `raters=`, a batch (B, R, C, *spatial) or a list of (R, C, *spatial), to know existence. A
    call takes `mask` and `spacing` too, the latter in place of the one given at the start.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" (see
            `softoverlap.measures.reduction`); NaN, a scan without lesions, is left out.
        get_not_nans: Return how many values were counted as well.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel.
        edges: Volumes in mm³ that part the size classes, rising.
        weight_by: "lesions", each counts 1, or "existence", the share of raters that marked it;
            then every call needs `raters`.
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target and the raters; by default `threshold`.
        matching: "many_to_one" or "one_to_one".
        hit: "touch", or "dice" or "iou" of at least `hit_threshold`.
        hit_threshold: The lowest score that hits, in (0, 1], by default 0.1; None with "touch".
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor. Needed only with
            `edges` or `min_mm3`.
        ignore_index: Voxels with this label do not count.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If an argument is out of its range; on use, if shapes differ, a probability
            lies outside [0, 1], raters are missing, or no spacing is known where volumes matter.

    Examples:
        >>> import torch
        >>> metric = LesionRecallMetric(edges=[2.0], spacing=1.0)
        >>> target = torch.tensor([[[1.0, 1.0, 1.0, 0.0, 1.0]]])
        >>> _ = metric(torch.tensor([[[0.0, 0.9, 0.0, 0.0, 0.0]]]), target)
        >>> metric.aggregate().item(), list(metric.by_size()["label_0"])
        (0.5, ['<2 mm³', '≥2 mm³'])
    """

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        edges: Sequence[float] = (),
        weight_by: str = "lesions",
        threshold: float = 0.5,
        target_threshold: float | None = None,
        matching: str = "many_to_one",
        hit: Hit | str = "touch",
        hit_threshold: float | None = None,
        connectivity: int = 26,
        min_mm3: float = 0.0,
        halo: float = 0.01,
        spacing: Sequence[float] | float | None = None,
        ignore_index: int | None = None,
        validate: bool | None = None,
    ) -> None:
        check_choice("weight_by", weight_by, WEIGHTS)
        rising = _checked_edges(edges)
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            rules=LesionRules(threshold, target_threshold, connectivity, halo, min_mm3),
            spacing=spacing,
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
            in_mm=min_mm3 > 0 or bool(rising),
        )
        self.edges, self.weight_by = rising, weight_by
        check_choice("matching", matching, MATCHINGS)
        self.matching, self.hit = matching, lesion_hit(hit, hit_threshold)
        self.width = 4 * (len(self.edges) + 1)

    def size_names(self) -> list[str]:
        """The size classes, as "<10 mm³", "10–100 mm³", "≥100 mm³"."""
        if not self.edges:
            return ["all sizes"]
        middle = [f"{low:g}–{high:g} mm³" for low, high in pairwise(self.edges)]
        return [f"<{self.edges[0]:g} mm³", *middle, f"≥{self.edges[-1]:g} mm³"]

    def by_size(self) -> dict[str, dict[str, LesionRecall]]:
        """The recall of each class and size, over the lesions of all scans."""
        return {
            name: dict(zip(self.size_names(), map(_lesion_recall, sizes), strict=True))
            for name, sizes in ((n, t.unflatten(0, (-1, 4))) for n, t in self.totals().items())
        }

    def overall(self) -> dict[str, LesionRecall]:
        """The recall of each class, over the lesions of all scans and sizes."""
        totals = self.totals().items()
        return {name: _lesion_recall(sums.unflatten(0, (-1, 4)).sum(0)) for name, sums in totals}

    def _check(self, ndim: int, raters: Tensor | None) -> None:
        if self.weight_by == "existence" and raters is None:
            raise ValueError("raters must be given with weight_by='existence', got None")

    def _count(self, scan: LesionScan) -> Sequence[float]:
        lesions = matched_lesions(scan, self.matching, self.hit)
        existence, hit = scan.truth.existence, lesions.detected
        columns = np.stack([hit, np.ones_like(hit), hit * existence, existence], axis=1)
        counts = np.zeros((len(self.edges) + 1, 4))
        np.add.at(counts, np.digitize(lesions.volumes, self.edges), columns)
        return counts.ravel().tolist()

    def _score(self, statistics: Tensor) -> Tensor:
        return _recall(statistics.unflatten(-1, (-1, 4)).sum(dim=-2), self.weight_by)


def _recall(counts: Float[Tensor, "*shape 4"], weight_by: str) -> Float[Tensor, "*shape"]:
    found, lesions, found_existence, existence = counts.unbind(-1)
    if weight_by == "existence":
        found, lesions = found_existence, existence
    share = (found / torch.where(lesions > 0, lesions, 1)).clamp(max=1)
    return torch.where(lesions > 0, share, torch.nan)


def _lesion_recall(counts: Float[Tensor, "4"]) -> LesionRecall:
    recall, existence_recall = (float(_recall(counts, weight)) for weight in WEIGHTS)
    return LesionRecall(recall, existence_recall, found=int(counts[0]), lesions=int(counts[1]))


def _checked_edges(edges: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(edges, Iterable):
        raise TypeError(f"edges must be a sequence of volumes in mm³, got {edges!r}")
    rising = tuple(map(float, edges))
    bounds = (0.0, *rising, float("inf"))
    if not all(low < high for low, high in pairwise(bounds)):
        raise ValueError(f"edges must be rising volumes above 0 in mm³, got {list(edges)}")
    return rising
