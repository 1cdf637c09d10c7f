"""Draws the picture of the page "Soft boxes".

Run it from the project's root: python docs/figures/soft_boxes.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from softoverlap import (
    compute_pdq,
    soft_box_faces,
    soft_box_masks,
    soft_boxes,
    soft_boxes_from_raters,
)

HERE = Path(__file__).parent
INK, TRUTH, FOUND = "#1a1a1a", "#009e73", "#d55e00"
SIZE = (40, 48)


def raters() -> torch.Tensor:
    """Six raters' boxes of one lesion: they agree on its left side, and not on its right one."""
    generator = torch.Generator().manual_seed(3)
    mean = torch.tensor([[11.0, 10.0, 29.0, 33.0]])
    spread = torch.tensor([[1.0, 0.4, 1.5, 4.5]])
    return mean + spread * torch.randn(6, 1, 4, generator=generator)


def draw() -> Figure:
    """The raters' boxes, the soft box that they make, and PDQ for each claimed deviation."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
    for axes in (left, middle):
        axes.set(xlim=(0, SIZE[1]), ylim=(SIZE[0], 0), aspect="equal", xticks=[], yticks=[])
    boxes = raters()
    for box in boxes[:, 0].tolist():
        left.add_patch(_rectangle(box, edgecolor=TRUTH, lw=1.2))
    left.set_title("six raters' boxes", fontsize=10)
    soft = soft_boxes_from_raters(boxes)
    shown = middle.imshow(
        soft_box_masks(soft, SIZE)[0].numpy(),
        cmap="Greys",
        vmin=0,
        vmax=1,
        extent=(0, SIZE[1], SIZE[0], 0),
    )
    mean, deviation = soft_box_faces(soft)
    middle.add_patch(_rectangle(mean[0].tolist(), edgecolor=FOUND, lw=1.2))
    middle.set_title("their soft box, and the mean face", fontsize=10)
    figure.colorbar(shown, ax=[left, middle], label="probability", shrink=0.75)
    _claims(right, mean, deviation)
    return figure


def _rectangle(box: list[float], **style) -> Rectangle:
    """A box of rows and columns."""
    top, first, bottom, last = box
    return Rectangle((first, top), last - first, bottom - top, fill=False, **style)


def _claims(axes, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """PDQ of detections that claim one deviation for all faces, and of the raters' own."""
    generator = torch.Generator().manual_seed(5)
    drawn = mean + deviation * torch.randn(12, 4, generator=generator)
    masks = soft_box_masks(soft_boxes(drawn), SIZE).round()
    targets = [{"masks": mask[None], "label": torch.zeros(1)} for mask in masks]

    def mean_pdq(spread: torch.Tensor | float) -> float:
        found = {"box": soft_boxes(mean, spread), "label_scores": torch.ones(1, 1)}
        return compute_pdq([found] * len(targets), targets).pdq

    claimed = torch.logspace(-1, 1.1, 15)
    axes.semilogx(claimed, [mean_pdq(float(each)) for each in claimed], color=INK,
                  label="one deviation for all faces")  # fmt: skip
    axes.axhline(mean_pdq(deviation), color=FOUND, ls="--", label="that of each face")
    axes.set(xlabel="claimed deviation, voxels", ylabel="PDQ", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.set_title("twelve lesions as raters draw them", fontsize=10)


if __name__ == "__main__":
    draw().savefig(HERE / "soft_boxes.png", dpi=110)
