"""The record of one lesion: what detection, anchors and metrics pass to each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._autograd import held
from softoverlap._checks import check_choice, check_solid_boxes, check_tensors, check_within
from softoverlap._fill import box_fill, ellipsoid_fill
from softoverlap._types import plain

_AT_ONCE = 1 << 20  # voxels that are widened to float64


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion: a soft crop of the image grid, and where it lies.

    Args:
        box: Tight box around the voxels at or above the threshold, shape (2 * ndim,), in voxel
            coordinates of the whole image (voxel `i` fills `[i, i + 1)`).
        crop: Probabilities around the lesion, shape (*crop).
        offset: Index of the crop's first voxel in the image, integers, shape (ndim,).
        centre: Centre of mass in voxel coordinates (a single voxel `i` has centre `i + 0.5`),
            shape (ndim,).
        volume_mm3: Σ probability times the voxel's volume, in mm³.
        existence: Share of raters that marked the lesion, in [0, 1].
        label: Class of the lesion, 0 for the first class.
        visible: Share of the lesion's mass that the crop holds, in (0, 1]: below 1 the box is that
            of the whole lesion and crop, centre and volume are of the part that a patch shows
            (`crop_lesion(keep_box=True)`).

    Raises:
        TypeError: If box, crop, offset or centre is not a tensor, the offset or the label is no
            integer, or the volume, the existence or the visible share no number.
        ValueError: If the ranks of box, crop, offset and centre disagree, or the volume, the
            existence, the label or the visible share is out of range.

    Examples:
        >>> import torch
        >>> lesion = Lesion(
        ...     box=torch.tensor([4.0, 6.0]), crop=torch.tensor([0.5, 1.0]),
        ...     offset=torch.tensor([4]), centre=torch.tensor([5.17]), volume_mm3=1.5,
        ... )
        >>> lesion.existence
        1.0
    """

    box: Shaped[Tensor, "coords"]
    crop: Shaped[Tensor, "*crop"]
    offset: Shaped[Tensor, "ndim"]
    centre: Shaped[Tensor, "ndim"]
    volume_mm3: float
    existence: float = 1.0
    label: int = 0
    visible: float = 1.0

    def __post_init__(self) -> None:
        check_tensors(box=self.box, crop=self.crop, offset=self.offset, centre=self.centre)
        ndim = self.crop.ndim
        for name, length in (("box", 2 * ndim), ("offset", ndim), ("centre", ndim)):
            shape = tuple(getattr(self, name).shape)
            if shape != (length,):
                raise ValueError(
                    f"{name} must have shape ({length},) for a crop of {ndim} axes, got {shape}"
                )
        if self.offset.is_floating_point():
            raise TypeError(f"offset must hold integers, got dtype {self.offset.dtype}")
        _check_numbers(self.volume_mm3, self.existence, self.label, self.visible)

    @classmethod
    def from_box(
        cls,
        box: Shaped[Tensor, "coords"],
        *,
        spacing: Sequence[float | int],
        shape: str = "box",
        label: int = 0,
        existence: float = 1.0,
    ) -> Lesion:
        """A lesion that is known by its box alone, real-valued, with the box as its mask.

        Args:
            box: The box in voxel coordinates, shape (2 * ndim,), each edge above 0.
            spacing: Edges of a voxel in mm, one for each axis.
            shape: `"box"` if it fills the box, or `"ellipsoid"` if it fills the ellipsoid that
                touches the box's faces, as nodules that are given by a diameter do.
            label: Class of the lesion, 0 for the first class.
            existence: Share of raters that marked the lesion, in [0, 1].

        Returns:
            The lesion. Its crop holds the filled share of each voxel, float32, which is exact for a
            box; that of an ellipsoid is summed over at least 64 lines across, exact along the last
            axis, and its volume right to 0.1 %. Its box is the one given.

        Raises:
            TypeError: If the box is no tensor.
            ValueError: If the box has a wrong shape, an edge not above 0 or a value that is not
                finite, or spacing, shape, label or existence are wrong.

        Examples:
            >>> import torch
            >>> lesion = Lesion.from_box(torch.tensor([1.5, 3.0]), spacing=[2.0])
            >>> lesion.crop, lesion.offset, lesion.volume_mm3
            (tensor([0.5000, 1.0000]), tensor([1]), 3.0)
        """
        check_tensors(box=box)
        check_choice("shape", shape, tuple(_FILLS))
        check_solid_boxes(box=box[None], validate=True)
        bounds = plain(box).detach().to("cpu", torch.float64)
        ndim = len(bounds) // 2
        edges = [float(edge) for edge in spacing]
        if len(edges) != ndim or not all(0 < edge < math.inf for edge in edges):
            raise ValueError(f"spacing must hold {ndim} positive lengths in mm, got {edges}")
        low, high = bounds.split(ndim)
        crop, offset = _FILLS[shape](low.tolist(), high.tolist())
        return cls(
            box=plain(box) if box.is_floating_point() else plain(box).float(),
            crop=crop.float().to(box.device),
            offset=offset.to(box.device),
            centre=((low + high) / 2).float().to(box.device),
            volume_mm3=float(crop.sum()) * math.prod(edges),
            existence=existence,
            label=label,
        )


_FILLS = {"box": box_fill, "ellipsoid": ellipsoid_fill}


def _check_numbers(volume_mm3: object, existence: object, label: object, visible: object) -> None:
    """Each is a number in its range; the message names it."""
    inf = float("inf")
    for name, value, kind, fits, expected in (
        ("volume_mm3", volume_mm3, Real, lambda v: 0 <= v < inf, "a finite number, at least 0"),
        ("existence", existence, Real, lambda v: 0 <= v <= 1, "a number in [0, 1]"),
        ("label", label, Integral, lambda v: v >= 0, "an integer, at least 0"),
        ("visible", visible, Real, lambda v: 0 < v <= 1, "a number in (0, 1]"),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be {expected}, got {value!r}")
        if not fits(value):
            raise ValueError(f"{name} must be {expected}, got {value!r}")


def crop_lesion(
    lesion: Lesion,
    start: Sequence[int],
    size: Sequence[int],
    *,
    min_visible: float = 0.25,
    keep_box: bool = False,
) -> Lesion | None:
    """The part of a lesion that a patch shows, in coordinates of the patch.

    The box is the lesion's own, clipped to the patch, so it may reach beyond the visible voxels of
    an irregular lesion; the centre is that of the visible mass. The part is then a lesion of its
    own. With `keep_box` the box stays whole and may reach beyond the patch, and `visible` says
    which share of the lesion's mass the patch shows (amodal boxes).

    Args:
        lesion: A lesion in coordinates of the whole image.
        start: First voxel of the patch in the image, one number an axis; may be negative where a
            patch reaches beyond the image.
        size: Voxels of the patch, one number an axis, at least 1.
        min_visible: Least share of the lesion's mass that the patch must show, in [0, 1]; with
            `keep_box` of the whole lesion's, also where this one is a part already.
        keep_box: Keep the whole box in place of the part that lies in the patch.

    Returns:
        The visible part, or None if the patch shows less of the mass than `min_visible`, none of
        it, or no part of the box.

    Raises:
        TypeError: If `start` or `size` holds anything but integers.
        ValueError: If `start` or `size` has another number of axes than the lesion, a size is
            below 1, or `min_visible` lies outside [0, 1].

    Examples:
        >>> import torch
        >>> lesion = Lesion(
        ...     box=torch.tensor([4.0, 8.0]), crop=torch.ones(4), offset=torch.tensor([4]),
        ...     centre=torch.tensor([6.0]), volume_mm3=4.0,
        ... )
        >>> part = crop_lesion(lesion, [5], [10])
        >>> part.box, part.volume_mm3
        (tensor([0., 3.]), 3.0)
        >>> whole = crop_lesion(lesion, [5], [10], keep_box=True)
        >>> whole.box, whole.visible
        (tensor([-1.,  3.]), 0.75)
        >>> crop_lesion(lesion, [20], [10]) is None
        True
    """
    _check_patch(lesion, start, size, min_visible)
    first = [int(o) - int(s) for o, s in zip(lesion.offset.tolist(), start, strict=True)]
    window = tuple(
        slice(min(max(-low, 0), voxels), max(min(int(edge) - low, voxels), 0))
        for low, edge, voxels in zip(first, size, lesion.crop.shape, strict=True)
    )
    crop = plain(lesion.crop)[window]
    total, visible = lesion.crop.double().sum().item(), crop.double().sum().item()
    given = plain(lesion.box)
    given = given if given.is_floating_point() else given.long()  # to reach below 0 and beyond 255
    whole = given - given.new_tensor([*start, *start])
    box = whole.clamp(min=0).minimum(whole.new_tensor([*size, *size]))
    flat = bool((box[crop.ndim :] <= box[: crop.ndim]).any())
    shown = lesion.visible * visible / total if total else 0.0
    if visible <= 0 or shown < min_visible * (1 if keep_box else lesion.visible) or flat:
        return None
    offset = lesion.offset.long().new_tensor([max(low, 0) for low in first])
    return replace(
        lesion,
        box=whole if keep_box else box,
        visible=min(1.0, shown) if keep_box else 1.0,
        crop=crop,
        offset=offset,
        centre=(centre_of_mass(crop) + offset).to(_centre_like(lesion)),
        volume_mm3=lesion.volume_mm3 * visible / total,
    )


def _check_patch(
    lesion: Lesion, start: Sequence[int], size: Sequence[int], min_visible: float
) -> None:
    ndim = lesion.crop.ndim
    for name, values in (("start", start), ("size", size)):
        if len(values) != ndim:
            raise ValueError(f"{name} must hold {ndim} integers, one an axis, got {list(values)}")
        if not all(isinstance(value, Integral) for value in values):
            raise TypeError(f"{name} must hold {ndim} integers, one an axis, got {list(values)}")
    if min(size) < 1:
        raise ValueError(f"size must be at least 1 on every axis, got {list(size)}")
    check_within(0, 1, min_visible=min_visible)


def _centre_like(lesion: Lesion) -> Tensor:
    """The lesion's centre in a type that holds fractions."""
    return lesion.centre if lesion.centre.is_floating_point() else lesion.centre.float()


def centre_of_mass(weights: Shaped[Tensor, "*crop"]) -> Float[Tensor, "ndim"]:
    """Centre of mass of a crop, in voxels; voxel `i` has its centre at `i + 0.5`.

    Only profiles along the axes are made, some layers at a time: a lesion may fill a scan.

    Args:
        weights: Of each voxel, at least 0 and not all 0, shape (*crop).

    Returns:
        The centre, float64, with a gradient to the weights, shape (ndim,).

    Examples:
        >>> import torch
        >>> centre_of_mass(torch.tensor([[0.0, 1.0, 1.0]]))
        tensor([0.5000, 2.0000], dtype=torch.float64)
    """
    weights = held(weights)
    layers = max(1, _AT_ONCE * len(weights) // max(1, weights.numel()))
    parts = [_profiles(part.double()) for part in weights.split(layers)]
    first, *others = zip(*parts, strict=True)
    profiles = [torch.cat(first), *(torch.stack(axis).sum(dim=0) for axis in others)]
    centre = []
    for profile in profiles:
        places = torch.arange(len(profile), dtype=profile.dtype, device=profile.device) + 0.5
        centre.append((profile * places).sum() / profile.sum())
    return torch.stack(centre)


def _profiles(weights: Tensor) -> list[Tensor]:
    """For each axis the sum of every layer across it."""
    axes = range(weights.ndim)
    others = [[other for other in axes if other != axis] for axis in axes]
    return [weights.sum(dim=dims) if dims else weights for dims in others]
