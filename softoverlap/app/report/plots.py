"""A scan as a picture: three planes with its lesions and what was found."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._types import plain
from softoverlap.app.report import _planes
from softoverlap.app.report._inputs import (
    checked_boxes,
    checked_image,
    checked_planes,
    checked_spacing,
    checked_zoom,
)
from softoverlap.app.report._planes import LEVEL_WIDTHS, LEVELS, Plane
from softoverlap.app.report._scene import Scene
from softoverlap.app.report._style import (
    FOUND,
    TRUTH,
    Axes,
    Figure,
    FigureCanvasAgg,
    Line2D,
)
from softoverlap.app.report._zoom import draw_place, enlarge, zoom_about
from softoverlap.images import whole_file


def plot_case(
    image: Float[Tensor, "depth height width"],
    *,
    spacing: Sequence[float] | None = None,
    affine: Shaped[Tensor, "4 4"] | None = None,
    soft_mask: Float[Tensor, "depth height width"] | None = None,
    found_mask: Float[Tensor, "depth height width"] | None = None,
    truth_boxes: Shaped[Tensor, "lesions 6"] | None = None,
    found_boxes: Shaped[Tensor, "boxes 6"] | None = None,
    scores: Float[Tensor, "boxes"] | None = None,
    existence: Float[Tensor, "lesions"] | None = None,
    centre: Sequence[float] | None = None,
    zoom: float | None = None,
    title: str | None = None,
) -> Figure:
    """A scan in three orthogonal planes: image, soft contours, true and found boxes.

    A box is drawn in the planes that cut it. With an affine, the planes are axial, coronal and
    sagittal, turned as radiologists look (the patient's right on the left), with their place in
    mm. Without, they are those of the tensor's axes, at the aspect that `spacing` gives.

    Args:
        image: Intensities in any unit, shape (D, H, W).
        spacing: Voxel edges in mm, in tensor axis order, length 3; needed without an affine.
        affine: Voxel indices to RAS mm, shape (4, 4).
        soft_mask: Probabilities, shape (D, H, W); drawn as contours at 0.25, 0.5 and 0.75.
        found_mask: Probabilities that were predicted, same shape; drawn alike in another colour.
        truth_boxes: True boxes in voxels, shape (M, 6).
        found_boxes: Found boxes in voxels, shape (N, 6).
        scores: Score of each found box, written above it, shape (N,).
        existence: Share of raters that marked each lesion, written below its box, shape (M,).
        centre: Point in voxels through which the planes go, length 3; by default the centre of
            the first true box, else of the first found box, else of the image.
        zoom: Edge in mm of a cube about the centre. The planes show where it lies, and a second row
            shows it enlarged, with scores and existence, unless the image is hardly larger.
        title: Written above the planes, for instance the case and from which score boxes are shown.

    Returns:
        A figure of its own, on no screen; `save_figure` writes it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes disagree, a value is not finite, a probability lies outside [0, 1],
            the centre outside the image, zoom is not a positive number, or neither spacing nor
            affine is given.

    Examples:
        >>> import torch
        >>> image, box = torch.rand(8, 16, 16), torch.tensor([[2.0, 4.0, 4.0, 5.0, 9.0, 9.0]])
        >>> figure = plot_case(image, spacing=(3.0, 1.0, 1.0), truth_boxes=box)
        >>> [axes.get_title() for axes in figure.axes]
        ['axis 0 at 3', 'axis 1 at 6', 'axis 2 at 6']
        >>> figure = plot_case(image, affine=torch.eye(4), truth_boxes=box)
        >>> [axes.get_title() for axes in figure.axes]
        ['axial, S 6 mm', 'coronal, A 6 mm', 'sagittal, R 3 mm']
    """
    image = checked_image(image, soft_mask=soft_mask, found_mask=found_mask)
    scene = Scene(
        image,
        (1.0, 1.0, 1.0) if spacing is None and affine is not None else checked_spacing(spacing),
        (soft_mask, found_mask),
        checked_boxes("truth_boxes", truth_boxes, "existence", existence),
        checked_boxes("found_boxes", found_boxes, "scores", scores),
        centre,
    )
    if affine is not None:
        scene = scene.turned(affine)
    edge = None if zoom is None else checked_zoom(zoom)
    figure = _drawn(scene, edge, scores=scores, existence=existence)
    if title is not None:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 150) -> None:
    """Write a figure as PNG; the file appears whole or not at all.

    Args:
        figure: What `plot_froc` or `plot_case` gave.
        path: File to write, ending in .png.
        dpi: Pixels an inch.

    Raises:
        ValueError: If the path does not end in .png.
        FileNotFoundError: If its folder does not exist.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp(), "empty.png")
        >>> save_figure(Figure(), path)
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    if not str(os.fspath(path)).lower().endswith(".png"):
        raise ValueError(f"path must end in .png, got {os.fspath(path)}")
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=dpi)


def _drawn(
    scene: Scene, zoom: float | None, *, scores: Tensor | None, existence: Tensor | None
) -> Figure:
    """The planes, enlarged ones below them, and the legend of what they show."""
    planes = checked_planes(scene.image, scene.point, clip=scene.centre is None)
    point, shape = scene.point, scene.image.shape
    cube = None if zoom is None else zoom_about(point, shape, scene.spacing, zoom)
    figure, all_axes = _all_axes(scene.image, scene.spacing, enlarged=cube is not None)
    window = _planes.grey_window(scene.image)
    for number, (axes, plane) in enumerate(zip(all_axes, itertools.cycle(planes), strict=False)):
        place = cube if number < 3 else None
        _draw_ground(axes, plane, scene, window, thickness=1.0 if place is None else 0.5)
        if place is not None:
            draw_place(axes, plane, place)
            continue
        _draw_both(axes, plane, scene.truth, scene.found, scores=scores, existence=existence)
        if cube is not None:
            enlarge(axes, plane, cube)
    _add_legend(figure, scene, planes, scores=scores, existence=existence)
    return figure


def _draw_ground(
    axes: Axes, plane: Plane, scene: Scene, window: tuple[float, float], *, thickness: float
) -> None:
    """The slice, its name, its sides, and the contours of both masks."""
    _planes.draw_image(axes, plane, scene.image, spacing=scene.spacing, window=window)
    _planes.name_plane(axes, plane, scene.title(plane), scene.sides(plane))
    for mask, color in zip(scene.masks, (TRUTH, FOUND), strict=True):
        if mask is not None:
            _planes.draw_contours(axes, plane, plain(mask), color=color, thickness=thickness)


def _add_legend(
    figure: Figure,
    scene: Scene,
    planes: Sequence[Plane],
    *,
    scores: Tensor | None,
    existence: Tensor | None,
) -> None:
    cut = [None if boxes is None else _cut(boxes, planes) for boxes in (scene.truth, scene.found)]
    handles = [
        *_contour_handles(scene.masks[0], planes, color=TRUTH, name="soft mask"),
        *_contour_handles(scene.masks[1], planes, color=FOUND, name="found mask"),
        *_box_handles(*cut, scores=scores, existence=existence),
    ]
    if handles:
        columns = len(handles) if len(handles) < 6 else (len(handles) + 1) // 2
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9)


def _all_axes(
    image: Tensor, spacing: Sequence[float], *, enlarged: bool
) -> tuple[Figure, list[Axes]]:
    """Three planes, or two rows of them."""
    if not enlarged:
        return _three_axes(image, spacing)
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(2, 3, height_ratios=(3, 4)).flat)


def _three_axes(image: Tensor, spacing: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A column a plane, as wide as the plane is in millimetres, within reason."""
    edges = [length * edge for length, edge in zip(image.shape, spacing, strict=True)]
    planes = [Plane(axis, 0) for axis in range(3)]
    widths = np.array([edges[plane.columns] for plane in planes])
    heights = np.array([edges[plane.rows] for plane in planes])
    ratios = (widths / widths.max()).clip(min=0.35)
    tallest = float((11.8 * ratios / ratios.sum() * heights / widths).max())  # inches of picture
    figure = Figure(figsize=(12, min(max(tallest, 2.5), 8) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, 3, width_ratios=ratios.tolist()))


def _draw_both(
    axes: Axes,
    plane: Plane,
    truth: Tensor | None,
    found: Tensor | None,
    *,
    scores: Tensor | None,
    existence: Tensor | None,
) -> None:
    """True boxes dashed with their existence below, found ones solid with their score above."""
    if truth is not None:
        shares = None if existence is None else [f"{share:.1f}" for share in existence.tolist()]
        _planes.draw_boxes(axes, plane, truth, color=TRUTH, dashed=True, labels=shares)
    if found is not None:
        points = None if scores is None else [f"{score:.2f}" for score in scores.tolist()]
        _planes.draw_boxes(axes, plane, found, color=FOUND, dashed=False, labels=points)


def _cut(boxes: Tensor, planes: Sequence[Plane]) -> bool:
    """Whether a plane shows one of the boxes."""
    return any(bool(plane.cuts(boxes).any()) for plane in planes)


def _contour_handles(
    mask: Tensor | None, planes: Sequence[Plane], *, color: str, name: str
) -> list[Line2D]:
    """The levels of which a plane shows a contour."""
    if mask is None:
        return []
    peak = max(float(plane.of(plain(mask)).max()) for plane in planes)
    return [
        Line2D([], [], color=color, linewidth=width, label=f"{name} {level:g}")
        for level, width in zip(LEVELS, LEVEL_WIDTHS, strict=True)
        if peak > level
    ]


def _box_handles(
    truth: bool | None,
    found: bool | None,
    *,
    scores: Tensor | None,
    existence: Tensor | None,
) -> list[Line2D]:
    """The boxes that a plane shows."""
    handles = []
    if truth:
        label = "true box" if existence is None else "true box, share of raters"
        handles.append(Line2D([], [], color=TRUTH, linestyle="--", label=label))
    if found:
        label = "found box" if scores is None else "found box, score"
        handles.append(Line2D([], [], color=FOUND, label=label))
    return handles
