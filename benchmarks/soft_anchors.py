"""Hard against soft anchors: four detectors on phantoms with rater disagreement, several seeds.

The arms are settings of the bundle's train.yaml. They share network, scans, patches and optimizer,
and differ in the ways named, several at once: the study compares ways to work, and does not tell
which part of a way does what.

- hard IoU: box IoU thresholds (background below 0.3, positive from 0.5 on, the best anchor of a
  lesion always), every lesion counts 1;
- hard ATSS: ATSS on box IoU, every lesion counts 1;
- soft: ATSS on the mask-box Dice relative to the best attainable; the score learns the share of
  raters that marked the lesion, boxes are weighed by quality;
- soft + IoU-aware: the same, with a branch that learns the overlap q; detections are ranked and
  scored by √(p·q).

Each is judged on the same unseen scans: AP and FROC with a hit at IoU 0.1 or 0.5, the rank
correlation of a found lesion's score with the share of raters that marked it, and how well that
score is calibrated to the share (Brier score and expected calibration error, over the lesions found
at IoU 0.1; false positives are FROC's business, and would drown the rest). "found" is the share of
lesions that this is read from. Intervals are paired bootstraps over scans and seeds, 95 %.

Run: python benchmarks/soft_anchors.py [--device cuda] [--fast]
On two idle cores about half an hour; on a GPU the larger setting is taken. A run that was stopped
goes on: phantoms and finished trainings lie in runs/soft_anchors/, to be removed when the package
changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from _measure import store
from torch import Tensor

from softoverlap.app.train import LesionDetector, detect, train
from softoverlap.for_monai import lesion_target
from softoverlap.images import LoadedCase, Volume, find_cases, load_case, write_phantoms
from softoverlap.measures import BoxAP, BoxFROC, Outcomes, match_scan

SOFT_WEIGHTING = {
    "_target_": "softoverlap.anchors.AnchorWeighting",
    "target": "existence",
    "box_weight": "quality",
}
ARMS: dict[str, dict[str, Any]] = {
    "hard IoU": {
        "overlap": "box_iou",
        "matcher": {
            "_target_": "softoverlap.anchors.MaxOverlapMatcher",
            "low": 0.3,
            "high": 0.5,
        },
    },
    "hard ATSS": {"overlap": "box_iou"},
    "soft": {"weighting": SOFT_WEIGHTING},
    "soft + IoU-aware": {"weighting": SOFT_WEIGHTING, "iou_branch": True},
}
"""What each way changes in train.yaml, whose matcher is ATSS and whose positives all count 1."""

RUNS = Path("runs") / "soft_anchors"
UNSEEN, BINS, REPLICATES = 10_000, 10, {"fast": 20, "small": 1000, "large": 1000}


@dataclass(frozen=True)
class Setting:
    """How large the study is."""

    seeds: int = 5
    train_scans: int = 24
    test_scans: int = 32
    shape: tuple[int, int, int] = (64, 64, 48)
    config: dict[str, Any] = field(default_factory=lambda: config_of(32, 4, 1000))


def config_of(patch: int, batch: int, steps: int, *, amp: bool = False) -> dict[str, Any]:
    """What all arms change in train.yaml; no scan is held out, since others judge."""
    return {
        "patch_size": [patch] * 3, "batch_size": batch, "steps": steps, "amp": amp,
        "validation": 0, "workers": 0,
    }  # fmt: skip


SETTINGS = {
    "small": Setting(),
    "large": Setting(
        seeds=5,
        train_scans=64,
        test_scans=64,
        shape=(96, 96, 64),
        config=config_of(48, 4, 1500, amp=True),
    ),
    "fast": Setting(
        seeds=2,
        train_scans=2,
        test_scans=3,
        shape=(48, 48, 32),
        config=config_of(16, 1, 2),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--fast", action="store_true", help="two steps: does the script run?")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once on the CPU")
    options = parser.parse_args()
    gpu = options.device.startswith("cuda")
    name = "fast" if options.fast else "large" if gpu else "small"
    setting = SETTINGS[name]
    jobs = [(arm, seed, name, options.device) for seed in range(setting.seeds) for arm in ARMS]
    for seed in (*range(setting.seeds), UNSEEN):
        write_scans(seed, setting)
    begun = time.monotonic()
    afresh = multiprocessing.get_context("spawn")  # a fork may inherit a lock that nobody frees
    with ProcessPoolExecutor(1 if gpu else options.workers, mp_context=afresh) as pool:
        for number, (job, seconds) in enumerate(zip(jobs, pool.map(run, jobs), strict=True), 1):
            left = (time.monotonic() - begun) / number * (len(jobs) - number)
            print(
                f"{number}/{len(jobs)} {job[0]}, seed {job[1]}: {seconds:.0f} s, "
                f"{left / 60:.0f} min left",
                flush=True,
            )
    results = {arm: [read(arm, seed, name) for seed in range(setting.seeds)] for arm in ARMS}
    figures = {
        "setting": {"name": name, **asdict(setting)},
        "arms": compared(results, REPLICATES[name]),
    }
    print(table(figures["arms"]))
    if not options.fast:
        store("soft_anchors", options.device, figures)


def place(arm: str, seed: int, name: str) -> Path:
    """Where a finished training lies; another setting is another place."""
    digest = hashlib.blake2b(json.dumps(asdict(SETTINGS[name])).encode(), digest_size=4)
    return RUNS / f"{name}-{digest.hexdigest()}" / f"{arm.replace(' ', '_')}-{seed}.json"


def read(arm: str, seed: int, name: str) -> list[dict]:
    return json.loads(place(arm, seed, name).read_text())["scans"]


def run(job: tuple[str, int, str, str]) -> float:
    """Train and judge one arm at one seed, unless that is done; the seconds it took."""
    arm, seed, name, device = job
    path = place(arm, seed, name)
    if path.exists():
        return json.loads(path.read_text())["seconds"]
    if device == "cpu":
        torch.set_num_threads(1)
    start, setting = time.monotonic(), SETTINGS[name]
    model = trained(arm, seed, setting, device)
    rows = [judged(model, load_case(case)) for case in find_cases(scans(UNSEEN, setting)).cases]
    seconds = time.monotonic() - start
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps({"seconds": seconds, "scans": rows}))
    unfinished.replace(path)
    return seconds


def scans(seed: int, setting: Setting) -> Path:
    """Where the phantoms of this seed lie."""
    return RUNS / "phantoms" / f"{seed}-{'x'.join(map(str, setting.shape))}"


def write_scans(seed: int, setting: Setting) -> None:
    """Write the phantoms of a training, or those that judge all of them."""
    count = setting.test_scans if seed == UNSEEN else setting.train_scans
    write_phantoms(scans(seed, setting), count, seed, shape=setting.shape)


def trained(arm: str, seed: int, setting: Setting, device: str) -> LesionDetector:
    """A detector of this arm, trained as the command does; for a seed all begin alike."""
    settings = {**setting.config, **ARMS[arm], "seed": seed}
    with tempfile.TemporaryDirectory() as output:
        return train(scans(seed, setting), output, settings=settings, device=device, at=0.5).model


def judged(model: LesionDetector, case: LoadedCase) -> dict:
    """What a scan's boxes are worth: scores, outcomes at both hit criteria, agreement."""
    found = detect(model, Volume(case.image, case.affine)).prediction
    target = lesion_target(case.lesions)
    outcomes = {f"{iou}": match_scan(found, target, threshold=iou) for iou in (0.1, 0.5)}
    taken = outcomes["0.1"].lesion[:, 0, 0]
    existence = torch.tensor([lesion.existence for lesion in case.lesions] + [0.0])
    return {
        "agreement": existence[taken].tolist(),  # -1, no lesion, is the last: 0
        "outcomes": {iou: record.as_dict() for iou, record in outcomes.items()},
    }


def froc_of(scans: list[dict]) -> float:
    return BoxFROC(weight=None).value(outcomes_of(scans, "0.1"))


def precision_of(scans: list[dict], iou: str) -> float:
    return BoxAP().value(outcomes_of(scans, iou))


def outcomes_of(scans: list[dict], iou: str) -> list[Outcomes]:
    """The record of each scan; read once, since scans are drawn often."""
    for scan in scans:
        read = scan.setdefault("read", {})
        if iou not in read:
            read[iou] = Outcomes.from_dict(scan["outcomes"][iou])
    return [scan["read"][iou] for scan in scans]


def rated(scans: list[dict]) -> tuple[Tensor, Tensor]:
    """Scores of the found lesions, and the share of raters that marked each."""
    boxes = Outcomes.joined(outcomes_of(scans, "0.1"))
    agreement = [share for scan in scans for share in scan["agreement"]]
    hits = boxes.outcome[:, 0, 0] == 1
    return boxes.scores[hits], boxes.scores.new_tensor(agreement)[hits]


def found_of(scans: list[dict]) -> float:
    """Share of the lesions that some box hits, whatever its score."""
    lesions = sum(len(record.lesion_boxes) for record in outcomes_of(scans, "0.1"))
    return len(rated(scans)[0]) / lesions if lesions else math.nan


def rank_correlation(scans: list[dict]) -> float:
    """Spearman's, of the found lesions' scores and the share of raters that marked them."""
    a, b = (mean_ranks(values) for values in rated(scans))
    a, b = a - a.mean(), b - b.mean()
    spread = (a.norm() * b.norm()).item()
    return (a @ b).item() / spread if spread else math.nan


def mean_ranks(values: Tensor) -> Tensor:
    """Ranks, equal values sharing their mean."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def brier(scans: list[dict]) -> float:
    score, agreement = rated(scans)
    return (score - agreement).square().mean().item() if len(score) else math.nan


def calibration_error(scans: list[dict]) -> float:
    """Expected calibration error over bins of equal width."""
    score, agreement = rated(scans)
    if not len(score):
        return math.nan
    bins = (score * BINS).long().clamp(max=BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, score - agreement)
    return (gap.abs().sum() / len(score)).item()


MEASURES: dict[str, Callable[[list[dict]], float]] = {
    "AP@0.1": lambda scans: precision_of(scans, "0.1"),
    "AP@0.5": lambda scans: precision_of(scans, "0.5"),
    "CPM": froc_of,
    "found": found_of,
    "rank correlation": rank_correlation,
    "Brier": brier,
    "ECE": calibration_error,
}


def compared(results: dict[str, list[list[dict]]], replicates: int) -> dict[str, dict]:
    """Each arm's measures: every seed, mean, interval, and that of its lead on hard ATSS."""
    seeds, count = len(results["hard ATSS"]), len(results["hard ATSS"][0])
    generator = torch.Generator().manual_seed(0)
    draws = [
        (
            torch.randint(seeds, (seeds,), generator=generator).tolist(),
            torch.randint(count, (count,), generator=generator).tolist(),
        )
        for _ in range(replicates)
    ]
    figures: dict[str, dict] = {arm: {} for arm in ARMS}
    for name, measure in MEASURES.items():
        samples = {arm: torch.tensor(resampled(results[arm], measure, draws)) for arm in ARMS}
        for arm in ARMS:
            each = [measure(scans) for scans in results[arm]]
            figures[arm][name] = {
                "seeds": each,
                "mean": sum(each) / len(each),
                "interval": interval(samples[arm]),
                "lead_on_hard_atss": interval(samples[arm] - samples["hard ATSS"]),
            }
        print(f"  {name} done", file=sys.stderr, flush=True)
    return figures


def resampled(
    results: list[list[dict]],
    measure: Callable[[list[dict]], float],
    draws: list[tuple[list[int], list[int]]],
) -> list[float]:
    """The mean over drawn seeds on drawn scans, the same draws for all arms."""
    return [
        sum(measure([results[seed][k] for k in scans]) for seed in seeds) / len(seeds)
        for seeds, scans in draws
    ]


def interval(samples: Tensor) -> list[float]:
    samples = samples[~samples.isnan()].double()
    return samples.quantile(samples.new_tensor([0.025, 0.975])).tolist() if len(samples) else []


def table(figures: dict[str, dict]) -> str:
    """Markdown: mean and interval; a lead on hard ATSS whose interval leaves 0 out is marked."""
    lines = [f"| arm | {' | '.join(MEASURES)} |", "|" + " --- |" * (1 + len(MEASURES))]
    for arm, measures in figures.items():
        cells = [cell(measures[name]) for name in MEASURES]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(one: dict) -> str:
    low, high = one["interval"] or (math.nan, math.nan)
    lead = one["lead_on_hard_atss"]
    mark = " *" if lead and lead[0] * lead[1] > 0 else ""
    return f"{one['mean']:.3f} ({low:.3f} to {high:.3f}){mark}"


if __name__ == "__main__":
    main()
