"""Draws why Tversky's weights matter for soft lesions: best boxes, and their side over alpha.

Run it from the project's root: python docs/figures/tversky_pull.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from softoverlap.anchors import best_box
from softoverlap.overlaps import MaskBoxOverlap, mask_box_dice, mask_box_iou, mask_box_tversky

OUTPUT = Path(__file__).with_suffix(".png")
INK = "#1a1a1a"
SIDE, CORE, RIM, UNSURE = 41, 6.5, 16.5, 0.25
"""Voxels; probability of the rim."""

SETTINGS = (
    ("Dice", mask_box_dice, "#0072b2", "-"),
    ("IoU (the same box)", mask_box_iou, "#f0e442", ":"),
    ("Tversky α 0.3, β 0.7", mask_box_tversky.with_(alpha=0.3, beta=0.7), "#e69f00", "-"),
    ("Tversky α 0.1, β 0.9", mask_box_tversky.with_(alpha=0.1, beta=0.9), "#d55e00", "--"),
)
"""Name, overlap, colour and line of the boxes."""


def soft_lesion(unsure: float = UNSURE) -> Tensor:
    """A core that all raters marked, and a rim that a share of them marked."""
    place = torch.arange(SIDE) + 0.5 - SIDE / 2
    radius = (place[:, None] ** 2 + place**2).sqrt()
    core, whole = torch.sigmoid(4 * (CORE - radius)), torch.sigmoid(4 * (RIM - radius))
    return unsure * whole + (1 - unsure) * core


def best_side(mask: Tensor, overlap: MaskBoxOverlap) -> float:
    """Mean side of the best box, in voxels."""
    box = best_box(mask, overlap=overlap).box
    return float((box[2:] - box[:2]).mean())


def draw() -> Figure:
    """The lesion with its best boxes, and the side of the best box over alpha."""
    figure = Figure(figsize=(9.6, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _draw_boxes(left, soft_lesion())
    _draw_sides(right)
    return figure


def _draw_boxes(axes: Axes, mask: Tensor) -> None:
    axes.imshow(mask, extent=(0, SIDE, SIDE, 0), cmap="Greys", vmin=0, vmax=1.6)
    for name, overlap, color, style in SETTINGS:
        top, left, bottom, right = best_box(mask, overlap=overlap).box.tolist()
        axes.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=color,
                linestyle=style,
                linewidth=2,
                label=name,
            )
        )
    axes.set(title=f"Sure core, rim at {UNSURE}: best boxes", xlabel="voxel", ylabel="voxel")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=8)


def _draw_sides(axes: Axes) -> None:
    alphas = torch.linspace(0.02, 0.98, 97).tolist()
    for unsure, color in ((0.15, "#9ecae1"), (UNSURE, "#3182bd"), (0.4, "#08306b")):
        mask = soft_lesion(unsure)
        sides = [best_side(mask, mask_box_tversky.with_(alpha=a, beta=1 - a)) for a in alphas]
        axes.plot(alphas, sides, color=color, label=f"rim at {unsure}", drawstyle="steps-mid")
    for height, name in ((2 * CORE, "core"), (2 * RIM, "core and rim")):
        axes.axhline(height, color=INK, linestyle=":", linewidth=0.8)
        axes.text(0.99, height + 0.4, f"diameter of {name}", ha="right", fontsize=8)
    axes.axvline(0.5, color=INK, linewidth=0.8)
    axes.text(0.51, 3, "Dice", fontsize=8)
    axes.set(
        xlabel="α, the box outside the mask (β = 1 − α)",
        ylabel="side of the best box, voxels",
        xlim=(0, 1),
        ylim=(0, 38),
        title="A small α keeps the rim",
    )
    axes.legend(frameon=False, loc="lower left", fontsize=8)


if __name__ == "__main__":
    draw().savefig(OUTPUT, dpi=150)
