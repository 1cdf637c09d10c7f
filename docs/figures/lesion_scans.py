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
SHAPES, SLAB = 6, 12


def draw() -> Figure:
    """Shapes, a scan with them, and the same scan with fainter lesions."""
    given = _shapes()
    scans = [LesionScans(2, {"a": given}, count=1, contrasts=c)[0] for c in CONTRASTS]
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, *axes = figure.subplots(1, 3, width_ratios=[0.72, 1, 1])
    _draw_shapes(left, given)
    slab = _fullest_slab(scans[0])
    for axis, scan, (low, high) in zip(axes, scans, CONTRASTS, strict=True):
        _draw_scan(axis, scan, slab)
        axis.set_title(f"{SLAB} slices of a scan, contrasts {low:g} to {high:g}", fontsize=10)
    return figure


def _shapes() -> list[Tensor]:
    """Masks of five raters, of the largest lesions of a few phantoms."""
    phantoms = LesionPhantoms(4, count=4)
    found = [(lesion, phantom) for phantom in phantoms for lesion in phantom.lesions]
    found.sort(key=lambda pair: -pair[0].volume_mm3)
    shapes = []
    for lesion, phantom in found[:SHAPES]:
        low = lesion.offset.tolist()
        window = (
            slice(first, first + edge) for first, edge in zip(low, lesion.crop.shape, strict=True)
        )
        shapes.append(phantom.raters[(slice(None), *window)] * (lesion.crop > 0))
    return shapes


def _fullest_slab(scan: Phantom) -> slice:
    """The slab in which most lesions have their middle."""
    middles = torch.tensor([lesion.centre[2] for lesion in scan.lesions])
    starts = torch.arange(scan.image.shape[2] - SLAB + 1)[:, None]
    within = ((starts <= middles) & (middles < starts + SLAB)).sum(dim=1)
    first = int(within.argmax())
    return slice(first, first + SLAB)


def _draw_shapes(axes: Axes, shapes: list[Tensor]) -> None:
    """The middle slice of each, as shares of its raters, all at one scale."""
    edge = max(max(shape.shape[1:3]) for shape in shapes) + 2
    canvas = torch.zeros(3 * edge, 2 * edge)
    for number, shape in enumerate(shapes):
        votes = shape.float().mean(dim=0)[:, :, shape.shape[3] // 2].T
        row, column = (
            edge * place + (edge - length) // 2
            for place, length in zip(divmod(number, 2), votes.shape, strict=True)
        )
        canvas[row : row + votes.shape[0], column : column + votes.shape[1]] = votes
    image = axes.imshow(canvas.numpy(), cmap="magma", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, shrink=0.6, label="share of the raters")
    axes.set_title("shapes that are given", fontsize=10)
    axes.set(xticks=[], yticks=[])


def _draw_scan(axes: Axes, scan: Phantom, slab: slice) -> None:
    """The brightest voxel and the highest share along the slab."""
    image, mask = (part[:, :, slab].amax(dim=2).T.numpy() for part in (scan.image, scan.mask))
    axes.imshow(image, cmap="gray", vmin=90, vmax=150)
    axes.contour(mask, levels=[0.1, 0.9], colors=MARKED, linewidths=0.9)
    axes.add_patch(Rectangle((4, 4), 96, 96, fill=False, color=PATCH, ls="--", lw=1.5))
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    draw().savefig(HERE / "lesion_scans.png", dpi=110)
