"""Draws the picture of the page "Oriented boxes".

Run it from the project's root: python docs/figures/oriented.py
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from softoverlap import (
    box_iou,
    encode_rotated_boxes,
    rotated_box_diou,
    rotated_box_giou,
    rotated_box_iou,
)
from softoverlap.rotated import circumscribed
from softoverlap.rotated_hulls import corners

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"
RIBS = torch.tensor([[10.0, 10.0, 12.0, 3.0, math.pi / 4], [12.5, 7.5, 12.0, 3.0, math.pi / 4]])
NEEDLES = torch.tensor([[26.0, 8.8, 12.0, 3.0, math.pi / 4], [26.0, 8.8, 12.0, 3.0, -math.pi / 4]])


def draw() -> Figure:
    """Boxes that are parked aslant, scores of a box that leaves, and an angle beside its code."""
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    parked, scores, codes = figure.subplots(1, 3, width_ratios=[1.35, 1, 1])
    _draw_parked(parked)
    _draw_scores(scores)
    _draw_codes(codes)
    return figure


def _draw_parked(axes: Axes) -> None:
    for pair, name in ((RIBS, "side by side"), (NEEDLES, "at right angles")):
        upright = circumscribed(pair)
        sides = zip(corners(pair), upright.tolist(), (BLUE, ORANGE), ("--", ":"), strict=True)
        for points, (left, low, right, high), colour, dashes in sides:
            axes.add_patch(Polygon(points.tolist(), facecolor=colour, alpha=0.35, edgecolor=colour))
            edges, style = (right - left, high - low), {"edgecolor": colour, "linestyle": dashes}
            axes.add_patch(Rectangle((left, low), *edges, fill=False, **style))
        shares = [
            overlap[0, 1] for overlap in (box_iou(upright, upright), rotated_box_iou(pair, pair))
        ]
        text = f"{name}: IoU\nupright {shares[0]:.2f}, oriented {shares[1]:.2f}"
        axes.text(pair[:, 0].mean(), 17.5, text, ha="center", fontsize=9)
    axes.set(xlim=(3.5, 33), ylim=(1, 20.5), aspect="equal")
    axes.set_axis_off()


def _draw_scores(axes: Axes) -> None:
    away = torch.linspace(0, 12, 241)
    still = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.3]])
    boxes = still.repeat(len(away), 1)
    boxes[:, 0], boxes[:, 4] = away, 1.1
    named = {"IoU": (rotated_box_iou, GREY), "GIoU": (rotated_box_giou, BLUE)}
    for name, (overlap, colour) in {**named, "DIoU": (rotated_box_diou, GREEN)}.items():
        axes.plot(away, overlap(boxes, still)[:, 0], color=colour, label=name)
    axes.axhline(0, color="#dddddd", lw=0.8, zorder=0)
    axes.set(xlabel="distance of the centres", ylabel="score")
    axes.set_title("a turned box of 4 × 2 leaves another:\nIoU alone stops falling", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_codes(axes: Axes) -> None:
    turn = torch.linspace(0, 360, 1441)
    held = (turn + 90) % 180 - 90
    boxes = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0]]).repeat(len(turn), 1)
    boxes[:, 4] = torch.deg2rad(held)
    codes = encode_rotated_boxes(boxes, torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0]]).expand_as(boxes))
    jumps = torch.where(held.diff(prepend=held[:1]).abs() > 90, math.nan, held)
    axes.plot(turn, jumps / 90, color=GREY, label="angle / 90°")
    axes.plot(turn, codes[:, 4], color=BLUE, label="cosine of twice the angle")
    axes.plot(turn, codes[:, 5], color=GREEN, label="sine of twice the angle")
    axes.set(xlabel="how far the box has turned, degrees", xticks=range(0, 361, 90), ylim=(-1.1, 2))
    axes.set_title("the angle in its range jumps,\nthe code does not", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


if __name__ == "__main__":
    draw().savefig(HERE / "oriented.png", dpi=110)
