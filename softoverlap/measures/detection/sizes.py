"""Size classes of lesions and of found boxes, in voxels or in mm³."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softoverlap import rotated
from softoverlap._checks import check_choice, check_positive
from softoverlap.measures.criteria import is_oriented
from softoverlap.measures.detection.scans import column, several
from softoverlap.measures.hit import Scan, masks_of
from softoverlap.measures.inputs import Spacing
from softoverlap.overlaps import box_volume

_MILLIMETRES = {1: "mm", 2: "mm²", 3: "mm³"}

ALL = "all"
"""The name under which results of all sizes stand."""


@dataclass(frozen=True)
class SizeClasses:
    """Half-open ranges of size: below the first edge, between two, at or above the last."""

    edges: tuple[float, ...] = ()
    spacing: tuple[float, ...] | float | str | None = None
    of: str = "box"

    @classmethod
    def checked(cls, edges: Sequence[float], spacing: Spacing | str | None, of: str) -> SizeClasses:
        """Rising edges, positive spacing."""
        edges = tuple(float(edge) for edge in several("size_edges", edges))
        rising = all(low < high for low, high in pairwise(edges))
        if not rising or not all(0 < edge < math.inf for edge in edges):
            raise ValueError(f"size_edges must hold rising numbers above 0, got {edges}")
        if spacing is not None and not isinstance(spacing, str):
            spacing = _checked_spacing(spacing)
        check_choice("size_of", of, ("box", "mask"))
        return cls(edges, spacing, of)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Lower and upper bound of each class; none where there are no edges."""
        ends = (0.0, *self.edges, math.inf)
        return list(pairwise(ends)) if self.edges else []

    def names(self, ndim: int) -> list[str]:
        """As "<10 mm³", "10–100 mm³", "≥100 mm³", or in voxels."""
        if not self.edges:
            return []
        unit = "voxels" if self.spacing is None else _MILLIMETRES.get(ndim, f"mm^{ndim}")
        middle = [f"{low:g}–{high:g} {unit}" for low, high in pairwise(self.edges)]
        return [f"<{self.edges[0]:g} {unit}", *middle, f"≥{self.edges[-1]:g} {unit}"]

    def lesion_sizes(self, target: Scan) -> Float[Tensor, "lesions"]:
        """Volume of each lesion's box, or the size of its mask."""
        if self.of == "box" or not self.edges or not len(target["label"]):
            return self.box_sizes(target["box"], target)
        masks = masks_of(target)
        crops = list(masks) if isinstance(masks, Tensor) else [lesion.crop for lesion in masks]
        sizes = torch.stack([column(crop).sum() for crop in crops])
        return sizes * self._voxel(target)

    def box_sizes(self, boxes: Tensor, target: Scan) -> Float[Tensor, "boxes"]:
        """Volume of each box; 0 where no class asks for it."""
        boxes = column(boxes)
        if not self.edges:
            return boxes.new_zeros(len(boxes))
        if is_oriented(boxes):
            return rotated.volume(boxes) * self._voxel(target)
        return box_volume(boxes, validate=False) * self._voxel(target)

    def outside(self, sizes: Float[Tensor, "any"]) -> Bool[Tensor, "classes any"]:
        """What no class counts, in the first row for all sizes together: nothing."""
        rows = [torch.zeros_like(sizes, dtype=torch.bool)]
        rows += [(sizes < low) | (sizes >= high) for low, high in self.bounds]
        return torch.stack(rows)

    def _voxel(self, target: Scan) -> float:
        """Volume of a voxel in mm³, or 1."""
        if self.spacing is None:
            return 1.0
        spacing, ndim = self.spacing, target["box"].shape[1] // 2
        if isinstance(spacing, str):
            if spacing not in target:
                raise ValueError(f"targets must have the key {spacing!r}, got {sorted(target)}")
            spacing = _checked_spacing(target[spacing])
        if isinstance(spacing, int | float):
            return float(spacing) ** ndim
        if len(spacing) != ndim:
            raise ValueError(f"spacing must hold {ndim} numbers, one an axis, got {spacing}")
        return math.prod(spacing)


def _checked_spacing(spacing: Any) -> tuple[float, ...] | float:
    """Edges of a voxel above 0, or one for every axis."""
    if isinstance(spacing, Real):
        check_positive(spacing=float(spacing))
        return float(spacing)
    edges = tuple(float(edge) for edge in several("spacing", spacing))
    check_positive(**{f"spacing[{axis}]": edge for axis, edge in enumerate(edges)})
    return edges


ANY_SIZE = SizeClasses()
