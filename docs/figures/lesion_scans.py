"""Draws the picture of the page "Scans to learn on", with shapes of phantoms.

Run it from the project's root: python docs/figures/lesion_scans.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from softoverlap.phantoms import LesionPhantoms, LesionScans, Phantom

HERE = Path(__file__).parent
MARKED, PATCH = "#d55e00", "#56b4e9"
CONTRASTS = ((16.0, 42.0), (6.0, 14.0))
SHAPES = 6


def draw() -> Figure:
    """Shapes, a scan with them, and the same scan with fainter lesions."""
    given = _shapes()
    scans = [LesionScans(2, {"a": given}, count=1, contrasts=c)[0] for c in CONTRASTS]
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, *axes = figure.subplots(1, 3, width_ratios=[0.72, 1, 1])
    _draw_shapes(left, given)
    marked = (scans[0].mask > 0).flatten(0, 1)
    layer = int(marked.sum(dim=0).argmax())
    for axis, scan, (low, high) in zip(axes, scans, CONTRASTS, strict=True):
        _draw_scan(axis, scan, layer)
        axis.set_title(f"a slice of a scan, contrasts {low:g} to {high:g}", fontsize=10)
    return figure


def _shapes() -> list[Tensor]:
    """Masks of five raters, of the largest lesions of a few phantoms."""
    phantoms = LesionPhantoms(4, count=4)
    found = [(lesion, phantom) for phantom in phantoms for lesion in phantom.lesions]
    found.sort(key=lambda pair: -pair[0].volume_mm3)
    shapes = []
    for lesion, phantom in found[:SHAPES]:
        low, high = lesion.box.int().chunk(2)
        window = map(slice, low.tolist(), high.tolist())
        shapes.append(phantom.raters[(slice(None), *window)])
    return shapes


def _draw_shapes(axes: Axes, shapes: list[Tensor]) -> None:
    """The middle slice of each, as shares of its raters, all at one scale."""
    edge = max(max(shape.shape[1:3]) for shape in shapes) + 2
    canvas = torch.zeros(3 * edge, 2 * edge)
    for number, shape in enumerate(shapes):
        votes = shape.float().mean(dim=0)[:, :, shape.shape[3] // 2].T
        row, column = (edge * place + 1 for place in divmod(number, 2))
        canvas[row : row + votes.shape[0], column : column + votes.shape[1]] = votes
    image = axes.imshow(canvas, cmap="magma", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, shrink=0.6, label="share of the raters")
    axes.set_title("shapes that are given", fontsize=10)
    axes.set(xticks=[], yticks=[])


def _draw_scan(axes: Axes, scan: Phantom, layer: int) -> None:
    axes.imshow(scan.image[:, :, layer].T, cmap="gray", vmin=70, vmax=155)
    axes.contour(scan.mask[:, :, layer].T, levels=[0.1, 0.5, 0.9], colors=MARKED, linewidths=0.8)
    axes.add_patch(Rectangle((4, 4), 96, 96, fill=False, color=PATCH, ls="--", lw=1.5))
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    draw().savefig(HERE / "lesion_scans.png", dpi=110)
