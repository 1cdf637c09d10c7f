"""A plan of anchors: strides and shapes level by level, and what it was made for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_probabilities, refusal
from softoverlap._types import Boxes, score_dtype
from softoverlap.anchors import _plan_fields as checked
from softoverlap.anchors.grid_quality import anchors_a_voxel, grid_quality, level_anchors
from softoverlap.lesion import Lesion
from softoverlap.overlaps import MaskBoxOverlap, mask_box_dice, overlap_named

_DERIVED = "anchors_per_voxel"
_SAME = 1e-6


@dataclass(frozen=True, kw_only=True)
class AnchorPlan:
    """Strides and anchor shapes for each level of a detector, finest level first.

    What is None is not planned: `plan_anchors` gives strides and shapes, `softoverlap plan` the
    rest. `lesion_retinanet(plan=...)` makes the network.

    Args:
        strides: For each level the edges of a cell in voxels, one number an axis; each a multiple
            of that of the level before.
        sizes: For each level the anchors' edges in voxels, a list of shapes with one number an
            axis.
        axes: Where the voxel axes point that all other fields speak of, such as `"RAS"`.
        spacing: Voxel edges in mm, one number an axis.
        patch_size: Voxels of a training patch, one number an axis; multiples of the last stride.
        batch_size: Patches of a step.
        foreground: Share of patches that are taken around a lesion, in [0, 1].
        expected_quality: Of each size class of lesions, figures of the best attainable quality.

    Raises:
        TypeError: If an argument is of another type; the message names it.
        ValueError: If an argument is out of range, or the arguments do not fit together.

    Examples:
        >>> plan = AnchorPlan(strides=[(2, 2), (4, 4)], sizes=[[(3, 3)], [(6, 6), (8, 4)]])
        >>> plan.anchors_per_voxel
        0.375
        >>> plan.anchors((4, 4)).shape
        torch.Size([6, 4])
    """

    strides: Sequence[Sequence[int]]
    sizes: Sequence[Sequence[Sequence[float | int]]]
    axes: str | None = None
    spacing: Sequence[float | int] | None = None
    patch_size: Sequence[int] | None = None
    batch_size: int | None = None
    foreground: float | int | None = None
    expected_quality: Mapping[str, Mapping[str, float | int | None]] | None = None

    def __post_init__(self) -> None:
        strides = checked.strides(self.strides)
        ndim = len(strides[0])
        values = {
            "strides": strides,
            "sizes": checked.sizes(self.sizes, len(strides), ndim),
            "axes": checked.axes(self.axes, ndim),
            "spacing": checked.lengths("spacing", self.spacing, ndim),
            "patch_size": checked.patch_size(self.patch_size, strides[-1]),
            "batch_size": checked.count("batch_size", self.batch_size),
            "foreground": checked.share("foreground", self.foreground),
            "expected_quality": checked.figures("expected_quality", self.expected_quality),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.strides[0])

    @property
    def anchors_per_voxel(self) -> float:
        """How many anchors a voxel has, all levels together."""
        levels = zip(self.strides, self.sizes, strict=True)
        return sum(len(shapes) * anchors_a_voxel(stride) for stride, shapes in levels)

    def anchors(self, shape: Sequence[int]) -> Boxes:
        """All anchors of an image, as a detector of this plan makes them.

        Args:
            shape: Voxels of the image, one number an axis; it is padded at its end to a multiple of
                the last stride, as the detector pads it.

        Returns:
            Boxes in voxels, float32, level by level, place by place in C order, shape by shape,
            shape (N, 2 * ndim).

        Raises:
            ValueError: If the shape has another number of axes, or a side below 1.

        Examples:
            >>> AnchorPlan(strides=[[2]], sizes=[[[3]]]).anchors([3])
            tensor([[-0.5000,  2.5000],
                    [ 1.5000,  4.5000]])
        """
        if len(shape) != self.ndim or min(shape) < 1:
            raise refusal("shape", f"must hold {self.ndim} sides of at least 1, got {list(shape)}")
        padded = [
            -(-side // step) * step for side, step in zip(shape, self.strides[-1], strict=True)
        ]
        levels = [
            level_anchors(
                torch.tensor(shapes, dtype=torch.float32),
                stride,
                [side // step for side, step in zip(padded, stride, strict=True)],
            )
            for stride, shapes in zip(self.strides, self.sizes, strict=True)
        ]
        return torch.cat(levels)

    def quality(
        self, lesions: Sequence[Lesion], *, overlap: MaskBoxOverlap | str = mask_box_dice
    ) -> Float[Tensor, "lesions"]:
        """The best overlap of each lesion with any anchor of its image.

        It is that of `anchor_quality` with all anchors, but only those are scored that may be the
        best. The lesions lie in their image, whose size does not matter then.

        Args:
            lesions: K lesions in voxels of an image.
            overlap: Of mask and box, a Tversky index, or its name.

        Returns:
            Best overlap in [0, 1], shape (K,).

        Raises:
            TypeError: If `overlap` is neither an overlap nor a name.
            ValueError: If the lesions have another number of axes, or `overlap` is no Tversky
                index.

        Examples:
            >>> import torch
            >>> lesion = Lesion(
            ...     box=torch.tensor([2.0, 5.0]), crop=torch.ones(3), offset=torch.tensor([2]),
            ...     centre=torch.tensor([3.5]), volume_mm3=3.0,
            ... )
            >>> AnchorPlan(strides=[[2]], sizes=[[[3], [4]]]).quality([lesion])
            tensor([0.8571])
        """
        overlap = tversky_overlap(overlap)
        if not len(lesions):
            return torch.zeros(0)
        check_lesions(lesions, self.ndim)
        best = [
            grid_quality(lesions, torch.tensor(shapes), stride, overlap).amax(dim=1)
            for stride, shapes in zip(self.strides, self.sizes, strict=True)
        ]
        dtype = score_dtype(torch.empty(0), *(lesion.crop for lesion in lesions))
        return torch.stack(best).amax(dim=0).to(dtype)

    def best_anchors(
        self, lesions: Sequence[Lesion], *, overlap: MaskBoxOverlap | str = mask_box_dice
    ) -> Boxes:
        """The anchor that overlaps each lesion best, the first of equals.

        Args:
            lesions: K lesions in voxels of an image.
            overlap: Of mask and box, a Tversky index, or its name.

        Returns:
            Boxes in voxels of the image, float32, shape (K, 2 * ndim).

        Raises:
            TypeError: As `quality`.
            ValueError: As `quality`.

        Examples:
            >>> import torch
            >>> lesion = Lesion(
            ...     box=torch.tensor([2.0, 5.0]), crop=torch.ones(3), offset=torch.tensor([2]),
            ...     centre=torch.tensor([3.5]), volume_mm3=3.0,
            ... )
            >>> AnchorPlan(strides=[[2]], sizes=[[[3], [4]]]).best_anchors([lesion])
            tensor([[1., 5.]])
        """
        overlap = tversky_overlap(overlap)
        check_lesions(lesions, self.ndim)
        cell = torch.tensor(self.strides[-1])
        found = torch.zeros(len(lesions), 2 * self.ndim)
        for row, lesion in enumerate(lesions):
            offset = lesion.offset.cpu().long()
            shift = (offset // cell - 1) * cell  # near the corner of an image are few anchors
            near = replace(lesion, crop=lesion.crop.cpu(), offset=offset - shift)
            size = offset - shift + torch.tensor(lesion.crop.shape) + cell
            anchors = self.anchors(size.tolist())
            best = overlap([near], anchors, empty=0.0)[0].argmax()
            found[row] = anchors[best] + shift.repeat(2)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Fields by their names, as JSON and checkpoints hold them; `from_dict` reads them.

        Examples:
            >>> AnchorPlan(strides=[[2]], sizes=[[[3]]]).to_dict()
            {'strides': [[2]], 'sizes': [[[3.0]]], 'anchors_per_voxel': 0.5}
        """
        values = {name: _plain(value) for name, value in asdict(self).items() if value is not None}
        return {**values, _DERIVED: self.anchors_per_voxel}

    def to_json(self) -> str:
        """The plan as JSON, which `from_json` reads back exactly.

        Examples:
            >>> plan = AnchorPlan(strides=[(2, 2)], sizes=[[(3, 3)]], spacing=(1.0, 0.5))
            >>> AnchorPlan.from_json(plan.to_json()) == plan
            True
        """
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> AnchorPlan:
        """The plan that `to_json` wrote; every field is checked.

        Args:
            text: JSON, an object with the arguments of a plan by their names.

        Returns:
            The plan.

        Raises:
            TypeError: If a field is of another type; the message names it.
            ValueError: If the text is no JSON, a field is missing, unknown or out of range, or
                `anchors_per_voxel` is not that of strides and sizes.

        Examples:
            >>> AnchorPlan.from_json('{"strides": [[2]], "sizes": [[[0]]]}')
            Traceback (most recent call last):
            ValueError: sizes must hold edges above 0, got 0 on level 0
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"plan must be JSON, got: {error}") from error
        return AnchorPlan.from_dict(values)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> AnchorPlan:
        """The plan of fields by their names, as JSON holds them.

        Args:
            values: Arguments of a plan; `anchors_per_voxel` may stand beside them.

        Returns:
            The plan.

        Raises:
            TypeError: As in `from_json`.
            ValueError: As in `from_json`.

        Examples:
            >>> AnchorPlan.from_dict({"strides": [[2]]})
            Traceback (most recent call last):
            ValueError: plan must have the fields strides and sizes, found no sizes
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"plan must be an object with fields, got {type(values).__name__}")
        known = [field.name for field in fields(AnchorPlan)]
        for name in values:
            if name not in (*known, _DERIVED):
                raise ValueError(f"plan must hold the fields {', '.join(known)}, got {name!r}")
        for name in ("strides", "sizes"):
            if name not in values:
                raise ValueError(f"plan must have the fields strides and sizes, found no {name}")
        plan = AnchorPlan(**{name: values[name] for name in known if name in values})
        stored = values.get(_DERIVED, plan.anchors_per_voxel)
        checked.number(_DERIVED, stored)
        if not abs(stored - plan.anchors_per_voxel) <= _SAME:
            raise refusal(
                _DERIVED,
                f"must be {plan.anchors_per_voxel:g} by strides and sizes, got {stored!r}",
            )
        return plan


def _plain(value: Any) -> Any:
    """Lists in place of tuples."""
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def check_lesions(lesions: Sequence[Lesion], ndim: int) -> None:
    """All are lesions with so many axes and probabilities as voxels."""
    for lesion in lesions:
        if not isinstance(lesion, Lesion):
            raise refusal("lesions", f"must hold Lesion, got {type(lesion).__name__}", TypeError)
        if lesion.crop.ndim != ndim:
            raise refusal("lesions", f"must all have {ndim} axes, got one with {lesion.crop.ndim}")
        check_probabilities(crop=lesion.crop)


def tversky_overlap(overlap: MaskBoxOverlap | str) -> MaskBoxOverlap:
    """The overlap, also by its name, if more mass in a box always means more of it."""
    overlap = overlap_named(overlap, MaskBoxOverlap)
    if overlap.tversky_weights is None:
        raise refusal("overlap", f"must be a Tversky index of mask and box, got {overlap!r}")
    return overlap
