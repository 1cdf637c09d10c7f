"""Draws the picture of the page "Learning from boxes" from the stored run.

Run it from the project's root: python docs/figures/weak_supervision.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

ROOT = Path(__file__).parents[2]
OUTPUT = Path(__file__).with_suffix(".png")
INK, BLUE, ORANGE = "#1a1a1a", "#0072b2", "#d55e00"
SHOWN = ("masks", "boxes", "filled boxes")


def values_of(rows: list[str]) -> np.ndarray:
    """A stored slice."""
    return np.array([row.split() for row in rows], dtype=float) / 100


def draw(stored: dict) -> Figure:
    """The example above, the soft Dice of every run below."""
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.25])
    example = stored["example"]
    axes = above.subplots(1, 5)
    panels = [
        ("image and box", values_of(example["image"]), "Greys_r", None),
        ("raters' mean", values_of(example["masks"]), "viridis", 1),
        *((f"learnt from\n{way}", values_of(example["maps"][way]), "viridis", 1) for way in SHOWN),
    ]
    for ax, (title, values, colours, top) in zip(axes, panels, strict=True):
        low = None if top is None else 0
        ax.imshow(values, cmap=colours, vmin=low, vmax=top, extent=(0, *values.shape, 0))
        add_boxes(ax, example["boxes"], len(values) // 2)
        ax.set_title(title, fontsize=9)
        ax.set(xticks=[], yticks=[])
    draw_runs(below.subplots(), stored)
    return figure


def add_boxes(ax: Axes, boxes: list[list[float]], layer: int) -> None:
    """The boxes that cross the middle slice."""
    for box in boxes:
        if box[0] <= layer < box[3]:
            corner, width, height = (box[2], box[1]), box[5] - box[2], box[4] - box[1]
            ax.add_patch(Rectangle(corner, width, height, fill=False, color=ORANGE))


def draw_runs(ax: Axes, stored: dict) -> None:
    """A dot for each seed, a bar for the mean."""
    ways = stored["ways"]
    for row, (way, figures) in enumerate(ways.items()):
        ax.barh(row, figures["mean"], color=BLUE if way in SHOWN else "#9ecae1", height=0.6)
        dice = figures["soft_dice"]
        ax.plot(dice, [row] * len(dice), "o", color=INK, markersize=4)
    ax.axvline(0.8 * ways["masks"]["mean"], color=ORANGE, linestyle="--", linewidth=1)
    ax.text(
        0.8 * ways["masks"]["mean"], -0.62, " 80 % of masks", color=ORANGE, fontsize=8, va="bottom"
    )
    ax.set_yticks(range(len(ways)), list(ways))
    ax.set(xlabel="soft Dice on unseen lesions, a dot a seed", xlim=(0, 1), ylim=(5.6, -0.9))
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    stored = json.loads((ROOT / "benchmarks/results/weak_supervision.json").read_text())
    draw(stored).savefig(OUTPUT, dpi=130)
