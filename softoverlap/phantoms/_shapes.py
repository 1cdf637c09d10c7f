"""Shapes of lesions: as given or of the phantoms' own kind, turned, placed, and as bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import check_probabilities, refusal
from softoverlap._types import plain
from softoverlap.lesion import Lesion
from softoverlap.phantoms import _anatomy as anatomy, _scenes as scenes
from softoverlap.phantoms._anatomy import Body, Grid, Window
from softoverlap.phantoms._raters import Rater, outline, who_marks

_SURE = 0.5
"""A lesion without raters is one of the truth only if a voxel of it reaches this probability."""


class Shape(NamedTuple):
    """The soft mask of a lesion, (D, H, W), and its raters' masks, (R, D, H, W), R = 0 for none."""

    mask: np.ndarray
    raters: np.ndarray

    @property
    def solid(self) -> np.ndarray:
        """What is seen of it in the image: voxels of at least half its highest probability."""
        return self.mask >= self.mask.max() / 2

    @property
    def size(self) -> np.ndarray:
        """Voxels along each axis."""
        return np.array(self.mask.shape)


def of_raters(raters: np.ndarray) -> Shape:
    """The shape whose soft mask is the mean of the raters'."""
    return Shape(raters.mean(axis=0, dtype=np.float32), raters)


Given = Mapping[str, Sequence[Lesion | Tensor]]
"""For each patient lesions, or lesions as masks of raters, shape (R, D, H, W)."""


def checked_shapes(lesions: Given, grid: Grid) -> dict[str, list[Shape]]:
    """The shapes of each patient, if scans of this grid can hold them."""
    if not isinstance(lesions, Mapping):
        raise refusal("lesions", f"must hold lists by patient, got {type(lesions)}", TypeError)
    if not lesions:
        raise refusal("lesions", "must be those of at least one patient, got none")
    shapes: dict[str, list[Shape]] = {}
    for patient, given in lesions.items():
        if not isinstance(patient, str) or not re.fullmatch(r"\w[\w.-]*", patient):
            raise refusal("lesions", f"must name patients as files are named, got {patient!r}")
        names = [f"lesions[{patient!r}][{number}]" for number in range(len(given))]
        shapes[patient] = [_checked(*pair, grid) for pair in zip(given, names, strict=True)]
    counts = {len(shape.raters) for group in shapes.values() for shape in group}
    if len(counts) > 1:
        raise refusal("lesions", f"must all have as many raters, got {sorted(counts)}")
    return shapes


def _checked(given: Lesion | Tensor, name: str, grid: Grid) -> Shape:
    masks = given.crop[None] if isinstance(given, Lesion) else given
    check_probabilities(**{name: masks}, validate=True)
    values = plain(masks).detach().cpu()
    if values.ndim != 4:
        raise refusal(name, f"must be of three axes, with raters of four, got {values.ndim}")
    if isinstance(given, Lesion):
        shape = Shape(values[0].float().numpy(), np.zeros((0, *values.shape[1:]), dtype=np.uint8))
    elif ((values == 0) | (values == 1)).all():
        shape = of_raters(values.to(torch.uint8).numpy())
    else:
        raise refusal(name, "must hold masks of raters, 0 or 1")
    _check_shape(shape, name, grid)
    return shape


def _check_shape(shape: Shape, name: str, grid: Grid) -> None:
    least = 0 if len(shape.raters) else _SURE
    highest = float(shape.mask.max(initial=0))
    if highest <= 0 or highest < least:
        kind = "a voxel of a rater" if len(shape.raters) else f"a probability of {_SURE} or more"
        raise refusal(name, f"must hold {kind}, got at most {highest:g}")
    first, second, last = shape.mask.shape  # it may be turned by a quarter
    if max(first, second) > min(grid.shape[:2]) or last > grid.shape[2]:
        raise refusal(name, f"must fit into scans of {grid.shape} voxels, got {shape.mask.shape}")


def own_shape(
    rng: np.random.Generator, grid: Grid, panel: Sequence[Rater], contrast: float
) -> Shape:
    """A shape of the phantoms' own kind, and which voxels the raters of a panel mark of it."""
    radius = scenes.size(rng, scenes.LESION_RADII)
    edge = 4 * (radius + 4)
    around = Grid(tuple(int(edge / length) for length in grid.spacing), grid.spacing)
    body = anatomy.lesion(rng, around, around.extent / 2, radius, contrast)
    marks = who_marks(rng, panel, scenes.visibility(body))
    raters = np.stack([
        outline(rng, around, body, rater) if sees else np.zeros(body.field.shape, dtype=bool)
        for rater, sees in zip(panel, marks, strict=True)
    ])  # fmt: skip
    (tight,) = ndimage.find_objects(raters.any(axis=0).astype(np.uint8))
    return of_raters(raters[(slice(None), *tight)].astype(np.uint8))


def turned(rng: np.random.Generator, shape: Shape) -> Shape:
    """The shape mirrored, and turned by quarters about the last axis, at random.

    It stays a stack of its slices, which often are thicker than pixels are wide.
    """
    quarters = int(rng.integers(4))
    flips = tuple((np.flatnonzero(rng.random(3) < 0.5) - 3).tolist())
    mask, raters = (np.flip(np.rot90(part, quarters, axes=(-3, -2)), flips) for part in shape)
    return Shape(mask, raters)


def window_at(shape: Shape, centre: np.ndarray, grid: Grid) -> Window:
    """The voxels of the image that the shape fills around a centre in mm."""
    first = np.rint(centre / grid.spacing - shape.size / 2).astype(int)
    first = first.clip(0, grid.shape - shape.size)
    return tuple(map(slice, first.tolist(), (first + shape.size).tolist()))


def reach_of(shape: Shape, grid: Grid) -> float:
    """Radius in mm of a ball that holds the shape, wherever voxels let it lie."""
    return float(np.linalg.norm((shape.size + 1) * grid.spacing) / 2)


def body_of(shape: Shape, window: Window, grid: Grid, contrast: float) -> Body:
    """The shape as a body: its field is the distance from the face of what is seen of it."""
    solid = shape.solid
    radius = float((0.75 / np.pi * solid.sum() * np.prod(grid.spacing)) ** (1 / 3))
    first = np.array([part.start for part in window]) * grid.spacing
    last = np.array([part.stop for part in window]) * grid.spacing
    around = grid.window(first - 1.6 * radius - 3, last + 1.6 * radius + 3)
    inside = np.zeros([part.stop - part.start for part in around], dtype=bool)
    inside[
        tuple(
            slice(own.start - outer.start, own.stop - outer.start)
            for own, outer in zip(window, around, strict=True)
        )
    ] = solid
    half = min(grid.spacing) / 2  # distances are those of centres, and the face lies between them
    away, depth = (
        np.asarray(ndimage.distance_transform_edt(part, sampling=grid.spacing))
        for part in (~inside, inside)
    )
    field = np.where(inside, half - depth, away - half).astype(np.float32)
    return Body(around, field, radius, contrast)
