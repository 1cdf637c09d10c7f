"""Draws the picture of the page "Boxes that are not wholly in view".

Run it from the project's root: python docs/figures/occlusion.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from softoverlap.measures import BoxIoUErrors
from softoverlap.overlaps import amodal_iou_bound, visible_box, visible_fraction

HERE = Path(__file__).parent
INK, TRUTH, LOST, MISPLACED, GREY = "#1a1a1a", "#009e73", "#d55e00", "#56b4e9", "#bbbbbb"
LESION = torch.tensor([[0.0, 0.0, 6.0, 6.0]])  # vertical axis first
LESIONS = 300


def draw() -> Figure:
    """What is in view of a box, twice, and the errors of two detectors."""
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    cut, amid, modal, amodal = figure.subplots(1, 4, width_ratios=[1, 1, 1.2, 1.2])
    field = torch.tensor([-2.0, -2.0, 8.0, 3.5])
    cut.add_patch(Rectangle((3.5, -2), 5, 10, color=GREY, lw=0))
    cut.text(5.8, 7.3, "out of view", ha="center", fontsize=8)
    _scene(cut, "the field of view ends", visible=field)
    tool = torch.tensor([[2.0, -2.0, 4.0, 4.0]])
    amid.add_patch(Rectangle((-2, 2), 6, 2, color=GREY, lw=0))
    amid.text(-0.2, 3, "occluder", ha="center", va="center", fontsize=8)
    _scene(amid, "an occluder amid", occluders=tool)
    amid.legend(frameon=False, fontsize=8, loc="lower left", borderaxespad=0)
    _errors(modal, "boxes of the visible part", guesses=False)
    _errors(amodal, "boxes of the whole lesion", guesses=True)
    modal.set_ylabel("lost of the IoU")
    modal.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _scene(axes, title: str, **views: Any) -> None:
    """The whole box, its visible part's tight box, and what follows from them."""
    fraction = visible_fraction(LESION, **views)
    tight = visible_box(LESION, **views)
    bound = amodal_iou_bound(visible_fraction(LESION, tight))
    of_part = {"color": LOST, "alpha": 0.35, "lw": 0, "label": "tight box of what is in view"}
    of_all = {"color": TRUTH, "fill": False, "ls": "--", "lw": 2.5, "label": "whole box"}
    for box, style in ((LESION, of_all), (tight, of_part)):
        low, left, high, right = box[0].tolist()
        axes.add_patch(Rectangle((left, low), right - left, high - low, **style))
    axes.set(xlim=(-2, 8), ylim=(8, -2), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(
        f"visible fraction {fraction.item():.2f}\ntight box reaches IoU {bound.item():.2f}",
        fontsize=9,
    )


def _errors(axes, title: str, *, guesses: bool) -> None:
    """Truncation and localisation of lesions that slide out of the field of view."""
    hidden = torch.linspace(0, 0.8, 17)
    field = torch.tensor([0.0, -99.0, 99.0, 99.0])
    generator = torch.Generator().manual_seed(0)
    measure, means = BoxIoUErrors(hit=lambda boxes, target: torch.eye(len(boxes)).bool()), []
    for share in hidden:
        truth = LESION.repeat(LESIONS, 1) - 6 * share * torch.tensor([1.0, 0.0, 1.0, 0.0])
        spread = torch.full((4,), 0.3)
        spread[0] += 2 * share  # the face that is out of view is guessed from the others
        found = truth + spread * torch.randn(LESIONS, 4, generator=generator)
        found[:, 2:] = found[:, 2:].maximum(found[:, :2] + 0.1)
        found = found if guesses else visible_box(found, field)
        target = {"box": truth, "label": torch.zeros(LESIONS), "visible": field}
        scan = {"box": found, "label": torch.zeros(LESIONS), "label_scores": torch.ones(LESIONS)}
        errors = measure.details(measure.statistics([scan], [target]))
        means.append((errors.truncation, errors.localisation))
    truncation, localisation = torch.tensor(means).unbind(dim=1)
    axes.stackplot(
        hidden, truncation, localisation, colors=[LOST, MISPLACED],
        labels=["truncation", "localisation"],
    )  # fmt: skip
    axes.plot(hidden, 1 - amodal_iou_bound(1 - hidden), color=INK, ls=":", label="1 - bound")
    axes.set(xlabel="hidden share of the lesion", xlim=(0, 0.8), ylim=(0, 1))
    axes.set_title(title, fontsize=10)


if __name__ == "__main__":
    draw().savefig(HERE / "occlusion.png", dpi=110)
