"""The demo at three seeds: CPM and AP on unseen phantoms, beside two baselines.

Run: python benchmarks/demo_seeds.py   (three trainings of at most 4.5 minutes)
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command sets it, before torch

from _measure import arguments, store

from softoverlap.app.demo import DemoOptions, run_demo

SEEDS = (0, 1, 2)
LEAST_CPM, MOST_BASELINE = 0.75, 0.3
NUMBERS = ("cpm", "ap@0.1", "ap@0.5")


def main() -> None:
    device = arguments(__doc__ or "").device
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            result = run_demo(Path(folder) / "demo", DemoOptions(seed=seed), device=device)
        runs.append(summary(dict(result.metrics)))
        print(runs[-1], flush=True)
    spread = {name: spread_of([run[name] for run in runs]) for name in NUMBERS}
    store("demo_seeds", device, {"spread": spread, "runs": runs})
    print(spread)
    sys.exit(0 if all(map(meets_goal, runs)) else "a seed missed the goal")


def summary(metrics: dict) -> dict:
    """The numbers of one demo that are worth keeping."""
    training = metrics["training"]
    return {
        "seed": metrics["seed"],
        **{name: metrics[name] for name in NUMBERS},
        "sensitivity": metrics["sensitivity"],
        "scans": metrics["scans"],
        "lesions": metrics["lesions"],
        "baselines_cpm": {name: one["cpm"] for name, one in metrics["baselines"].items()},
        "training_steps": training["steps"],
        "training_seconds": training["seconds"],
    }


def spread_of(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "stdev": statistics.stdev(values),
        "min": min(values),
        "max": max(values),
    }


def meets_goal(run: dict) -> bool:
    return run["cpm"] >= LEAST_CPM and max(run["baselines_cpm"].values()) < MOST_BASELINE


if __name__ == "__main__":
    main()
