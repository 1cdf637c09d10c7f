"""Losses of volumes against MONAI's: forward and backward, time and memory beyond the inputs.

Each side runs in fresh processes that take turns. Memory counts the gradient, in volumes of the
input's size. With the figures it is said which of them reach what is aimed at; small inputs, where
fixed costs rule, are only reported.

python benchmarks/losses.py                          all sizes
python benchmarks/losses.py --sizes 2x3x128          some of them
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import monai.losses
import torch
from _fresh import Case, case_asked, compared
from _measure import store
from torch import nn

import softoverlap

SHAPES = {
    "8x1x64x64": (8, 1, 64, 64),
    "2x1x32": (2, 1, 32, 32, 32),
    "2x3x128": (2, 3, 128, 128, 128),
    "4x3x192": (4, 3, 192, 192, 192),
}
ROUNDS = {"4x3x192": 1}
VOLUMES = {"2x3x128": 1.5, "4x3x192": 1.15}  # the most that a loss may hold
TIMES = {"MONAI Dice": 0.9, "MONAI DiceCE": 0.9}  # the most of a peer's time; half of all others'
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
    """Forward and backward of one loss on one drawn batch, a hundred times if that is small."""
    generator = torch.Generator().manual_seed(0)
    input = torch.rand(shape, generator=generator)
    if activation != "none":
        input = input.mul_(6).sub_(3)
    target = torch.rand(shape, generator=generator)
    if activation == "softmax":
        target /= target.sum(dim=1, keepdim=True)
    input.requires_grad_()
    module = LOSSES[loss](**ACTIVATIONS[activation])
    calls = 1 if input.numel() > 1 << 20 else 100

    def run() -> None:
        for _ in range(calls):
            module(input, target).backward()
            input.grad = None  # so that each call makes it, and what it takes is counted

    return run


CASES: dict[str, Case] = {
    f"{loss}, {activation}, {size}": partial(step, loss, activation, shape)
    for loss in LOSSES
    for activation in ACTIVATIONS
    for size, shape in SHAPES.items()
}


def pairs_of(size: str) -> dict[str, tuple[str, str]]:
    """What is compared at a size; a cross entropy needs logits, a softmax several channels."""
    return {
        f"{ours}, {activation}, {size}, against {peer}": (
            f"{ours}, {activation}, {size}",
            f"{peer}, {activation}, {size}",
        )
        for ours, peers in PEERS.items()
        for peer in peers
        for activation in ACTIVATIONS
        if activation != "none" or "CE" not in ours
        if activation != "softmax" or SHAPES[size][1] > 1
    }


def reached(size: str, peer: str, figure: Mapping[str, Any]) -> bool | None:
    """Whether time and memory are what is aimed at; None of small inputs."""
    if size not in VOLUMES:
        return None
    quick = figure["time_over_peer"] <= TIMES.get(peer, 0.5)
    return quick and figure["ours"]["volumes"] <= VOLUMES[size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=[*SHAPES])
    figures: dict[str, object] = {}
    missed = []
    for size in parser.parse_args().sizes:
        volume = 4 * torch.Size(SHAPES[size]).numel()
        pairs = pairs_of(size)
        found: dict[str, Any] = compared(__file__, pairs, rounds=ROUNDS.get(size, 3))
        for name, figure in found.items():
            for side in ("ours", "peer"):
                figure[side]["volumes"] = figure[side]["bytes"] / volume
            figure["reached"] = reached(size, name.split("against ")[1], figure)
            missed += [name] * (figure["reached"] is False)
            figures[name] = figure
    print("\n".join(["missed:", *missed] if missed else ["all reached"]))
    store("losses", "cpu", figures)


if __name__ == "__main__" and not case_asked(CASES):
    main()
