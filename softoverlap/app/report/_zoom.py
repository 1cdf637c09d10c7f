"""Where a point lies in a plane, and the plane about it enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softoverlap.app.report._planes import Plane
from softoverlap.app.report._style import Axes, Rectangle

LEAST_GAIN = 1.4
"""A picture that is hardly larger than what is enlarged of it is not drawn twice."""


@dataclass(frozen=True)
class Zoom:
    """The part of an image within a cube about a point; ends in voxels, by axis."""

    point: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    edge: float

    def frame(self, plane: Plane) -> tuple[float, float, float, float]:
        """Left, right, top and bottom."""
        rows, columns = plane.rows, plane.columns
        return self.low[columns], self.high[columns], self.low[rows], self.high[rows]


def zoom_about(
    point: Sequence[float], shape: Sequence[int], spacing: Sequence[float], edge: float
) -> Zoom | None:
    """The cube, moved into the image; None if the image is hardly larger."""
    if max(n * size for n, size in zip(shape, spacing, strict=True)) < LEAST_GAIN * edge:
        return None
    low, high = [], []
    for at, length, size in zip(point, shape, spacing, strict=True):
        width = min(edge / size, length)
        low.append(min(max(at - width / 2, 0.0), length - width))
        high.append(low[-1] + width)
    return Zoom(point, low, high, edge)


def draw_place(axes: Axes, plane: Plane, zoom: Zoom) -> None:
    """A frame about what is enlarged, and lines from it to the sides: a crosshair with a gap."""
    left, right, top, bottom = zoom.frame(plane)
    style = {"color": "white", "linewidth": 0.8, "alpha": 0.8}
    frame = Rectangle((left, top), right - left, bottom - top, fill=False)
    frame.set(edgecolor="white", linewidth=1.4)
    axes.add_patch(frame)
    x, y = zoom.point[plane.columns], zoom.point[plane.rows]
    (first, last), (lowest, highest) = axes.get_xlim(), axes.get_ylim()
    axes.hlines([y, y], [first, right], [left, last], **style)
    axes.vlines([x, x], [highest, bottom], [top, lowest], **style)


def enlarge(axes: Axes, plane: Plane, zoom: Zoom) -> None:
    """Only what lies in the frame."""
    left, right, top, bottom = zoom.frame(plane)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_title(f"{zoom.edge:.0f} mm about the place", fontsize=10)
