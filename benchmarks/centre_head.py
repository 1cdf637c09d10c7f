"""Does a head without anchors find more small lesions than planned anchors, at the same cost?

Two detectors on the demo's phantoms, from several seeds. Both are settings of the bundle's
train.yaml, with the plan of `softoverlap plan`, and share scans, patches, augmentation, optimiser,
schedule and the pyramid of `lesion_retinanet`:

- planned anchors: the bundle as it is, a head for each level of the plan;
- centre head: `head: centre`, heads on the finest level alone, with one place a cell
  (`softoverlap.CentreDetector`).

What a step costs is measured first, in turns, on a batch of the training; the centre head then
trains for as many steps as take as long as those of the planned anchors, and once more for no more
steps than they. All are judged on the same unseen scans with the one rule of hits, box IoU >= 0.1.
Small lesions are those below 100 mm³, and what counts is the share of them that is found with 1
false positive a scan: the centre head finds more if that share is larger from every seed, at the
same cost. Its loss was chosen on other phantoms, those of seed 100, where `QualityFocalLoss` on the
same heat map found no more of the small ones.

Run: python benchmarks/centre_head.py [--fast] [--workers 2]
A run that was stopped goes on: what is done lies in runs/centre_head/, to be removed when the
package changes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import textwrap
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from _measure import seconds, store, write_block
from monai.bundle import ConfigParser
from torch import Tensor, nn

from softoverlap.app.train import (
    LesionDetector,
    TrainingRun,
    detect,
    evaluate,
    load_checkpoint,
    plan_scans,
    scan_facts,
    scan_target,
    training_config,
)
from softoverlap.for_monai import prepare_lesion_batch
from softoverlap.images import (
    Volume,
    find_cases,
    load_case,
    read_json,
    write_json,
    write_phantoms,
)
from softoverlap.measures import BoxFROC

PLANNED, CENTRE = "planned anchors", "centre head"
HEADS: dict[str, dict[str, Any]] = {PLANNED: {}, CENTRE: {"head": "centre"}}
"""What each changes in train.yaml."""

AS_MANY = f"{CENTRE}, as many steps"
ARMS = {PLANNED: PLANNED, CENTRE: CENTRE, AS_MANY: CENTRE}
"""The head of each arm."""

UNSEEN = 1_000_000  # added to the seed, as in the demo
SMALL, CLASSES = 100.0, (10.0, 100.0, 1000.0)  # mm³; the classes are the plan's
SMALL_ONES = f"<{SMALL:g} mm³"
RUNS = Path("runs") / "centre_head"
PAGE = Path(__file__).parents[1] / "docs/planning.md"
MARKS = "<!-- centre -->\n", "<!-- end of centre -->"


@dataclass(frozen=True)
class Settings:
    """How large the study is; scans to train on and their shape are the demo's."""

    seeds: tuple[int, ...] = (0, 1, 2)
    train_scans: int = 64
    test_scans: int = 48
    shape: tuple[int, ...] = (96, 96, 64)
    batch_size: int = 2
    steps: int = 400


FAST = Settings(seeds=(0,), train_scans=3, test_scans=2, shape=(48, 48, 32), steps=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="two steps: does the script run?")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(RUNS / ("fast" if options.fast else "full"), FAST if options.fast else Settings())
    for seed in study.settings.seeds:
        study.write_scans(seed)
        print(seed, study.cost(seed), flush=True)
    parts = [(arm, seed) for seed in study.settings.seeds for arm in ARMS]
    afresh = multiprocessing.get_context("spawn")  # a fork may inherit a lock that nobody frees
    with ProcessPoolExecutor(options.workers, mp_context=afresh) as pool:
        runs = list(pool.map(study.run, *zip(*parts, strict=True)))
    figures = {"settings": asdict(study.settings), "runs": runs}
    print(block(figures))
    if not options.fast:
        store("centre_head", "cpu", figures)
        write_block(PAGE, MARKS, block(figures))


@dataclass(frozen=True)
class Study:
    """The parts of a study, each made once and kept in a folder."""

    folder: Path
    settings: Settings

    def scans(self, seed: int) -> Path:
        """Where the phantoms of this seed lie."""
        return self.folder / "phantoms" / str(seed)

    def plan(self, seed: int) -> Path:
        """Where the plan of this seed lies."""
        return self.folder / f"plan-{seed}.json"

    def write_scans(self, seed: int) -> None:
        """Scans to train on, their plan, and scans to judge by."""
        each = {seed: self.settings.train_scans, seed + UNSEEN: self.settings.test_scans}
        for number, count in each.items():
            write_phantoms(self.scans(number), count, number, shape=self.settings.shape)
        if not self.plan(seed).exists():
            facts = [scan_facts(load_case(case)) for case in find_cases(self.scans(seed)).cases]
            write_json(self.plan(seed), plan_scans(facts).plan.to_dict())

    def values(self, head: str, seed: int) -> dict[str, Any]:
        """Settings of a training, but for its length; no scan is held out, since others judge."""
        return {
            "batch_size": self.settings.batch_size, "seed": seed, "validation": 0, "workers": 0,
            "pictures": 0, "tensorboard": False, **HEADS[head],
        }  # fmt: skip

    def cost(self, seed: int) -> dict[str, dict[str, float]]:
        """Parameters of each head, and seconds of a step and of a pass over a scan, in turns."""
        path = self.folder / f"cost-{seed}.json"
        if not path.exists():
            write_json(path, self._measured(seed))
        return read_json(path)

    def steps(self, arm: str, seed: int) -> int:
        """Steps of the training: the centre head's take as long as those of the anchors."""
        if arm != CENTRE:
            return self.settings.steps
        planned, centre = (self.cost(seed)[head]["step_seconds"] for head in (PLANNED, CENTRE))
        return round(self.settings.steps * planned / centre)

    def _measured(self, seed: int) -> dict[str, dict[str, float]]:
        parsers = {head: self._parser(head, seed) for head in HEADS}
        loader = parsers[PLANNED].get_parsed_content("train#dataloader")
        batch, targets, *_ = prepare_lesion_batch(next(iter(loader)))
        scan = load_case(find_cases(self.scans(seed + UNSEEN)).cases[0]).image[None, None]
        steps, passes, sizes = {}, {}, {}
        for head, parser in parsers.items():
            parser.get_parsed_content("detector_ops")
            network, detector = (parser.get_parsed_content(k) for k in ("network", "detector"))
            optimizer = parser.get_parsed_content("optimizer")
            steps[head] = partial(step, detector, optimizer, batch, targets)
            passes[head] = partial(look, detector, (scan - scan.mean()) / scan.std())
            sizes[head] = sum(weights.numel() for weights in network.parameters())
        of_step, of_pass = seconds(steps, "cpu"), seconds(passes, "cpu", repeats=3)
        return {
            head: {
                "parameters": sizes[head],
                "step_seconds": of_step[head],
                "scan_seconds": of_pass[head],
            }
            for head in HEADS
        }

    def _parser(self, head: str, seed: int) -> ConfigParser:
        values = {**self.values(head, seed), "cache_rate": 0.0}
        config = training_config(
            self.scans(seed), self.folder, plan=self.plan(seed), settings=values
        )
        config["device"] = "$torch.device('cpu')"
        parser = ConfigParser(config)
        parser.parse()
        return parser

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """Train and judge one arm from one seed, unless that is done."""
        path = self.folder / f"{arm.replace(',', '').replace(' ', '_')}-{seed}.json"
        if not path.exists():
            torch.set_num_threads(1)
            model, steps = self.trained(arm, seed, self.folder / path.stem)
            cost = self.cost(seed)[ARMS[arm]]
            made = {"arm": arm, "seed": seed, **cost, "steps": steps, **self.judged(model, seed)}
            write_json(path, made)
        print(read_json(path), flush=True)
        return read_json(path)

    def trained(self, arm: str, seed: int, output: Path) -> tuple[LesionDetector, int]:
        """The detector after its steps, and how many they were."""
        values = {**self.values(ARMS[arm], seed), "steps": self.steps(arm, seed)}
        run = TrainingRun(
            self.scans(seed), output, plan=self.plan(seed), settings=values, device="cpu"
        )
        going_on = run.folder.there() is not None
        run.claim(resume=going_on, overwrite=not going_on)
        if not run.is_finished():
            run.check()
            run.fit(partial(tell, f"{arm}, seed {seed}"))
        model = load_checkpoint(run.folder.checkpoint, device="cpu")
        return model, run.folder.training["steps"]

    def judged(self, model: LesionDetector, seed: int) -> dict[str, Any]:
        """How good it is on the unseen scans, of all sizes and of each."""
        cases = [load_case(case) for case in find_cases(self.scans(seed + UNSEEN)).cases]
        found = [detect(model, Volume(case.image, case.affine)).prediction for case in cases]
        targets = [scan_target(case) for case in cases]
        by_size = {}
        for edges in ((SMALL,), CLASSES):
            froc = BoxFROC(fp_rates=(1.0,), size_edges=edges, spacing="spacing", size_of="mask")
            curves = froc.details(froc.statistics(found, targets)).per_size
            by_size |= {
                name: {"lesions": one.lesions, "found": one.sensitivity[0]}
                for name, one in curves.items()
            }
        kept = ("cpm", "ap@0.1", "ap@0.5", "sensitivity", "scans", "lesions")
        summary = evaluate(found, targets).summary
        return {**{name: summary[name] for name in kept}, "by_size": by_size}


def step(detector: nn.Module, optimizer: torch.optim.Optimizer, images: Any, targets: Any) -> None:
    """A step of the training."""
    optimizer.zero_grad()
    torch.stack(list(detector.train()(images, targets).values())).sum().backward()
    optimizer.step()


@torch.no_grad()
def look(detector: nn.Module, image: Tensor) -> None:
    """A pass over a scan, window by window."""
    detector.eval()(image, use_inferer=True)


def tell(what: str, state: Any) -> None:
    """A line every twenty steps."""
    if state.step % 20 == 0:
        print(f"{what}: {state.step}/{state.steps}, loss {state.loss:.3f}", flush=True)


def block(figures: dict[str, Any]) -> str:
    """What stands between the marks of the page."""
    return f"{table(figures)}\n\n{textwrap.fill(words(figures), 110)}\n"


def table(figures: dict[str, Any]) -> str:
    """The arms as rows of Markdown: parameters and steps, and the mean over the seeds."""
    head = ("head", "10³ parameters", "steps", "CPM", "AP at 0.1", "found", f"found {SMALL_ONES}")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for arm in ARMS:
        runs = of(arm, figures)
        cells = [
            arm,
            between([run["parameters"] / 1000 for run in runs], ".0f"),
            between([run["steps"] for run in runs], ".0f"),
            mean([run["cpm"] for run in runs]),
            mean([run["ap@0.1"] for run in runs]),
            mean([run["sensitivity"]["1"] for run in runs]),
            mean([run["by_size"][SMALL_ONES]["found"] for run in runs]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def of(arm: str, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of one arm, seed by seed."""
    return [run for run in figures["runs"] if run["arm"] == arm]


def mean(values: Sequence[float]) -> str:
    """The mean, with the lowest and the highest."""
    return f"{statistics.fmean(values):.2f} ({between(values, '.2f')})"


def between(values: Sequence[float], form: str) -> str:
    """The lowest and the highest, or the one that all are."""
    low, high = (format(pick(values), form) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def leads(arm: str, figures: dict[str, Any]) -> list[float]:
    """By how much its share of small lesions found is above the anchors', from each seed."""
    found = {
        each: [run["by_size"][SMALL_ONES]["found"] for run in of(each, figures)]
        for each in (arm, PLANNED)
    }
    return [a - b for a, b in zip(found[arm], found[PLANNED], strict=True)]


def words(figures: dict[str, Any]) -> str:
    """What the run says."""
    lead, alike = leads(CENTRE, figures), leads(AS_MANY, figures)
    planned, centre = of(PLANNED, figures), of(CENTRE, figures)
    lesions = sum(run["lesions"] for run in planned)
    small = sum(run["by_size"][SMALL_ONES]["lesions"] for run in planned)
    step_share, scan_share = (
        between([a[what] / b[what] for a, b in zip(centre, planned, strict=True)], ".2f")
        for what in ("step_seconds", "scan_seconds")
    )
    verdict = "It does not find more of them from every seed."
    if min(lead) > 0:
        verdict = "At the same cost it finds more of them from every seed"
        verdict += (
            "." if min(alike) > 0 else ", by the steps that it saves: with as many it does not."
        )
    return (
        f"Means over {len(lead)} seeds, with the lowest and the highest; found is the share with 1 "
        f"false positive a scan, of {lesions} lesions and of the {small} small ones, each counted "
        f"by its existence. A step with the centre head takes {step_share} of the time, a pass "
        f"over a scan {scan_share}. Beside the planned anchors, the share of the small lesions "
        f"that it finds is {signed(lead)} seed by seed, and with no more steps {signed(alike)}. "
        f"{verdict}"
    )


def signed(values: Sequence[float]) -> str:
    """Each difference with its sign."""
    return ", ".join(f"{value:+.2f}" for value in values)


if __name__ == "__main__":
    main()
