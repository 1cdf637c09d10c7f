"""Draws the picture of the README: an anchor slides over a fuzzy lesion.

Run it from the project's root: python docs/figures/sliding_anchor.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from softoverlap.overlaps import box_iou, mask_box_dice

OUTPUT = Path(__file__).with_suffix(".png")
INK, BLUE, ORANGE = "#1a1a1a", "#0072b2", "#d55e00"


def fuzzy_lesion() -> Tensor:
    """A sure core with a long tail that about half of the raters would mark, 24 x 80 voxels."""
    row, column = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    core = torch.exp(-(((row - 12) / 5) ** 4) - ((column - 29) / 7) ** 4)
    spine = 12 + 2 * torch.sin((column - 30) / 5)
    tail = 0.56 * torch.exp(-(((row - spine) / 3.5) ** 4) - ((column - 43) / 17) ** 8)
    return torch.maximum(core, tail)


def draw() -> Figure:
    """The lesion with three anchors above, both scores of the sliding anchor below."""
    mask = fuzzy_lesion()
    rows, columns = (mask >= 0.5).nonzero(as_tuple=True)
    tight = torch.stack([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]).float()
    start = torch.linspace(2, 58, 401)
    anchors = torch.stack([torch.full_like(start, 6), start], dim=1)
    anchors = torch.cat([anchors, anchors + torch.tensor([12.0, 20.0])], dim=1)
    soft = mask_box_dice(mask[None], anchors)[0]
    hard = box_iou(tight[None], anchors)[0]

    figure = Figure(figsize=(8, 5.3), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1])
    above.imshow(mask, extent=(0, 80, 24, 0), cmap="Greys", vmin=0, vmax=1.25, aspect="auto")
    grid = (torch.arange(80) + 0.5, torch.arange(24) + 0.5)
    contours = above.contour(*grid, mask, levels=[0.25, 0.5, 0.75], colors=INK, linewidths=0.8)
    above.clabel(contours, fontsize=7)
    for index, style in ((60, ":"), (int(soft.argmax()), "-"), (300, "--")):
        box = anchors[index].tolist()
        above.add_patch(_outline(box, BLUE, style))
        below.axvline((box[1] + box[3]) / 2, color=BLUE, linestyle=style, linewidth=0.8)
    above.add_patch(_outline(tight.tolist(), ORANGE, "-"))
    above.set(ylabel="voxel", title="A soft lesion, its tight box at 0.5, and a sliding anchor")
    centre = start + 10
    below.plot(centre, soft, color=BLUE, label="soft Dice of mask and anchor (exact)")
    below.plot(centre, hard, color=ORANGE, label="IoU of tight box and anchor")
    below.set(xlabel="centre of the anchor, voxel", ylabel="overlap", ylim=(0, 1), xlim=(0, 80))
    below.legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def _outline(box: list[float], color: str, style: str) -> Rectangle:
    return Rectangle(
        (box[1], box[0]),
        box[3] - box[1],
        box[2] - box[0],
        fill=False,
        edgecolor=color,
        linestyle=style,
        linewidth=1.6,
    )


if __name__ == "__main__":
    draw().savefig(OUTPUT, dpi=150)
