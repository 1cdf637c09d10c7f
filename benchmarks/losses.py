"""Losses of volumes against MONAI's: forward and backward, time and memory beyond the inputs.

Each side runs in fresh processes that take turns. Memory counts the gradient, in volumes of the
input's size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import monai.losses
import torch
from _fresh import Case, case_asked, compared
from _measure import store
from torch import nn

import softoverlap

SHAPES = {"2x3x128": (2, 3, 128, 128, 128), "4x3x192": (4, 3, 192, 192, 192)}
ACTIVATIONS = {"none": {}, "sigmoid": {"sigmoid": True}, "softmax": {"softmax": True}}
LOSSES: dict[str, Callable[..., nn.Module]] = {
    "ours min": softoverlap.SoftDiceLoss,
    "ours product": partial(softoverlap.SoftDiceLoss, intersection="product"),
    "ours squared": partial(softoverlap.SoftDiceLoss, squared_pred=True),
    "ours IoU": softoverlap.SoftIoULoss,
    "ours Tversky": softoverlap.SoftTverskyLoss,
    "ours DiceCE": softoverlap.SoftDiceCELoss,
    "MONAI Dice": monai.losses.DiceLoss,
    "MONAI Dice soft": partial(monai.losses.DiceLoss, soft_label=True),
    "MONAI IoU soft": partial(monai.losses.DiceLoss, soft_label=True, jaccard=True),
    "MONAI Tversky soft": partial(monai.losses.TverskyLoss, soft_label=True),
    "MONAI DiceCE": monai.losses.DiceCELoss,
}
PEERS = {
    "ours min": ("MONAI Dice soft", "MONAI Dice"),
    "ours product": ("MONAI Dice soft", "MONAI Dice"),
    "ours squared": ("MONAI Dice soft",),
    "ours IoU": ("MONAI IoU soft",),
    "ours Tversky": ("MONAI Tversky soft",),
    "ours DiceCE": ("MONAI DiceCE",),
}


def step(loss: str, activation: str, shape: tuple[int, ...]) -> Callable[[], object]:
    """Forward and backward of one loss on one drawn batch."""
    generator = torch.Generator().manual_seed(0)
    input = torch.rand(shape, generator=generator)
    if activation != "none":
        input = input.mul_(6).sub_(3)
    target = torch.rand(shape, generator=generator)
    if activation == "softmax":
        target /= target.sum(dim=1, keepdim=True)
    input.requires_grad_()
    module = LOSSES[loss](**ACTIVATIONS[activation])

    def run() -> None:
        module(input, target).backward()
        input.grad = None  # gone before the next call, which would not be charged for it otherwise

    return run


CASES: dict[str, Case] = {
    f"{loss}, {activation}, {size}": partial(step, loss, activation, shape)
    for loss in LOSSES
    for activation in ACTIVATIONS
    for size, shape in SHAPES.items()
}


def main() -> None:
    figures: dict[str, object] = {}
    for size, shape in SHAPES.items():
        volume = 4 * torch.Size(shape).numel()
        pairs = {
            f"{ours}, {activation}, {size}, against {peer}": (
                f"{ours}, {activation}, {size}",
                f"{peer}, {activation}, {size}",
            )
            for ours, peers in PEERS.items()
            for peer in peers
            for activation in ACTIVATIONS
            if activation != "none" or "CE" not in ours
        }
        for name, figure in compared(__file__, pairs, rounds=3 if size == "2x3x128" else 1).items():
            for side in ("ours", "peer"):
                figure[side]["volumes"] = figure[side]["bytes"] / volume  # type: ignore[index]
            figures[name] = figure
    store("losses", "cpu", figures)


if __name__ == "__main__" and not case_asked(CASES):
    main()
