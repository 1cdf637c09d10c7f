"""Draws the picture of the page "Balls: nodules by centre and diameter".

Run it from the project's root: python docs/figures/balls.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from softoverlap.balls import boxes_of_balls
from softoverlap.overlaps import (
    ball_centreness,
    ball_iou,
    box_ball_iou,
    box_iou,
    mask_ball_mass,
)

HERE = Path(__file__).parent
INK, TRUTH, FOUND, SHARED = "#1a1a1a", "#009e73", "#d55e00", "#cc79a7"
TRUE_DISC, FOUND_DISC = (0.0, 0.0, 10.0), (4.5, 4.5, 8.0)
"""Centre and diameter, mm."""


def draw() -> Figure:
    """What two discs share, scores of balls that move apart, and a ball among voxels."""
    figure = Figure(figsize=(12, 3.9), layout="constrained")
    lens, curves, voxels = figure.subplots(1, 3, width_ratios=[1, 1.35, 1])
    _lens(lens)
    _apart(curves)
    _voxels(voxels)
    return figure


def _lens(axes: Axes) -> None:
    """Two discs and their boxes."""
    for disc, color in ((TRUE_DISC, TRUTH), (FOUND_DISC, FOUND)):
        x, y, diameter = disc
        corner = x - diameter / 2, y - diameter / 2
        axes.add_patch(Rectangle(corner, diameter, diameter, fill=False, ec=color, ls=":", lw=1.2))
        axes.add_patch(Circle((x, y), diameter / 2, fill=False, ec=color, lw=2))
    shared = axes.add_patch(Circle(FOUND_DISC[:2], FOUND_DISC[2] / 2, fc=SHARED, alpha=0.5))
    shared.set_clip_path(Circle(TRUE_DISC[:2], TRUE_DISC[2] / 2, transform=axes.transData))
    true, found = (boxes_of_balls(torch.tensor([disc])) for disc in (TRUE_DISC, FOUND_DISC))
    axes.set_title(
        f"IoU of the discs {ball_iou(found, true).item():.2f}, of their boxes "
        f"{box_iou(found, true).item():.2f}", fontsize=10,
    )  # fmt: skip
    axes.set(xlim=(-6, 9.5), ylim=(-6, 9.5), aspect="equal", xlabel="mm")


def _apart(axes: Axes) -> None:
    """A ball of 6 mm leaves one of 6 mm along a diagonal."""
    distance = torch.linspace(0, 8, 321, dtype=torch.float64)
    step = distance / 3**0.5
    moved = boxes_of_balls(torch.stack([step, step, step, 0 * step + 6], dim=1))
    nodule = boxes_of_balls(torch.tensor([[0.0, 0.0, 0.0, 6.0]], dtype=torch.float64))
    scores = {
        "IoU of the boxes": (box_iou, INK, ":"),
        "IoU of box and ball": (box_ball_iou, SHARED, "-"),
        "IoU of the balls": (ball_iou, TRUTH, "-"),
        "centreness": (ball_centreness, FOUND, "-"),
    }
    for name, (overlap, color, line) in scores.items():
        score = overlap(moved, nodule)[:, 0].numpy()
        score[1:][np.abs(np.diff(score)) > 0.3] = np.nan  # a jump is no slope
        axes.plot(distance.numpy(), score, color=color, ls=line, lw=2, label=name)
    axes.axvline(3, color="#bbbbbb", lw=1, zorder=0)
    axes.text(3.1, 0.55, "the radius:\nLUNA16's limit", fontsize=8)
    axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="distance of two balls of 6 mm, along a diagonal, mm", ylabel="score")
    axes.set(xlim=(0, 8), ylim=(0, 1.02))


def _voxels(axes: Axes) -> None:
    """The share of each pixel that a disc fills."""
    side, disc = 7, boxes_of_balls(torch.tensor([[3.4, 3.7, 5.0]]))
    single = torch.eye(side * side).view(-1, side, side)  # one pixel a mask
    share = mask_ball_mass(single, disc).view(side, side).numpy()
    axes.imshow(share.T, origin="lower", extent=(0, side, 0, side), cmap="Greens", vmin=0, vmax=1)
    axes.add_patch(Circle((3.4, 3.7), 2.5, fill=False, ec=INK, lw=1.5, alpha=0.5))
    for (i, j), value in np.ndenumerate(share):
        if 0 < value < 1 - 1e-6:
            dark = "white" if value > 0.6 else INK
            axes.text(
                i + 0.5, j + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=7, color=dark
            )
    axes.set_title("share of each pixel in a disc", fontsize=10)
    axes.set(xticks=range(side + 1), yticks=range(side + 1), xlabel="voxels")
    axes.grid(color="#dddddd", lw=0.5)


if __name__ == "__main__":
    draw().savefig(HERE / "balls.png", dpi=110)
