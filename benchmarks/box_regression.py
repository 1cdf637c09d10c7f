"""How fast each loss of the IoU family leads a box to its target.

Thousands of boxes, in 2D and in 3D, walk to a target of volume 1 by plain gradient descent on
centre offsets and logarithms of sizes, the coordinates of a detector, with the same step for all
losses. A walk has arrived when its IoU exceeds 0.9. Starts form a grid of distances (in sides of
the target), sizes (over the target's) and aspects (elongation along axis 0, over the target's).
Prints the share that arrives and the median step; stores them along the grid, with the mean IoU of
each step, and the figures of the known weaknesses.
"""

from __future__ import annotations

import itertools
import math

import torch
from _measure import arguments, store
from torch import Tensor

from softoverlap import losses
from softoverlap.overlaps import box_pair_diou, box_pair_giou, box_pair_iou, box_pair_nwd

RATE, STEPS, ENOUGH = 0.02, 3000, 0.9
DISTANCES = (0.0, 0.5, 1.0, 2.0, 4.0)
SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)
ASPECTS = (0.25, 0.5, 1.0, 2.0, 4.0)
TARGET_ASPECTS = (1.0, 2.0, 4.0)
DIRECTIONS = 8
SAMPLED = 20  # every how many steps the mean IoU is stored
LOSSES = {
    "IoU": losses.BoxIoULoss("sum"),
    "GIoU": losses.BoxGIoULoss("sum"),
    "DIoU": losses.BoxDIoULoss("sum"),
    "CIoU": losses.BoxCIoULoss("sum"),
    "EIoU": losses.BoxEIoULoss("sum"),
    "NWD": losses.BoxNWDLoss("sum", constant=1.0),  # the side of the target
}
COLUMNS = ("distance", "size", "aspect", "target_aspect")


def grid(ndim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Starts and targets as boxes, and the row of the grid that each comes from."""
    generator = torch.Generator().manual_seed(ndim)
    starts, targets, rows = [], [], []
    for row in itertools.product(DISTANCES, SIZES, ASPECTS, TARGET_ASPECTS):
        distance, size, aspect, target_aspect = row
        towards = torch.randn(DIRECTIONS, ndim, generator=generator)
        centre = distance * towards / towards.norm(dim=1, keepdim=True)
        side = size * elongated(aspect * target_aspect, ndim).expand(DIRECTIONS, ndim)
        starts.append(box(centre, side))
        target = elongated(target_aspect, ndim).expand(DIRECTIONS, ndim)
        targets.append(box(torch.zeros_like(centre), target))
        rows.append(torch.tensor(row).expand(DIRECTIONS, -1))
    return torch.cat(starts), torch.cat(targets), torch.cat(rows)


def elongated(aspect: float, ndim: int) -> Tensor:
    """Sides of a box of volume 1, `aspect` times as long on axis 0 as on the others."""
    sides = torch.ones(ndim)
    sides[0] = aspect
    return sides / sides.prod() ** (1 / ndim)


def box(centre: Tensor, sides: Tensor) -> Tensor:
    """Minima, then maxima."""
    return torch.cat([centre - sides / 2, centre + sides / 2], dim=1)


def walk(loss: losses.BoxLoss, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of each step, (STEPS + 1, N), and the largest volume of each walk over both its ends'."""
    ndim = start.shape[1] // 2
    centre = ((start[:, :ndim] + start[:, ndim:]) / 2).requires_grad_()
    log_side = (start[:, ndim:] - start[:, :ndim]).log().requires_grad_()
    ends = log_side.detach().sum(dim=1).clamp(min=0)  # the target's volume is 1
    largest, overlaps = ends, []
    for _ in range(STEPS + 1):
        now = box(centre, log_side.exp())
        overlaps.append(box_pair_iou(now.detach(), target, validate=False))
        largest = torch.maximum(largest, log_side.detach().sum(dim=1))
        gradients = torch.autograd.grad(loss(now, target), (centre, log_side))
        with torch.no_grad():
            centre -= RATE * gradients[0]
            log_side -= RATE * gradients[1]
    return torch.stack(overlaps), (largest - ends).exp()


def summary(overlaps: Tensor, rows: Tensor) -> dict[str, object]:
    """Shares that arrive and median steps: of all, and along each axis of the grid."""
    arrived = overlaps > ENOUGH
    steps = torch.where(arrived.any(dim=0), arrived.int().argmax(dim=0), STEPS + 1)
    figures: dict[str, object] = {"all": _arrivals(steps)}
    for column, name in enumerate(COLUMNS):
        values = rows[:, column].unique().tolist()
        figures[name] = {f"{v:g}": _arrivals(steps[rows[:, column] == v]) for v in values}
    figures["distance x size"] = [
        [_arrivals(steps[(rows[:, 0] == d) & (rows[:, 1] == s)]) for s in SIZES] for d in DISTANCES
    ]
    figures["mean_iou"] = [round(value, 4) for value in overlaps[::SAMPLED].mean(dim=1).tolist()]
    return figures


def _arrivals(steps: Tensor) -> dict[str, float | None]:
    """The share that arrives, and the median step of all walks, if half of them arrive."""
    median = steps.float().median().item()
    share = (steps <= STEPS).float().mean().item()
    return {"arrived": round(share, 4), "median_step": None if median > STEPS else median}


def weaknesses() -> dict[str, object]:
    """Scores that show what a loss rewards though it should not."""
    target = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    centre = torch.tensor([[4.0, 0.5]])  # 3.5 sides from that of the target
    growth = {}
    for side in (0.5, 1.0, 2.0, 3.0):
        grown = box(centre, torch.full((1, 2), side))
        growth[f"{side:g}"] = {
            "GIoU": box_pair_giou(grown, target).item(),
            "DIoU": box_pair_diou(grown, target).item(),
        }
    shifted = target + torch.tensor([[0.5, 0.0, 0.5, 0.0]])
    scale = {
        f"{k:g}": {
            "NWD": box_pair_nwd(k * shifted, k * target).item(),
            "IoU": box_pair_iou(k * shifted, k * target).item(),
        }
        for k in (1.0, 10.0, 100.0)
    }
    focal = {
        f"{iou:g}": {"ours": math.sqrt(1 - iou), "Focal-EIoU": math.sqrt(iou)}
        for iou in (0.1, 0.5, 0.9)
    }
    return {"growth of a disjoint box": growth, "scale": scale, "factor at gamma 0.5": focal}


if __name__ == "__main__":
    device = arguments(__doc__ or "").device
    figures: dict[str, object] = {
        "rate": RATE,
        "steps": STEPS,
        "enough": ENOUGH,
        "distances": DISTANCES,
        "sizes": SIZES,
        "sampled": SAMPLED,
    }
    for ndim in (2, 3):
        start, target, rows = (tensor.to(device) for tensor in grid(ndim))
        missed = box_pair_iou(start, target) == 0
        print(f"{ndim}D: {len(start):,} walks, {missed.float().mean():.0%} of them from apart")
        results: dict[str, object] = {"walks": len(start), "apart": missed.float().mean().item()}
        for name, loss in LOSSES.items():
            overlaps, overgrowth = walk(loss, start, target)
            found = summary(overlaps, rows)
            found["apart"] = summary(overlaps[:, missed], rows[missed])["all"]
            found["overgrowth_from_apart"] = overgrowth[missed].median().item()
            results[name] = found
            print(
                f"  {name:<5} {found['all']}, from apart {found['apart']}, "
                f"volume overshoots {found['overgrowth_from_apart']:.2f} times"
            )
        figures[f"{ndim}D"] = results
    figures["weaknesses"] = weaknesses()
    store("box_regression", device, figures)
