"""Draws the picture of the page for users of MONAI: what becomes of a lesion's box when it turns.

Run it from the project's root: python docs/figures/turned_lesion.py
"""

from __future__ import annotations

from math import cos, pi, sin
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from monai.apps.detection.transforms.dictionary import BoxToMaskd, MaskToBoxd
from monai.data import MetaTensor
from monai.transforms import Compose, Rotated
from torch import Tensor

from softoverlap import LesionInstancesd, LesionsFromInstancesd
from softoverlap.overlaps import box_iou

OUTPUT = Path(__file__).with_suffix(".png")
BLUE, ORANGE = "#0072b2", "#d55e00"
SIDE, ANGLE = 56, pi / 5
KEYS = ("image", "mask", "instances")


def long_lesion() -> Tensor:
    """A long lesion with a soft edge, aslant in its scan, (1, D, H, W)."""
    axis = torch.arange(SIDE) + 0.5 - SIDE / 2
    first, second, third = torch.meshgrid(axis, axis, axis, indexing="ij")
    along = cos(ANGLE) * first + sin(ANGLE) * second
    across = cos(ANGLE) * second - sin(ANGLE) * first
    distance = ((along / 17) ** 2 + (across / 5) ** 2 + (third / 5) ** 2).sqrt()
    return torch.sigmoid((1 - distance) * 8).where(distance < 1.4, 0.0)[None]


def turned(angle: float) -> dict[str, Tensor]:
    """The lesion after a turn: its mask, its box, and the box by way of MONAI's ellipsoid."""
    mask = long_lesion()
    whole = LesionsFromInstancesd()(LesionInstancesd()({"image": mask, "mask": mask}))
    item = {
        "image": MetaTensor(mask),
        "mask": MetaTensor(mask),
        "box": whole["boxes"],
        "label": whole["labels"],
    }
    keys, modes = (*KEYS, "box_mask"), ["bilinear", "bilinear", "nearest", "nearest"]
    transforms = Compose(
        [
            LesionInstancesd(),
            BoxToMaskd("box", "box_mask", "label", "image", min_fg_label=0, ellipse_mask=True),
            Rotated(keys, angle=[0.0, 0.0, angle], mode=modes, padding_mode="zeros"),
            MaskToBoxd("box", "box_mask", "label", min_fg_label=0),
            LesionsFromInstancesd(),
        ]
    )
    return transforms(item)


def draw() -> Figure:
    """Before, and after turns to either side."""
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    for axes, angle in zip(figure.subplots(1, 3), (0.0, -ANGLE, ANGLE), strict=True):
        after = turned(angle)
        share = float(box_iou(after["box"].float(), after["boxes"].float()))
        mask = after["mask"][0].as_tensor()
        axes.imshow(mask.amax(dim=2), cmap="Greys", vmin=0, vmax=1.25, extent=(0, SIDE, SIDE, 0))
        for box, colour in ((after["box"][0], ORANGE), (after["boxes"][0], BLUE)):
            low, high = box[:2].tolist(), box[3:5].tolist()
            axes.add_patch(
                Rectangle(
                    (low[1], low[0]), high[1] - low[1], high[0] - low[0],
                    fill=False, edgecolor=colour, linewidth=1.8,
                )
            )  # fmt: skip
        name = "as marked" if angle == 0 else f"turned by {round(angle * 180 / pi):+d}°"
        axes.set_title(f"{name}\nIoU of the boxes {share:.2f}", fontsize=9)
        axes.set_axis_off()
    names = {ORANGE: "box by way of an ellipsoid", BLUE: "box of the turned lesion"}
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, label=name)
        for colour, name in names.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    draw().savefig(OUTPUT, dpi=150)
