"""What the stored runs of the demo say, in words for the README."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

NOT_MEASURED = "On the phantoms of this version three seeds have not been measured yet."


def demo_words(stored: Mapping[str, Any]) -> str:
    """CPM with a plan and without one, and that of the baselines."""
    runs = stored.get("demo_seeds", {}).get("runs", [])
    planned, plain = ([run for run in runs if run.get("arm") == arm] for arm in _ARMS)
    if not (planned and plain):
        return NOT_MEASURED
    baselines = [value for run in runs for value in run["baselines_cpm"].values()]
    steps = _range([run["training_steps"] for run in planned], "d")
    text = (
        f"Over {len(planned)} seeds, each with {steps} steps, it was {_cpm(planned)}, without a "
        f"plan {_cpm(plain)}. An untrained network and a plain threshold reached at most "
        f"{max(baselines):.2f} ([stored run](benchmarks/results/demo_seeds.json))."
    )
    return textwrap.fill(text, 112, break_long_words=False, break_on_hyphens=False)


_ARMS = ("planned", "without a plan")


def _cpm(runs: Sequence[Mapping[str, Any]]) -> str:
    return _range([run["cpm"] for run in runs], ".2f")


def _range(values: Sequence[float], form: str) -> str:
    low, high = (format(pick(values), form) for pick in (min, max))
    return low if low == high else f"{low} to {high}"
