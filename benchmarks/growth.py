"""How time and memory grow with voxels, boxes, lesions, scans and workers.

python benchmarks/growth.py             all sizes, to benchmarks/results/growth.json
python benchmarks/growth.py --quick     some curves of few sizes, to growth_quick.json beside it
python benchmarks/growth.py --only nms  the curves whose names hold a word

Every point is a fresh process with one thread. A curve is stored as soon as it ends, and a run
that was cut off goes on after the last one that was stored. `_fit.py` says how exponents are found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _cohorts
import _curves
import torch
from _curves import Curve
from _fit import fitted
from _fresh import Case, case_asked, in_process
from _measure import RESULTS, machine

CURVES = {**_curves.CURVES, **_cohorts.CURVES}
FULL = {
    "voxels": (32, 48, 64, 96, 128, 192, 256, 384),  # edges of a cube
    "boxes": (10, 100, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "lesions": (1, 2, 5, 10, 20, 50, 100, 200, 500),
    "scans": (10, 20, 50, 100, 200, 500, 1_000, 2_000),
    "workers": (1, 2),
}
QUICK = {
    "voxels": (32, 64, 96, 128),
    "boxes": (100, 10_000, 30_000, 100_000),
    "lesions": (1, 20, 50, 100),
    "scans": (10, 50, 100, 200),
}
QUICK_CURVES = (
    "SoftDiceLoss, forward + backward",
    "ExpectedDice, exact",
    "LesionwiseDice",
    "mask_box_dice on a mask of 128³",
    "box_iou with 100 boxes",
    "anchor_quality, 100,000 anchors",
    "match_scan, two boxes a lesion",
    "score: journal, tables, summary",
)
Measure = Callable[[str], Mapping[str, float]]
MEMORY_FLOOR = 2 * 2**20  # less is pages and pools

CASES: dict[str, Case] = {
    f"{name}, {size}": partial(curve.make, size)
    for name, curve in CURVES.items()
    for size in {*FULL[curve.axis], *QUICK.get(curve.axis, ())}
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", default=[""], help="words in the names of curves")
    options = parser.parse_args()
    names = [n for n in (QUICK_CURVES if options.quick else CURVES) if _has(n, options.only)]
    path = RESULTS / ("growth_quick.json" if options.quick else "growth.json")
    asked = {name: CURVES[name] for name in names}
    grow(path, QUICK if options.quick else FULL, asked, partial(in_process, __file__))


def _has(name: str, words: Sequence[str]) -> bool:
    return any(word in name for word in words)


def grow(
    path: Path,
    sizes: Mapping[str, tuple[int, ...]],
    asked: Mapping[str, Curve],
    measure: Measure,
) -> None:
    """Measure curves and store each as it ends; those that an unfinished run stored are kept.

    A run of some curves takes the place of those in a finished one, and leaves the others.
    """
    before = json.loads(path.read_text()) if path.exists() else {}
    goes_on = before.get("unfinished") == list(asked)
    curves: dict[str, Any] = before.get("curves", {})
    done = set(before.get("done", ())) if goes_on else set()
    for name, curve in asked.items():
        if name not in done:
            points = [size for size in sizes[curve.axis] if size <= curve.largest]
            curves[name] = _grown(name, curve, points, measure)
            done.add(name)
            _write(path, curves, {"unfinished": list(asked), "done": sorted(done)})
    _write(path, curves)


def _grown(name: str, curve: Curve, sizes: list[int], measure: Measure) -> dict[str, object]:
    """All points of a curve, and the exponents."""
    seconds, bytes_ = [], []
    for size in sizes:
        point = measure(f"{name}, {size}")
        seconds.append(point["best"])  # a busy machine disturbs it least
        bytes_.append(point["bytes"])
        print(
            f"{name}, {size:,} {curve.axis}: {point['best']:.4g} s, "
            f"{point['bytes'] / 2**20:,.0f} MiB",
            flush=True,
        )
    counts = [size**3 if curve.axis == "voxels" else size for size in sizes]
    figures: dict[str, Any] = {"axis": curve.axis, "sizes": sizes, "seconds": seconds}
    figures["time"] = fitted(counts, seconds, curve.time)
    if curve.memory is not None:
        figures["bytes"] = bytes_
        figures["memory"] = fitted(
            counts, bytes_, curve.memory, fixed_cost=False, floor=MEMORY_FLOOR
        )
    for what in ("time", "memory"):
        if "exponent" in (fit := figures.get(what, {})):
            words = "{exponent:.2f} ± {standard_error:.2f}, expected {expected:.2f}".format(**fit)
            print(f"  {what}: exponent {words}{' ABOVE' if fit['above'] else ''}", flush=True)
    return figures


def _write(path: Path, curves: dict[str, Any], state: Mapping[str, object] | None = None) -> None:
    """The file of the run, its curves in their order; those that are no more are left out."""
    ordered = {name: curves[name] for name in CURVES if name in curves}
    content = {"machine": machine("cpu"), **(state or {}), "curves": ordered}
    path.with_suffix(".part").write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".part").replace(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if not case_asked(CASES, least=0.2, most=3.0):
        main()
