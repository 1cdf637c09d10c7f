"""Draws the picture of the page "Axes that come round".

Run it from the project's root: python docs/figures/periodic.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from softoverlap.overlaps import box_giou, box_iou

HERE = Path(__file__).parent
INK, TRUTH, FOUND, SHARED = "#1a1a1a", "#009e73", "#d55e00", "#cc79a7"
CIRCLE = 360.0


def draw() -> Figure:
    """Two pairs of arcs, and the scores of an arc that slides round."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    grid = figure.add_gridspec(1, 3, width_ratios=[1, 1, 1.7])
    pieces: PolarAxes = figure.add_subplot(grid[0], projection="polar")  # pyright: ignore
    around: PolarAxes = figure.add_subplot(grid[1], projection="polar")  # pyright: ignore
    _arcs(pieces, (0.0, 270.0), (180.0, 450.0), [(0.0, 90.0), (180.0, 270.0)], "shared, twice")
    _arcs(around, (-30.0, 20.0), (60.0, 100.0), [(-30.0, 100.0)], "around both")
    _sliding(figure.add_subplot(grid[2]))
    return figure


def _arcs(
    axes: PolarAxes,
    first: tuple[float, float],
    second: tuple[float, float],
    marked: list[tuple[float, float]],
    name: str,
) -> None:
    """Two arcs, and outside of them what is marked."""
    kinds = [(0.8, first, TRUTH, ""), (0.95, second, FOUND, "")]
    kinds += [(1.1, arc, SHARED, name if not place else "") for place, arc in enumerate(marked)]
    for radius, arc, color, label in kinds:
        angles = np.radians(np.linspace(*arc, 200))
        axes.plot(angles, np.full_like(angles, radius), color=color, lw=6, label=label or None,
                  solid_capstyle="butt")  # fmt: skip
    scores = [
        float(score(torch.tensor([first]), torch.tensor([second]), period=CIRCLE))
        for score in (box_iou, box_giou)
    ]
    axes.set(ylim=(0, 1.2), yticks=[])
    axes.set_xlabel(f"IoU {scores[0]:.2f}, GIoU {scores[1]:.2f}", fontsize=11)
    axes.set_xticks(np.radians([0, 90, 180, 270]))
    axes.grid(False)
    axes.legend(frameon=False, loc="center", fontsize=8)


def _sliding(axes) -> None:
    """An arc of 40° slides away from one of 60°, once round."""
    start = torch.linspace(-180, 180, 721)
    moving = torch.stack([start - 20, start + 20], dim=1)
    fixed = torch.tensor([[130.0, 190.0]])
    for score, color, name, width in ((box_iou, TRUTH, "IoU", 4), (box_giou, FOUND, "GIoU", 1.5)):
        turning = score(moving, fixed, period=CIRCLE)[:, 0]
        axes.plot(start, turning, color=color, lw=width, label=f"{name} with period 360")
        plain = score(moving, fixed)[:, 0]
        axes.plot(start, plain, color=color, ls=":", lw=1.2, label=f"{name} on a plain axis")
    axes.axhline(0, color=INK, lw=0.5)
    axes.set(
        xlabel="centre of an arc of 40°, beside one from 130° to 190°",
        ylabel="score", xlim=(-180, 180), xticks=range(-180, 181, 60),
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="upper center")


if __name__ == "__main__":
    draw().savefig(HERE / "periodic.png", dpi=110)
