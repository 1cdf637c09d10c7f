"""What each form of the Dice loss learns from raters who disagree.

A voxel that raters mark with probability m is seen in many cases; what is the probability that a
map learns for it? A free map (no network) meets five fresh random raters in every step, as their
mean or one of them alone. Prints the learned probability for each m.
"""

from __future__ import annotations

import torch
from _measure import arguments, store
from torch import Tensor

from softoverlap import SoftDiceLoss

MARKED = (0.1, 0.3, 0.5, 0.7, 0.9)  # how often a rater marks a voxel of the region
VOXELS = 400  # of each region; as many that no rater marks, for each of them
STEPS = 2000
FORMS = {
    "min": {},
    "product": {"intersection": "product"},
    "squared": {"squared_pred": True},
}


def truth() -> Tensor:
    """How often a rater marks each voxel, shape (1, 1, voxels)."""
    marked = torch.tensor(MARKED).repeat_interleave(VOXELS)
    return torch.cat([torch.zeros(len(marked)), marked])[None, None]


def learned(options: dict, raters: int) -> dict[str, float]:
    """The mean probability that each region ends with, and the Brier score over all voxels."""
    marked, generator = truth(), torch.Generator().manual_seed(0)
    logits = torch.zeros_like(marked, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    loss_function = SoftDiceLoss(sigmoid=True, **options)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / STEPS)
        votes = torch.rand(raters, *marked.shape[1:], generator=generator) < marked
        optimizer.zero_grad()
        loss_function(logits, votes.float().mean(dim=0, keepdim=True)).backward()
        optimizer.step()
    probability = logits.detach().sigmoid()
    regions = {f"{m:.1f}": float(probability[marked == m].mean()) for m in torch.tensor(MARKED)}
    return {**regions, "brier": float((probability - marked).square().mean())}


if __name__ == "__main__":
    device = arguments(__doc__ or "").device
    figures: dict[str, object] = {"marked": MARKED, "steps": STEPS}
    for target, raters in (("mean of five raters", 5), ("one rater at a time", 1)):
        print(f"target: {target}")
        print("  marked by raters" + " ".join(f"{m:>6g}" for m in MARKED) + "   Brier")
        for form, options in FORMS.items():
            result = learned(options, raters)
            figures[f"{target}, {form}"] = result
            print(f"  {form:<16}" + " ".join(f"{value:6.4f}" for value in result.values()))
    store("what_losses_learn", device, figures)
