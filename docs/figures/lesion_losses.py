"""Draws the picture of the page "Losses that see every lesion".

Run it from the project's root: python docs/figures/lesion_losses.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from softoverlap import LesionCells, LesionwiseSoftLoss, OthersMasked, SoftDiceLoss, lesion_regions

HERE = Path(__file__).parent
REACH = 8
CELLS = ListedColormap(["#f2f2f2", "#9ecae1", "#fdd0a2", "#c7e9c0"])
LOSSES: dict[str, nn.Module] = {
    "Dice of the image": SoftDiceLoss(),
    "Dice in cells": LesionwiseSoftLoss(SoftDiceLoss(), LesionCells(REACH), lambda_global=0),
    "Dice, others masked": LesionwiseSoftLoss(SoftDiceLoss(), OthersMasked(), lambda_global=0),
    "cells, image and false lesions": LesionwiseSoftLoss(
        SoftDiceLoss(), LesionCells(REACH), lambda_false=0.3, false_volume=20
    ),
}


def disc(x: float, y: float, radius: float) -> Tensor:
    """A mask of a disc."""
    rows, columns = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).float()


def slice_of_a_scan() -> tuple[Tensor, Tensor]:
    """A large lesion that is found, two small ones that are nearly missed, and a false one."""
    large, first, second, false = (
        disc(19, 20, 11), disc(40, 18, 1.5), disc(31, 42, 2.2), disc(48, 48, 3),
    )  # fmt: skip
    target = large + first + second
    pred = 0.02 + 0.9 * disc(20, 20, 11) + 0.1 * (first + second) + 0.6 * false
    return target, pred.clamp(0, 1)


def pull(loss: nn.Module, pred: Tensor, target: Tensor) -> Tensor:
    """How much a step raises (or lowers) the prediction of each voxel: minus the gradient."""
    leaf = pred[None, None].clone().requires_grad_()
    return -torch.autograd.grad(loss(leaf, target[None, None]), leaf)[0][0, 0]


def draw() -> Figure:
    """The regions of a slice, and what each loss tells each voxel of it."""
    target, pred = slice_of_a_scan()
    regions = lesion_regions(target, reach=REACH)
    figure = Figure(figsize=(12, 2.9), layout="constrained")
    axes = figure.subplots(1, 1 + len(LOSSES))
    axes[0].imshow(regions, cmap=CELLS, interpolation="nearest")
    axes[0].set_title(f"regions: reach {REACH} voxels", fontsize=9)
    for axis, (name, loss) in zip(axes[1:], LOSSES.items(), strict=True):
        force = pull(loss, pred, target)
        shown = axis.imshow(force, cmap="PuOr_r", vmin=-0.02, vmax=0.02, interpolation="nearest")
        small = force[target.bool() & (regions == 2)].mean().item()
        axis.set_title(f"{name}\nthe smallest is told {small:.4f}", fontsize=9)
    for axis in axes:
        axis.contour(target, [0.5], colors="black", linewidths=0.8)
        axis.contour(pred, [0.3], colors="#d7191c", linewidths=0.8, linestyles="--")
        axis.set(xticks=[], yticks=[])
    bar = figure.colorbar(shown, ax=axes[-1], shrink=0.8)
    bar.set_label("raise the prediction", fontsize=8)
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "lesion_losses.png", dpi=110)
