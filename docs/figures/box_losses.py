"""Draws the pictures of the page "Which box loss?".

Values and gradients come from the library; what boxes reach in a walk comes from the stored run of
benchmarks/box_regression.py. Run it from the project's root: python docs/figures/box_losses.py
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from softoverlap import losses
from softoverlap.overlaps import box_pair_nwd

HERE = Path(__file__).parent
STORED = HERE.parents[1] / "benchmarks" / "results" / "box_regression.json"
INK, GREY = "#1a1a1a", "#d9d9d9"
COLORS = {
    "IoU": "#1a1a1a",
    "GIoU": "#0072b2",
    "DIoU": "#e69f00",
    "CIoU": "#d55e00",
    "EIoU": "#009e73",
    "NWD": "#cc79a7",
}
DASHES = {"IoU": "-", "GIoU": "-", "DIoU": "-", "CIoU": "--", "EIoU": "-", "NWD": "-."}
WIDTHS = {"IoU": 2.4, "GIoU": 1.6, "DIoU": 4.5, "CIoU": 2.6, "EIoU": 1.2, "NWD": 1.6}  # all show
LOSSES = {
    "IoU": losses.BoxIoULoss("none"),
    "GIoU": losses.BoxGIoULoss("none"),
    "DIoU": losses.BoxDIoULoss("none"),
    "CIoU": losses.BoxCIoULoss("none"),
    "EIoU": losses.BoxEIoULoss("none"),
    "NWD": losses.BoxNWDLoss("none", constant=1.0),
}
TARGET = torch.tensor([[-0.5, -0.5, 0.5, 0.5]])


def line_of(name: str) -> dict[str, object]:
    """How all pictures draw this loss."""
    return {
        "color": COLORS[name],
        "linestyle": DASHES[name],
        "linewidth": WIDTHS[name],
        "label": name,
    }


def loss_and_gradients(name: str, centre: Tensor, side: Tensor) -> tuple[Tensor, ...]:
    """The loss against the target, and its gradients to the centre and to the sides, per box."""
    centre, side = centre.clone().requires_grad_(), side.expand_as(centre).clone().requires_grad_()
    boxes = torch.cat([centre - side / 2, centre + side / 2], dim=1)
    loss = LOSSES[name](boxes, TARGET.expand_as(boxes))
    return loss.detach(), *torch.autograd.grad(loss.sum(), (centre, side))


def draw_desert() -> Figure:
    """A box of the target's size slides by: where nothing is shared, IoU has no slope."""
    offset = torch.linspace(0.004, 4, 1000)
    centre = torch.stack([offset, torch.zeros_like(offset)], dim=1)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in LOSSES:
        loss, gradient, _ = loss_and_gradients(name, centre, torch.ones(1, 2))
        left.plot(offset, loss, **line_of(name))
        right.plot(offset, gradient[:, 0], **line_of(name))
    for axes in (left, right):
        axes.axvspan(1, 4, color=GREY, alpha=0.5, linewidth=0)
        axes.set(xlabel="distance of the centres, sides of the target", xlim=(0, 4))
    left.set(ylabel="loss", ylim=(0, 2))
    left.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    right.set(ylabel="slope of the loss along the way", ylim=(-0.05, 2))
    right.annotate(
        "the desert: IoU's slope is 0",
        (1.1, 0.01),
        (1.5, 0.9),
        arrowprops={"width": 0.4, "headwidth": 4, "color": INK},
        fontsize=9,
    )
    return figure


def draw_fields() -> Figure:
    """Where each loss draws the centre of a flat box, and how one box walks."""
    x, y = torch.meshgrid(torch.linspace(-3, 3, 19), torch.linspace(-3, 3, 19), indexing="xy")
    centre = torch.stack([x.flatten(), y.flatten()], dim=1)
    figure = Figure(figsize=(10, 6.9), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, LOSSES, strict=True):
        _, gradient, _ = loss_and_gradients(name, centre, torch.tensor([[1.6, 0.6]]))
        strength = gradient.norm(dim=1)
        moves = strength > 1e-6
        arrow = -gradient[moves] / strength[moves, None]
        drawn = axes.quiver(
            *centre[moves].T, *arrow.T, strength[moves].clamp(1e-2, 1).log10(),
            cmap="viridis_r", clim=(-2, 0), scale=24, width=0.006,
        )  # fmt: skip
        axes.plot(*centre[~moves].T, ".", color="#999999", markersize=2)
        _walk(axes, name)
        axes.set(title=name, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
        axes.set(xticks=[], yticks=[])
    bar = figure.colorbar(drawn, ax=figure.axes, shrink=0.6, ticks=[-2, -1, 0])
    bar.set_ticklabels(["≤ 0.01", "0.1", "≥ 1"])
    bar.set_label("size of the gradient to the centre")
    return figure


def _walk(axes: Axes, name: str, steps: int = 1200, rate: float = 0.01) -> None:
    """Outlines of a box that follows the gradient of centre and logarithm of the sides."""
    axes.add_patch(Rectangle((-0.5, -0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2))
    centre, log_side = torch.tensor([[-2.0, 1.5]]), torch.tensor([[1.6, 0.6]]).log()
    for step in range(steps + 1):
        if step in (0, 150, 300, 600, steps):
            side = log_side.exp()[0].tolist()
            corner = (centre[0] - log_side.exp()[0] / 2).tolist()
            axes.add_patch(
                Rectangle(
                    corner, *side, fill=False, edgecolor="#d55e00", alpha=0.35 + 0.65 * step / steps
                )
            )
        _, to_centre, to_side = loss_and_gradients(name, centre, log_side.exp())
        centre, log_side = centre - rate * to_centre, log_side - rate * to_side * log_side.exp()


def draw_curves(stored: dict) -> Figure:
    """The mean IoU of all walks, step by step."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("2D", "3D"), strict=True):
        for name in LOSSES:
            overlap = stored[kind][name]["mean_iou"]
            steps = [stored["sampled"] * k for k in range(len(overlap))]
            axes.plot(steps, overlap, **line_of(name))
        axes.set(xlabel="step", xlim=(0, stored["steps"]), ylim=(0, 1), title=kind)
    figure.axes[0].set(ylabel="mean IoU of all walks")
    figure.axes[1].legend(frameon=False, fontsize=8, ncols=3, loc="lower right")
    return figure


def draw_steps(stored: dict) -> Figure:
    """The median step of arrival over distance and size of the start."""
    figure = Figure(figsize=(10, 3.7), layout="constrained")
    grid = figure.subplots(2, len(LOSSES), sharex=True, sharey=True)
    for row, kind in zip(grid, ("2D", "3D"), strict=True):
        for axes, name in zip(row, LOSSES, strict=True):
            medians = [
                [cell["median_step"] for cell in line]
                for line in stored[kind][name]["distance x size"]
            ]
            values = torch.tensor(
                [[float("nan") if m is None else m for m in line] for line in medians]
            )
            drawn = axes.imshow(
                values, cmap="viridis_r", vmin=0, vmax=stored["steps"], origin="lower"
            )
            for (i, j), value in _cells(values):
                text = "–" if value != value else f"{value:.0f}"
                dark = value == value and value > stored["steps"] / 2
                axes.text(j, i, text, ha="center", va="center", fontsize=6,
                          color="white" if dark else INK)  # fmt: skip
            axes.set_title(f"{name}, {kind}", fontsize=9)
            axes.set_xticks(
                range(len(stored["sizes"])), [f"{s:g}" for s in stored["sizes"]], fontsize=7
            )
            axes.set_yticks(
                range(len(stored["distances"])), [f"{d:g}" for d in stored["distances"]], fontsize=7
            )
    figure.supxlabel("side of the start, over the target's", fontsize=9)
    figure.supylabel("distance of the centres", fontsize=9)
    figure.colorbar(drawn, ax=grid, shrink=0.7).set_label("median step of arrival")
    return figure


def _cells(values: Tensor) -> list[tuple[tuple[int, int], float]]:
    return [((i, j), value) for i, row in enumerate(values.tolist()) for j, value in enumerate(row)]


def draw_scale() -> Figure:
    """The slope of 1 - IoU to a side, and to its logarithm, of a box and of its 100-fold copy."""
    ratio = torch.logspace(-0.6, 0.6, 400)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for scale, color, style in ((1, COLORS["GIoU"], "-"), (100, COLORS["CIoU"], "--")):
        width = (scale * ratio).requires_grad_()
        half = torch.full_like(width, scale / 2)
        pred = torch.stack([-width / 2, -half, width / 2, half], dim=1)
        target = (scale * TARGET).expand(len(ratio), -1)
        (slope,) = torch.autograd.grad(LOSSES["IoU"](pred, target).sum(), width)
        label = f"target of side {scale}"
        left.plot(ratio, slope.abs(), color=color, linestyle=style, label=label)
        right.plot(ratio, slope * width.detach(), color=color, linestyle=style, label=label)
    left.set(ylabel="|∂(1 − IoU)/∂w|", yscale="log", title="to the width: 100 times smaller")
    right.set(ylabel="∂(1 − IoU)/∂ln w", title="to its logarithm: the same")
    for axes in (left, right):
        axes.set(xlabel="width over the target's", xscale="log", xticks=[0.25, 0.5, 1, 2, 4])
        axes.set_xticks([], minor=True)
        axes.set_xticklabels(["1/4", "1/2", "1", "2", "4"])
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_weaknesses() -> Figure:
    """A box beside its target grows; and one pair of boxes is scaled."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    side = torch.linspace(0.1, 5.0, 400)
    centre = torch.tensor([[3.5, 0.0]]).expand(len(side), 2)
    for name in ("IoU", "GIoU", "DIoU", "CIoU", "EIoU"):
        loss, _, _ = loss_and_gradients(name, centre, side[:, None])
        left.plot(side, loss, **line_of(name))
    left.set(xlabel="side of a square 3.5 sides beside the target", ylabel="loss", ylim=(0.9, 2.7))
    left.legend(frameon=False, fontsize=8, ncols=3)
    scale = torch.logspace(-1, 2, 200)[:, None]
    shifted = TARGET + torch.tensor([[0.5, 0.0, 0.5, 0.0]])
    score = box_pair_nwd(scale * shifted, scale * TARGET)
    iou = 1 - LOSSES["IoU"](scale * shifted, scale * TARGET)
    right.plot(scale, score, color=COLORS["NWD"], label="NWD, constant 12.7")
    right.plot(scale, iou, color=COLORS["IoU"], label="IoU")
    right.set(xlabel="side of two squares shifted by half a side", ylabel="score", xscale="log")
    right.set(ylim=(0, 1.05))
    right.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    stored = json.loads(STORED.read_text())
    pictures = {
        "desert": draw_desert(),
        "fields": draw_fields(),
        "curves": draw_curves(stored),
        "steps": draw_steps(stored),
        "scale": draw_scale(),
        "weaknesses": draw_weaknesses(),
    }
    for name, figure in pictures.items():
        figure.savefig(HERE / f"box_losses_{name}.png", dpi=130)
