"""Overlap of regions: polygons with holes, plain or on a torus, and densities on a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import regions, scores
from softoverlap._checks import check_same_rows, refusal, should_validate
from softoverlap._periodic import Period, as_period
from softoverlap._types import plain, score_dtype
from softoverlap.overlaps.overlap import Overlap, Pairs
from softoverlap.regions import Polygon

_AT_ONCE = 1 << 22  # pairs of edges, or of cells

Regions = Polygon | Sequence[Polygon] | Shaped[Tensor, "*regions rows columns"]
"""One polygon or many, or a density on a grid, (H, W), or many, (N, H, W)."""

OtherRegions = Polygon | Sequence[Polygon] | Shaped[Tensor, "*others rows columns"]
"""The same, as many as there are."""

Meeting = Callable[[Period], tuple[Tensor, Tensor, Tensor]]
"""From a period to what pairs of regions share, and the sizes of both."""


class RegionOverlap(Overlap):
    """Overlap of regions: its definition is a score of a `Meeting`."""

    def __call__(
        self,
        pred: Regions,
        target: OtherRegions,
        *,
        validate: bool | None = None,
        **parameters: Period,
    ) -> Float[Tensor, "*pairs"]:
        """Score all pairs of regions.

        Args:
            pred: N polygons in a sequence, or N densities on a grid, at least 0, shape (N, H, W).
                A region alone, a polygon or a density of shape (H, W), has no axis in the result.
            target: M of the same kind, densities on the same grid.
            parameters: Of the overlap, by name.
            period: After which length each axis comes round, such as 360 for angles: one number
                for both, or one an axis, None where it never does. A polygon may lie across the
                seam, and be longer than a period, but covers no place twice. Of densities it
                changes nothing: a cell meets the one in its place.
            validate: Look at densities, and for places covered twice, too; by default on for CPU
                tensors. Polygons were looked at when they were made.

        Returns:
            Score in its range, without unit, shape (N, M); of aligned regions by `.pairs`.

        Raises:
            TypeError: If the two are not regions of one kind.
            ValueError: If a shape is wrong or the grids differ, a density is negative, infinite or
                NaN, a polygon covers a place of the torus twice, or an argument is out of range.
        """
        definition = self.defined(parameters)
        sets, dtype = _sets(validate, pred=pred, target=target)
        first, second = torch.meshgrid(*(each.rows for each in sets), indexing="ij")
        score = definition(partial(_meet, sets, (first.flatten(), second.flatten()), validate))
        return score.to(dtype).reshape(sets[0].axis + sets[1].axis)

    @property
    def pairs(self) -> RegionPairs:
        """The aligned form."""
        return self._pairs

    def _aligned(self) -> RegionPairs:
        return RegionPairs(self)

    def _values(self, given: Mapping[str, Any], called: str) -> dict[str, Any]:
        if "period" in given:
            given = {**given, "period": as_period(given["period"])}
        return super()._values(given, called)

    def _of_pairs(
        self,
        pred: Regions,
        target: OtherRegions,
        validate: bool | None,
        parameters: Mapping[str, Any],
    ) -> Tensor:
        definition = self.defined(parameters, self.pairs.__name__)
        sets, dtype = _sets(validate, pred=pred, target=target)
        check_same_rows(pred=sets[0].values, target=sets[1].values)
        score = definition(partial(_meet, sets, (sets[0].rows, sets[1].rows), validate))
        return score.to(dtype).reshape(sets[0].axis or sets[1].axis)


class RegionPairs(Pairs):
    """Overlap of region i and region i."""

    overlap: RegionOverlap

    def __call__(
        self,
        pred: Regions,
        target: OtherRegions,
        *,
        validate: bool | None = None,
        **parameters: Period,
    ) -> Float[Tensor, "*pairs"]:
        """Score region i and region i.

        Args:
            pred: N polygons in a sequence, or densities on a grid, shape (N, H, W).
            target: As many of the same kind, densities on the same grid.
            parameters: Of the overlap, by name.
            period: After which length each axis comes round, as in the form for all pairs.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N,).

        Raises:
            TypeError: As in the form for all pairs.
            ValueError: As in the form for all pairs, or if the regions are not as many.
        """
        return self.overlap._of_pairs(pred, target, validate, parameters)


@partial(RegionOverlap, zero_apart=True)
def region_iou(meeting: Meeting, *, period: Period = None) -> Tensor:
    """Intersection over union of regions: of polygons with holes, or Σ min / Σ max of densities.

    Exact up to rounding for polygons of any shape, from an integral over their edges in float64,
    which needs no other package and has a gradient to all vertices; where edges coincide it is the
    mean of both one-sided ones. Two densities without mass score 1.

    References:
        Jaccard, The distribution of the flora in the alpine zone, New Phytologist 1912; for
        densities Ruzicka, 1958, and Wang et al., https://arxiv.org/abs/2302.05666

    Examples:
        >>> import torch
        >>> from softoverlap import Polygon
        >>> square = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
        >>> whole, ring = Polygon(square), Polygon(square, holes=[square / 2 + 1])
        >>> region_iou(ring, whole)
        tensor(0.7500)
        >>> region_iou([ring, whole], [Polygon(square + 180), whole], period=180)
        tensor([[0.7500, 0.7500],
                [1.0000, 1.0000]])
        >>> region_iou.pairs([ring], [whole])
        tensor([0.7500])
        >>> region_iou(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.0, 1.0]]))
        tensor(0.3333)
    """
    return scores.iou(*meeting(period))


@partial(RegionOverlap, zero_apart=True)
def region_dice(meeting: Meeting, *, period: Period = None) -> Tensor:
    """Dice score of regions: twice what they share over the sum of their sizes.

    As exact as `region_iou`, with the same gradient.

    Examples:
        >>> import torch
        >>> from softoverlap import Polygon
        >>> triangle = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> one, other = Polygon(triangle), Polygon(triangle + torch.tensor([1.0, 0.0]))
        >>> region_dice(one, other), region_dice.pairs([one], [other])
        (tensor(0.2500), tensor([0.2500]))
    """
    return scores.dice(*meeting(period))


region_pair_iou, region_pair_dice = region_iou.pairs, region_dice.pairs


class _Set(NamedTuple):
    """Regions of one kind: edges, or the cells of densities, with a row for each."""

    values: Tensor
    axis: tuple[int, ...]
    """Of the result: none for a region alone."""

    @property
    def rows(self) -> Tensor:
        return torch.arange(len(self.values), device=self.values.device)


Sets = tuple[_Set, _Set]


def _meet(
    sets: Sets, pairs: tuple[Tensor, Tensor], validate: bool | None, period: Period
) -> tuple[Tensor, Tensor, Tensor]:
    """What pairs of regions share, by their rows, and their sizes, float64."""
    a, b = (each.values for each in sets)
    if a.ndim == 2:
        share, size, work = regions.shared_mass, regions.mass, a.shape[1]
    else:
        if period is not None and should_validate(validate, a, b):
            for name, edges in (("pred", a), ("target", b)):
                regions.check_on_torus(name, edges, period)
        share, size = partial(regions.shared_area, period=period), regions.area
        work = a.shape[1] * b.shape[1]
    blocks = zip(*(rows.split(max(1, _AT_ONCE // max(1, work))) for rows in pairs), strict=True)
    shared = torch.cat([share(a[i], b[j]) for i, j in blocks])
    return shared, size(a)[pairs[0]], size(b)[pairs[1]]


def _sets(validate: bool | None, **given: Any) -> tuple[Sets, torch.dtype]:
    """Both, and the type of their score."""
    if all(isinstance(each, Tensor) for each in given.values()):
        _check_grids(validate, **given)
        pred, target = (
            _Set(regions.cells(one if one.ndim == 3 else one[None]), tuple(one.shape[:-2]))
            for one in map(plain, given.values())
        )
        return (pred, target), score_dtype(*given.values())
    many = {name: _polygons(name, each) for name, each in given.items()}
    pred, target = (
        _Set(regions.edges_of(many[name]), () if isinstance(each, Polygon) else (len(many[name]),))
        for name, each in given.items()
    )
    polygons = [polygon for each in many.values() for polygon in each]
    rings = [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]
    return (pred, target), score_dtype(*rings)


def _polygons(name: str, given: Any) -> Sequence[Polygon]:
    polygons = [given] if isinstance(given, Polygon) else given
    if isinstance(polygons, Sequence) and all(isinstance(one, Polygon) for one in polygons):
        return polygons
    kinds = "must be of the other's kind, a Polygon, a sequence of them, or a tensor of densities"
    raise refusal(name, f"{kinds}, got {type(given).__name__}", TypeError)


def _check_grids(validate: bool | None, **densities: Tensor) -> None:
    """Both are densities on one grid."""
    regions.check_densities(**densities, validate=validate)
    for name, density in densities.items():
        if density.ndim not in (2, 3):
            shape = tuple(density.shape)
            raise refusal(name, f"must have shape (H, W) or (N, H, W), got {shape}")
    for name, density in densities.items():
        if density.ndim == 2 and density.shape[1] == 2 and len(density) > 2:
            raise refusal(
                name,
                f"must be a density, got shape {tuple(density.shape)}: vertices go into a "
                f"Polygon, and a density of two columns has shape (1, H, 2)",
            )
    pred, target = (tuple(density.shape[-2:]) for density in densities.values())
    if pred != target:
        raise refusal("target", f"must lie on the grid of pred, {pred}, got {target}")
