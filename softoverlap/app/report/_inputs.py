"""What `plot_case` is given: checked, and made plain tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from softoverlap._checks import check_boxes, check_probabilities, check_tensors
from softoverlap._types import plain
from softoverlap.app.report._planes import Plane


def checked_image(image: Tensor, **masks: Tensor | None) -> Tensor:
    """The image as a plain tensor, finite, on the masks' grid."""
    check_tensors(image=image)
    if image.ndim != 3 or not image.numel():
        raise ValueError(f"image must have shape (D, H, W), got {tuple(image.shape)}")
    if not torch.isfinite(image).all():
        raise ValueError("image must hold finite values, got NaN or infinity")
    for name, mask in masks.items():
        if mask is None:
            continue
        check_tensors(**{name: mask})
        if mask.shape != image.shape:
            raise ValueError(
                f"{name} must have the shape of image, {tuple(image.shape)}, "
                f"got {tuple(mask.shape)}"
            )
        check_probabilities(validate=True, **{name: mask})
    return plain(image).detach().float()


def checked_spacing(spacing: Sequence[float] | None) -> tuple[float, ...]:
    if spacing is None:
        raise ValueError("spacing must be given where affine is not, got neither")
    edges = tuple(float(edge) for edge in spacing)
    if len(edges) != 3 or not all(math.isfinite(edge) and edge > 0 for edge in edges):
        raise ValueError(f"spacing must hold three positive numbers in mm, got {edges}")
    return edges


def checked_zoom(zoom: float) -> float:
    if not (math.isfinite(zoom) and zoom > 0):
        raise ValueError(f"zoom must be a positive number of mm, got {zoom}")
    return float(zoom)


def checked_boxes(
    name: str, boxes: Tensor | None, label: str, numbers: Tensor | None
) -> Tensor | None:
    """Boxes as plain float64 on the CPU, and a number for each of them if there are numbers."""
    if boxes is None:
        if numbers is not None:
            raise ValueError(f"{label} must come with {name}, got {label} alone")
        return None
    check_boxes(**{name: boxes}, ndim=3, validate=True)
    if numbers is not None:
        check_tensors(**{label: numbers})
        if tuple(numbers.shape) != (len(boxes),):
            raise ValueError(
                f"{label} must have shape ({len(boxes)},), a number a box of {name}, "
                f"got {tuple(numbers.shape)}"
            )
    return plain(boxes).detach().cpu().double()


def checked_planes(image: Tensor, centre: Sequence[float], *, clip: bool) -> list[Plane]:
    """The three slices whose voxels hold the centre."""
    point = [float(coordinate) for coordinate in centre]
    if clip:
        sizes = list(image.shape)
        point = [min(max(c, 0.0), size - 0.5) for c, size in zip(point, sizes, strict=True)]
    inside = len(point) == 3 and all(
        0 <= coordinate < size for coordinate, size in zip(point, image.shape, strict=True)
    )
    if not inside:
        raise ValueError(
            f"centre must be a point in an image of {tuple(image.shape)} voxels, got {point}"
        )
    return [Plane(axis, math.floor(coordinate)) for axis, coordinate in enumerate(point)]
