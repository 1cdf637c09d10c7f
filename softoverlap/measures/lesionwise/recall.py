"""Which share of the true lesions is found, by size, and by how many raters marked them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_choice, check_number
from softoverlap._types import VoxelWeights
from softoverlap.measures.hit import Hit
from softoverlap.measures.inputs import Spacing
from softoverlap.measures.lesionwise.hits import MatchedLesions, lesion_hit, matched_lesions
from softoverlap.measures.lesionwise.maps import MATCHINGS, LesionScan
from softoverlap.measures.lesionwise.measure import RaterLesionMeasure, RaterMasks
from softoverlap.measures.lesionwise.rows import LesionMatch, lesion_rows
from softoverlap.measures.measure import Statistics
from softoverlap.overlaps import MaskOverlap

WEIGHTS = ("lesions", "existence")
ALL_SIZES = "all sizes"


@dataclass(frozen=True)
class RecallFigures:
    """How many lesions of a size were found.

    Args:
        recall: Found lesions / lesions, NaN where there is none.
        existence_recall: Σ existence of the found lesions / Σ existence.
        found: How many were found.
        lesions: How many there are.

    Examples:
        >>> RecallFigures(recall=0.5, existence_recall=0.6, found=1, lesions=2).found
        1
    """

    recall: float
    existence_recall: float
    found: int
    lesions: int


@dataclass(frozen=True, kw_only=True)
class LesionRecall(RaterLesionMeasure):
    """Share of the true lesions that are found, in [0, 1], NaN where there is none.

    A predicted lesion touches a true one where they share a voxel at or above both thresholds, and
    only what touches is matched:

    - "many_to_one": all predicted lesions that touch a true one are merged, so a lesion found in
      pieces is found; one that touches several counts in full for each.
    - "one_to_one": pairs of one true and one predicted lesion, with the highest total soft IoU
      there is (the assignment problem, solved exactly).

    A lesion's size is its soft volume, Σ probability times the voxel's volume; a volume on an edge
    belongs to the larger class. `by_size` scores each size class, `details` gives their figures,
    `matches` a row for each lesion.

    Args:
        edges: Volumes in mm³ (areas in mm² in 2D) that part the size classes, rising: (10, 100)
            makes "<10 mm³", "10–100 mm³" and "≥100 mm³".
        weight_by: "lesions", each counts 1; or "existence", each counts the share of raters that
            marked it (`statistics` needs `raters`): Σ existence of the found ones / Σ existence.
        matching: "many_to_one" or "one_to_one".
        hit: What makes a matched lesion found: "touch", any voxel at or above both thresholds; or
            "dice" or "iou", a soft score of at least `hit_threshold`; or a `Hit` of `mask_dice`,
            `mask_iou` or `any_voxel`.
        hit_threshold: The lowest score that hits, in (0, 1], by default 0.1; None with "touch".

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 1.0, 0.0, 1.0]]])
        >>> pred = torch.tensor([[[0.0, 0.9, 0.0, 0.0, 0.0]]])
        >>> recall = LesionRecall(spacing=1.0, edges=[2.0])
        >>> recall(pred, target), recall.by_size(recall.statistics(pred, target))
        (tensor([[0.5000]], dtype=torch.float64), tensor([[[0., 1.]]], dtype=torch.float64))
        >>> first, second = recall.matches(pred, target)
        >>> first.detected, first.box, second.centre
        (True, (0, 3), (4.5,))
    """

    edges: Sequence[float] = ()
    weight_by: str = "lesions"
    matching: str = "many_to_one"
    hit: Hit | MaskOverlap | str = "touch"
    hit_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("weight_by", self.weight_by, WEIGHTS)
        check_choice("matching", self.matching, MATCHINGS)
        object.__setattr__(self, "edges", _checked_edges(self.edges))
        lesion_hit(self.hit, self.hit_threshold)

    @property
    def width(self) -> int:
        """Of each size: found lesions, lesions, and Σ existence of both."""
        return 4 * (len(self.edges) + 1)

    @property
    def in_mm(self) -> bool:
        """Whether volumes matter."""
        return super().in_mm or bool(self.edges)

    @property
    def size_names(self) -> list[str]:
        """The size classes, as "<10 mm³", "10–100 mm³", "≥100 mm³"."""
        if not self.edges:
            return [ALL_SIZES]
        middle = [f"{low:g}–{high:g} mm³" for low, high in pairwise(self.edges)]
        return [f"<{self.edges[0]:g} mm³", *middle, f"≥{self.edges[-1]:g} mm³"]

    def statistics(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: VoxelWeights | None = None,
        spacing: Spacing | None = None,
        raters: RaterMasks | None = None,
    ) -> Statistics:
        """Found lesions, lesions and Σ existence of both, of each item, class and size."""
        if self.weight_by == "existence" and raters is None:
            raise ValueError("raters must be given with weight_by='existence', got None")
        return super().statistics(y_pred, y, mask=mask, spacing=spacing, raters=raters)

    def count(self, scan: LesionScan) -> Sequence[float]:
        """Found lesions, lesions and Σ existence of both, of each size."""
        lesions = self._matched(scan)
        existence, hit = scan.truth.existence, lesions.detected
        columns = np.stack([hit, np.ones_like(hit), hit * existence, existence], axis=1)
        counts = np.zeros((len(self.edges) + 1, 4))
        np.add.at(counts, np.digitize(lesions.volumes, self.edges), columns)
        return counts.ravel().tolist()

    def score(self, statistics: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """The recall of lesions of all sizes."""
        return _recall(statistics.unflatten(-1, (-1, 4)).sum(dim=-2), self.weight_by)

    def by_size(self, statistics: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape sizes"]:
        """The recall of lesions of each size."""
        return _recall(statistics.unflatten(-1, (-1, 4)), self.weight_by)

    def details(self, statistics: Float[Tensor, "items width"]) -> dict[str, RecallFigures]:
        """The figures of each size over the lesions of all items, and of all sizes together."""
        sizes = statistics.sum(dim=0).unflatten(0, (-1, 4))
        figures = dict(zip(self.size_names, map(_figures, sizes), strict=True))
        return figures | {ALL_SIZES: _figures(sizes.sum(dim=0))}

    def matches(
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: VoxelWeights | None = None,
        spacing: Spacing | None = None,
        raters: RaterMasks | None = None,
    ) -> list[LesionMatch]:
        """A row for each true lesion, by item, class and first voxel; none without lesions.

        Args:
            y_pred: The prediction.
            y: The target.
            mask: How much each voxel counts.
            spacing: Edges of a voxel in mm, in place of the setting; one of them is needed.
            raters: Masks of R raters, shape (B, R, C, *spatial).

        Returns:
            The rows. For predicted lesions that match nothing see `FalsePositives`.

        Raises:
            ValueError: If shapes differ, a probability lies outside [0, 1] or no spacing is known.
        """
        batch = self.batch(y_pred, y, mask)
        edges = self._spacings(y_pred, y, spacing, needed=True)
        return [
            row
            for item, channel, scan in self.scans(batch, edges, raters)
            for row in lesion_rows(item, channel, scan, self._matched(scan))
        ]

    def _matched(self, scan: LesionScan) -> MatchedLesions:
        return matched_lesions(scan, self.matching, lesion_hit(self.hit, self.hit_threshold))


def _recall(counts: Float[Tensor, "*shape 4"], weight_by: str) -> Float[Tensor, "*shape"]:
    hits, lesions, hit_existence, existence = counts.unbind(-1)
    if weight_by == "existence":
        hits, lesions = hit_existence, existence
    share = (hits / torch.where(lesions > 0, lesions, 1)).clamp(max=1)
    return torch.where(lesions > 0, share, torch.nan)


def _figures(counts: Float[Tensor, "4"]) -> RecallFigures:
    recall, existence_recall = (float(_recall(counts, weight)) for weight in WEIGHTS)
    return RecallFigures(recall, existence_recall, found=int(counts[0]), lesions=int(counts[1]))


def _checked_edges(edges: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(edges, Iterable):
        raise TypeError(f"edges must be a sequence of volumes in mm³, got {edges!r}")
    check_number(**{f"edges[{place}]": edge for place, edge in enumerate(edges)})
    rising = tuple(map(float, edges))
    bounds = (0.0, *rising, float("inf"))
    if not all(low < high for low, high in pairwise(bounds)):
        raise ValueError(f"edges must be rising volumes above 0 in mm³, got {list(edges)}")
    return rising
