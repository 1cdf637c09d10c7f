"""True and found boxes of a scan in one slice, small and quickly drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.app.report._inputs import checked_boxes, checked_image
from softoverlap.app.report._planes import (
    Plane,
    default_centre,
    draw_boxes,
    draw_image,
    grey_window,
    name_plane,
)
from softoverlap.app.report._scene import Scene
from softoverlap.app.report._style import FOUND, TRUTH, Figure, FigureCanvasAgg, Line2D
from softoverlap.boxes import volume
from softoverlap.images import whole_file


def plot_boxes(
    image: Float[Tensor, "depth height width"],
    affine: Shaped[Tensor, "4 4"],
    truth_boxes: Shaped[Tensor, "lesions 6"],
    found_boxes: Shaped[Tensor, "boxes 6"],
    scores: Float[Tensor, "boxes"],
    *,
    truth_classes: Sequence[str] | None = None,
    found_classes: Sequence[str] | None = None,
) -> Figure:
    """The slice through the largest true box, or without one through the surest found box.

    The slice is one of those that the scanner took, across the longest edge of a voxel, and axial
    where all are alike; it is turned as radiologists look.

    Args:
        image: Intensities in any unit, shape (D, H, W).
        affine: Voxel indices to RAS mm, shape (4, 4).
        truth_boxes: True boxes in voxels, shape (M, 6).
        found_boxes: Found boxes in voxels, shape (N, 6).
        scores: Their scores, written above them, shape (N,).
        truth_classes: The class of each true box, written below it, or None.
        found_classes: The class of each found box, written before its score, or None.

    Returns:
        A figure of its own, on no screen; `save_figure` writes it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes or numbers of boxes disagree, or a value is not finite.

    Examples:
        >>> import torch
        >>> image, box = torch.rand(16, 16, 8), torch.tensor([[2.0, 4.0, 4.0, 5.0, 9.0, 7.0]])
        >>> figure = plot_boxes(image, torch.eye(4), box, box + 1, torch.tensor([0.5]))
        >>> figure.axes[0].get_title()
        'axial, S 5 mm'
    """
    _check_classes("truth_classes", truth_classes, len(truth_boxes))
    _check_classes("found_classes", found_classes, len(found_boxes))
    truth = checked_boxes("truth_boxes", truth_boxes, "existence", None)
    found = checked_boxes("found_boxes", found_boxes, "scores", scores)
    scene = _scene(checked_image(image), affine, truth, found, scores)
    plane = _plane(scene)
    figure = Figure(figsize=(4.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_image(axes, plane, scene.image, spacing=scene.spacing, window=grey_window(scene.image))
    name_plane(axes, plane, scene.title(plane), scene.sides(plane))
    named = None if truth_classes is None else list(truth_classes)
    labels = [f"{score:.2f}" for score in scores.tolist()]
    if found_classes is not None:
        pairs = zip(found_classes, labels, strict=True)
        labels = [f"{name} {score}" for name, score in pairs]
    if scene.truth is not None:
        draw_boxes(axes, plane, scene.truth, color=TRUTH, dashed=True, labels=named)
    if scene.found is not None:
        draw_boxes(axes, plane, scene.found, color=FOUND, dashed=False, labels=labels)
    words = "score" if found_classes is None else "class and score"
    handles = [
        Line2D([], [], color=TRUTH, linestyle="--", label="true box"),
        Line2D([], [], color=FOUND, label=f"found box, {words}"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def save_boxes_picture(
    path: str | os.PathLike[str],
    image: Float[Tensor, "depth height width"],
    affine: Shaped[Tensor, "4 4"],
    truth_boxes: Shaped[Tensor, "lesions 6"],
    found_boxes: Shaped[Tensor, "boxes 6"],
    scores: Float[Tensor, "boxes"],
    *,
    truth_classes: Sequence[str] | None = None,
    found_classes: Sequence[str] | None = None,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Write the picture of `plot_boxes`; the file appears whole or not at all.

    Args:
        path: The PNG file.
        image: As of `plot_boxes`, and so are the others.
        affine: Voxel indices to RAS mm.
        truth_boxes: True boxes.
        found_boxes: Found boxes.
        scores: Their scores.
        truth_classes: Classes of the true boxes, or None.
        found_classes: Classes of the found boxes, or None.

    Returns:
        The pixels.

    Raises:
        FileNotFoundError: If the folder of the file does not exist.
        TypeError: As in `plot_boxes`.
        ValueError: As in `plot_boxes`.

    Examples:
        >>> import tempfile, torch
        >>> path, image = tempfile.mkdtemp() + "/a.png", torch.rand(8, 8, 8)
        >>> none = torch.zeros(0, 6)
        >>> save_boxes_picture(path, image, torch.eye(4), none, none, torch.zeros(0)).dtype
        dtype('uint8')
    """
    figure = plot_boxes(
        image, affine, truth_boxes, found_boxes, scores,
        truth_classes=truth_classes, found_classes=found_classes,
    )  # fmt: skip
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    with whole_file(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="png")
    return pixels


def _check_classes(name: str, classes: Sequence[str] | None, boxes: int) -> None:
    """A class for each box."""
    if classes is not None and len(classes) != boxes:
        raise refusal(name, f"must name the class of each of {boxes} boxes, got {len(classes)}")


def _scene(
    image: Tensor, affine: Tensor, truth: Tensor | None, found: Tensor | None, scores: Tensor
) -> Scene:
    """What is drawn, about the middle of the largest true box or of the surest found one."""
    largest = None if truth is None else truth[volume(truth).argsort(descending=True)[:1]]
    surest = None if found is None else found[scores.argsort(descending=True)[:1]]
    centre = default_centre(image, largest, surest)
    return Scene(image, (1.0, 1.0, 1.0), (None, None), truth, found, centre).turned(affine)


def _plane(scene: Scene) -> Plane:
    """The slice that the scanner took through the scene's point."""
    axis = max(range(3), key=lambda one: round(scene.spacing[one], 2))
    length = scene.image.shape[axis]
    return Plane(axis, min(max(int(scene.point[axis]), 0), length - 1))
