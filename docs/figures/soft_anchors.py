"""Draws what the stored run of benchmarks/soft_anchors.py found: every seed, mean and interval.

Run it from the project's root: python docs/figures/soft_anchors.py
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
STORED = HERE.parents[1] / "benchmarks" / "results" / "soft_anchors.json"
COLORS = {
    "hard IoU": "#7f7f7f",
    "hard ATSS": "#1a1a1a",
    "soft": "#0072b2",
    "soft + IoU-aware": "#e69f00",
}
BETTER = {"Brier": "lower is better", "ECE": "lower is better"}


def panel(axes: Axes, name: str, arms: dict[str, dict]) -> None:
    """One measure: a row an arm, best arm readable at a glance."""
    for row, (arm, measures) in enumerate(arms.items()):
        one, color = measures[name], COLORS[arm]
        axes.plot(one["interval"], [row, row], color=color, linewidth=2)
        axes.plot(one["mean"], row, "o", color=color, markersize=7)
        axes.plot(one["seeds"], [row - 0.22] * len(one["seeds"]), "|", color=color, markersize=7)
    axes.set_title(f"{name} ({BETTER.get(name, 'higher is better')})", fontsize=10, loc="left")
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set_ylim(len(arms) - 0.5, -0.6)
    axes.grid(axis="x", color="#d9d9d9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def draw() -> Figure:
    """All measures of the stored run."""
    arms = json.loads(STORED.read_text())["arms"]
    names = list(next(iter(arms.values())))
    names.remove("found")
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True)
    for axes, name in zip(panels.flat, names, strict=True):
        panel(axes, name, arms)
    figure.supxlabel(
        "dot and line: mean over seeds, 95 % over seeds and scans; ticks: each seed", fontsize=9
    )
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "soft_anchors.png", dpi=130)
