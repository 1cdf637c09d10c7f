"""Draws the picture of the page "Time: intervals and dwell time".

Run it from the project's root: python docs/figures/dwell.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from softoverlap.measures import dwell_intervals, dwell_time

HERE = Path(__file__).parent
INK, TRUTH, FOUND, GREY = "#1a1a1a", "#009e73", "#d55e00", "#bbbbbb"
FPS, LOW, HIGH = 25, 0.3, 0.5


def overlap_of_a_film() -> torch.Tensor:
    """An overlap per frame: two visits of the lesion, a lost track, a flicker, and noise."""
    seconds = torch.arange(12 * FPS) / FPS
    curve = 0.75 * torch.exp(-(((seconds - 3) / 1.6) ** 4))
    curve += 0.7 * torch.exp(-(((seconds - 8.3) / 1.1) ** 4))
    curve[int(3.2 * FPS) : int(3.4 * FPS)] = 0.1  # the track is lost for a moment
    curve[int(11.2 * FPS) : int(11.3 * FPS)] = 0.6  # a flicker
    noise = torch.randn(len(seconds), generator=torch.Generator().manual_seed(0))
    return (curve + 0.04 * noise).clamp(0, 1)


def draw() -> Figure:
    """The overlap with both thresholds, and below it what becomes of it step by step."""
    overlap = overlap_of_a_film()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    above.stairs(overlap, torch.arange(len(overlap) + 1) / FPS, color=INK, lw=1)
    for level, name in ((LOW, "from here on in view"), (HIGH, "if it once comes here")):
        above.axhline(level, color=GREY, ls="--", lw=1)
        above.text(12.05, level, name, va="center", fontsize=8)
    above.set(ylabel="overlap per frame", ylim=(0, 1), xlim=(0, 12))
    steps = {
        f"at or above {HIGH}": {"threshold": HIGH},
        "with both thresholds": {"threshold": (LOW, HIGH)},
        "gaps filled, short runs dropped": {
            "threshold": (LOW, HIGH), "max_gap": 0.3, "min_length": 0.5,
        },
    }  # fmt: skip
    for row, (name, settings) in enumerate(steps.items()):
        found = dwell_intervals(overlap, fps=FPS, **settings)
        bars = [(start, end - start) for start, end in found.tolist()]
        color = FOUND if row == len(steps) - 1 else GREY
        below.broken_barh(bars, (-row - 0.35, 0.7), color=color)
        below.text(12.05, -row, f"{name}: {dwell_time(found):.1f} s", va="center", fontsize=8)
    below.set(xlabel="seconds", yticks=[], ylim=(-2.6, 0.6))
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "dwell.png", dpi=110)
