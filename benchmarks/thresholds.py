"""Scores over thresholds: a loop over 100 of them against one histogram, and against one sort.

Prints ratios of one run at 128³, all sides taking turns. Lesion maps are zero in most voxels, as
predictions are after a softmax and a cut at small values; dense maps are zero nowhere, the worst
case.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from _measure import arguments, seconds, store
from monai.metrics import compute_dice
from torch import Tensor

from softoverlap.measures import BestThresholdDice, ExpectedDice, ThresholdedDice

SHAPE = (1, 1, 128, 128, 128)
THRESHOLDS = [step / 100 for step in range(1, 101)]


def lesion_maps(device: str) -> tuple[Tensor, Tensor]:
    """Forty blurred balls, and the same a voxel further with other radii."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.arange(128.0)
    grid = torch.stack(torch.meshgrid(axes, axes, axes, indexing="ij"))
    maps = torch.zeros(2, *SHAPE)
    for _ in range(40):
        centre = torch.rand(3, 1, 1, 1, generator=generator) * 128
        radii = 3 + 7 * torch.rand(2, generator=generator)
        for number, radius in enumerate(radii.tolist()):
            distance = (grid - centre - number).square().sum(0).sqrt()
            ball = torch.sigmoid((radius - distance) / 1.5)
            maps[number] = torch.maximum(maps[number], ball.where(ball > 1e-3, 0))
    return maps[0].to(device), maps[1].to(device)


def dense_maps(device: str) -> tuple[Tensor, Tensor]:
    """Every voxel random: nothing can be left out."""
    maps = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)).to(device)
    return maps[0], maps[1]


def bare_loop(pred: Tensor, truth: Tensor) -> Tensor:
    """The Dice at each threshold, written out in torch."""
    scores = []
    for threshold in THRESHOLDS:
        a, b = pred >= threshold, truth >= threshold
        scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return torch.stack(scores)


def monai_loop(pred: Tensor, truth: Tensor) -> Tensor:
    """The Dice at each threshold by MONAI's function."""
    scores = []
    for threshold in THRESHOLDS:
        a, b = (pred >= threshold).float(), (truth >= threshold).float()
        scores.append(compute_dice(a, b, ignore_empty=False))
    return torch.stack(scores)


def candidates(pred: Tensor, truth: Tensor) -> dict[str, Callable[[], object]]:
    doubles = pred.double(), truth.double()
    listed, exact = ThresholdedDice(thresholds=THRESHOLDS), ExpectedDice()
    return {
        "bare_loop": partial(bare_loop, pred, truth),
        "monai_loop": partial(monai_loop, pred, truth),
        "thresholded": partial(listed, pred, truth),
        "thresholded_float64": partial(listed, *doubles),
        "expected_histogram": partial(ExpectedDice(method="histogram"), pred, truth),
        "expected_exact": partial(exact, pred, truth),
        "expected_exact_float64": partial(exact, *doubles),
        "best_threshold_listed": partial(BestThresholdDice(thresholds=THRESHOLDS), pred, truth),
        "best_threshold_exact": partial(BestThresholdDice(thresholds=None), pred, truth),
    }


def compare(name: str, pred: Tensor, truth: Tensor, device: str) -> dict[str, object]:
    dice, quick = ThresholdedDice(thresholds=THRESHOLDS), ExpectedDice(method="histogram")
    listed = dice.curve(dice.statistics(pred, truth)).flatten()
    loop = bare_loop(pred, truth).nan_to_num(nan=1.0).double()  # both empty
    exact = ExpectedDice()(pred, truth).item()
    statistics = quick.statistics(pred, truth)
    lower, upper = quick.bounds(statistics)
    counted = quick.score(statistics).item()
    times = seconds(candidates(pred, truth), device, repeats=5)
    foreground = (torch.maximum(pred, truth) > 0).double().mean().item()
    print(f"{name} maps, {foreground:.0%} of the voxels above 0 in one of them")
    print(f"  a loop over {len(THRESHOLDS)} thresholds: {1e3 * times['bare_loop']:.0f} ms")
    for other, value in times.items():
        print(f"  {other}: the loop takes {times['bare_loop'] / value:.1f} times as long")
    return {
        "share_of_voxels_above_0": foreground,
        "milliseconds": {other: 1e3 * value for other, value in times.items()},
        "bare_loop_over": {n: times["bare_loop"] / value for n, value in times.items()},
        "largest_difference_from_loop": (listed - loop).abs().max().item(),
        "expected_histogram_error": abs(counted - exact),
        "expected_histogram_error_bound": (upper - lower).item(),
    }


if __name__ == "__main__":
    device = arguments(__doc__ or "").device
    figures = {
        name: compare(name, *maps(device), device)
        for name, maps in (("lesion", lesion_maps), ("dense", dense_maps))
    }
    store("thresholds", device, {"thresholds": len(THRESHOLDS), "shape": list(SHAPE), **figures})
