"""A step of the lesion-wise loss against Dice and cross entropy alone: time and memory.

Forward and backward of 2 × 1 × 128³ float32 logits with 50 lesions in each item and their regions
given, in fresh processes that take turns. With the figures it is said whether they reach what is
aimed at: at most 1.3 times the time and 1.5 times the memory beyond the inputs. Whole Voronoi cells
(every voxel in a region) are only reported.

python benchmarks/lesionwise_step.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import monai.losses
import torch
from _fresh import Case, case_asked, compared
from _measure import store
from torch import Tensor, nn

import softoverlap

SHAPE, LESIONS = (128, 128, 128), 50
TIME, MEMORY = 1.3, 1.5
EVERYWHERE = 64  # voxels within which there nearly always is a lesion
PEERS: dict[str, Callable[..., nn.Module]] = {
    "our DiceCE": softoverlap.SoftDiceCELoss,
    "MONAI DiceCE": monai.losses.DiceCELoss,
}


def scans(reach: int) -> tuple[Tensor, Tensor]:
    """Masks of two items with balls of one to five voxels' radius, and their regions."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*(torch.arange(float(side)) for side in SHAPE), indexing="ij")
    masks = torch.zeros(2, 1, *SHAPE)
    for item in masks:
        for _ in range(LESIONS):
            centre = 6 + torch.rand(3, generator=generator) * (torch.tensor(SHAPE) - 12)
            radius = 1 + 4 * torch.rand(1, generator=generator)
            away = sum((axis - place) ** 2 for axis, place in zip(axes, centre, strict=True))
            item[0][away <= radius**2] = 1
    if reach < EVERYWHERE:
        return masks, softoverlap.LesionCells(reach).regions(masks)
    slices = [row % LESIONS + 1 for row in range(SHAPE[0])]  # whose shape does not matter here
    return masks, torch.tensor(slices, dtype=torch.int32).view(1, 1, -1, 1, 1).expand_as(masks)


def step(make: Callable[..., nn.Module], reach: int, *, lesionwise: bool) -> Callable[[], object]:
    """Forward and backward on one drawn batch."""
    target, regions = scans(reach)
    logits = 6 * torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) - 3
    logits.requires_grad_()
    loss = make(sigmoid=True)
    inputs = (logits, target)
    if lesionwise:
        loss = softoverlap.LesionwiseSoftLoss(loss, lambda_false=1.0)  # pyright: ignore
        inputs = (logits, target, regions.contiguous())

    def run() -> None:
        loss(*inputs).backward()
        logits.grad = None  # so that each call makes it, and what it takes is counted

    return run


REACHES = {"reach 4": 4, "reach 8": 8, "every voxel": EVERYWHERE}
CASES: dict[str, Case] = {
    **{name: partial(step, make, 4, lesionwise=False) for name, make in PEERS.items()},
    **{
        f"lesion-wise, {name}": partial(step, softoverlap.SoftDiceCELoss, reach, lesionwise=True)
        for name, reach in REACHES.items()
    },
}


def pairs() -> Iterator[tuple[str, tuple[str, str]]]:
    """What is compared with what."""
    for reach in REACHES:
        for peer in PEERS:
            yield f"{reach}, against {peer}", (f"lesion-wise, {reach}", peer)


def main() -> None:
    figures: dict[str, Any] = compared(__file__, dict(pairs()))
    for name, figure in figures.items():
        if not name.startswith("every"):
            quick = figure["time_over_peer"] <= TIME
            figure["reached"] = quick and figure["memory_over_peer"] <= MEMORY
    missed = [name for name, figure in figures.items() if figure.get("reached") is False]
    print("\n".join(["missed:", *missed] if missed else ["all reached"]))
    store("lesionwise_step", "cpu", figures)


if __name__ == "__main__" and not case_asked(CASES):
    main()
