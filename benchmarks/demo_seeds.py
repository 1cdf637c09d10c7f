"""The demo at three seeds, with a plan and without: CPM and AP on unseen phantoms, two baselines.

Run: python benchmarks/demo_seeds.py   (six trainings of at most 4 minutes, with all around them
less than an hour on two cores)

A run that is interrupted goes on: what is done is kept in the folder of --runs, by default
runs/demo_seeds. With --steps each training has so many steps, however long they take, so that it
can be compared on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command sets it, before torch

from _measure import arguments, store

from softoverlap.app.demo import DemoOptions, run_demo
from softoverlap.images import read_json

SEEDS = (0, 1, 2)
ARMS = {"planned": True, "without a plan": False}
NUMBERS = ("cpm", "ap@0.1", "ap@0.5")
WITHOUT_PLAN, MOST_BASELINE = (0.5, 0.8), 0.2
"""Where the CPM without a plan shall lie, and below what the baselines'."""


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo_seeds"))
    parser.add_argument("--steps", type=int)
    own, sys.argv[1:] = parser.parse_known_args()
    device = arguments(__doc__ or "").device
    runs = [
        one_run(own.runs / f"{arm.split()[0]}-{seed}", seed, arm, own.steps, device)
        for seed in SEEDS
        for arm in ARMS
    ]
    spread = {
        arm: {name: spread_of(run[name] for run in runs if run["arm"] == arm) for name in NUMBERS}
        for arm in ARMS
    }
    store("demo_seeds", device, {"spread": spread, "runs": runs})
    print(spread)
    missed = list(misses(runs))
    sys.exit("; ".join(missed) if missed else 0)


def one_run(folder: Path, seed: int, arm: str, steps: int | None, device: str) -> dict:
    """The numbers of one demo, made now or kept from an earlier call."""
    options = DemoOptions(seed=seed, planned=ARMS[arm])
    if steps is not None:
        options = replace(options, settings={"steps": steps, "minutes": None})
    if not (folder / "metrics.json").exists():
        run_demo(folder, options, device=device, resume=(folder / "demo.json").exists(), say=print)
    made = {"arm": arm, **summary(read_json(folder / "metrics.json"))}
    print(made, flush=True)
    return made


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
        "stopped_by": training["stopped_by"],
    }


def spread_of(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    return {
        "mean": statistics.fmean(values),
        "stdev": statistics.stdev(values),
        "min": min(values),
        "max": max(values),
    }


def misses(runs: list[dict]) -> Iterable[str]:
    """What is not as phantoms that stand for real scans should make it."""
    by_seed = {(run["seed"], run["arm"]): run["cpm"] for run in runs}
    for run in runs:
        which, plain = f"seed {run['seed']}, {run['arm']}", by_seed[run["seed"], "without a plan"]
        if max(run["baselines_cpm"].values()) >= MOST_BASELINE:
            yield f"{which}: a baseline reaches {max(run['baselines_cpm'].values()):.2f}"
        if run["arm"] == "planned" and run["cpm"] <= plain:
            yield f"{which}: CPM {run['cpm']:.2f}, not above {plain:.2f} without a plan"
        low, high = WITHOUT_PLAN
        if run["arm"] != "planned" and not low <= run["cpm"] <= high:
            yield f"{which}: CPM {run['cpm']:.2f}, not from {low} to {high}"


if __name__ == "__main__":
    main()
