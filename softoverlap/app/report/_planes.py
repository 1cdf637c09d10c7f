"""One plane of a scan: the voxels, the mask's contours, the boxes that the plane cuts.

All of it is drawn in voxel coordinates: voxel `i` fills `[i, i + 1)`, so the picture's extent is
(0, width, height, 0), a contour runs through voxel centres at `i + 0.5`, and a box lies where its
corners say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap.app.report._style import Axes, MaxNLocator, Rectangle

LEVELS = (0.25, 0.5, 0.75)
LEVEL_WIDTHS = (0.7, 1.2, 1.9)


@dataclass(frozen=True)
class Plane:
    """The slice `index` along `axis`; the other two axes are its rows and its columns."""

    axis: int
    index: int

    @property
    def rows(self) -> int:
        return 1 if self.axis == 0 else 0

    @property
    def columns(self) -> int:
        return 1 if self.axis == 2 else 2

    def of(self, volume: Shaped[Tensor, "depth height width"]) -> np.ndarray:
        return volume.select(self.axis, self.index).detach().cpu().float().numpy()

    def cuts(self, boxes: Shaped[Tensor, "boxes 6"]) -> Bool[Tensor, "boxes"]:
        """Whether a box shares some of the slice's thickness, [index, index + 1)."""
        return (boxes[:, self.axis] < self.index + 1) & (boxes[:, self.axis + 3] > self.index)


def draw_image(
    axes: Axes,
    plane: Plane,
    image: Shaped[Tensor, "depth height width"],
    *,
    spacing: Sequence[float],
    window: tuple[float, float],
) -> None:
    """The voxels in grey, at the aspect that they have in millimetres."""
    slice_ = plane.of(image)
    height, width = slice_.shape
    axes.imshow(
        slice_,
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=(0, width, height, 0),
        aspect=spacing[plane.rows] / spacing[plane.columns],
        interpolation="nearest",
    )
    axes.autoscale(False)  # contours reach beyond the edge, and would leave a blank rim
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


def name_plane(axes: Axes, plane: Plane, title: str, sides: tuple[str, str] | None) -> None:
    """The title; then the patient's sides where they are known, else the tensor's axes."""
    axes.set_title(title, fontsize=10)
    if sides is None:
        axes.set_ylabel(f"axis {plane.rows} (voxels)")
        axes.set_xlabel(f"axis {plane.columns} (voxels)")
        return
    axes.set_xticks([])
    axes.set_yticks([])
    ground = {"facecolor": "black", "alpha": 0.5, "pad": 1.5, "edgecolor": "none"}
    for side, x, alignment in zip(sides, (0.02, 0.98), ("left", "right"), strict=True):
        axes.text(  # in the corners, where no line of the crosshair runs
            x, 0.98, side, transform=axes.transAxes, color="white", fontsize=14, bbox=ground,
            horizontalalignment=alignment, verticalalignment="top",
        )  # fmt: skip


def draw_contours(
    axes: Axes,
    plane: Plane,
    mask: Shaped[Tensor, "depth height width"],
    *,
    color: str,
    thickness: float = 1.0,
) -> None:
    """Lines of equal probability; a rim of zeros closes those that reach the image's edge."""
    slice_ = np.pad(plane.of(mask), 1)
    reached = [level for level in LEVELS if slice_.max() > level]
    if reached:
        rows, columns = (np.arange(length) - 0.5 for length in slice_.shape)
        widths = [thickness * width for width in LEVEL_WIDTHS[: len(reached)]]
        axes.contour(columns, rows, slice_, levels=reached, colors=color, linewidths=widths)


def draw_boxes(
    axes: Axes,
    plane: Plane,
    boxes: Shaped[Tensor, "boxes 6"],
    *,
    color: str,
    dashed: bool,
    labels: list[str] | None,
) -> None:
    """The boxes that the plane cuts: dashed with a label below, or solid with one above."""
    for number in plane.cuts(boxes).nonzero()[:, 0].tolist():
        low, high = boxes[number, :3].tolist(), boxes[number, 3:].tolist()
        left, top = low[plane.columns], low[plane.rows]
        right, bottom = high[plane.columns], high[plane.rows]
        axes.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=color,
                linestyle="--" if dashed else "-",
                linewidth=1.5,
            )
        )
        if labels is not None:
            place = (left, bottom if dashed else top)
            _draw_label(axes, labels[number], *place, color, above=not dashed)


def _draw_label(axes: Axes, label: str, x: float, y: float, color: str, *, above: bool) -> None:
    axes.annotate(  # clipped, so that it covers nothing beyond the plane
        label,
        (x, y),
        xytext=(0, 2 if above else -2),
        textcoords="offset points",
        color="black",
        fontsize=6.5,
        verticalalignment="bottom" if above else "top",
        bbox={"facecolor": color, "alpha": 0.85, "pad": 0.8, "edgecolor": "none"},
        annotation_clip=True,
        clip_on=True,
        parse_math=False,  # the name of a class may hold dollar signs
    )


def grey_window(image: Float[Tensor, "depth height width"]) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles: a few bright voxels shall not darken the rest."""
    low, high = np.percentile(image.detach().cpu().numpy(), (0.5, 99.5))
    return float(low), float(high if high > low else low + 1)


def default_centre(
    image: Shaped[Tensor, "depth height width"], *boxes: Shaped[Tensor, "_ 6"] | None
) -> list[float]:
    """The centre of the first box given, else that of the image."""
    for group in boxes:
        if group is not None and len(group):
            first = group[0].double().cpu()
            return ((first[:3] + first[3:]) / 2).tolist()
    return (torch.tensor(image.shape) / 2).tolist()
