"""Small lesions and lesion-wise losses; what makes a segmentation's lesions a detector's output.

Two small 3D U-Nets (MONAI's) are trained from each seed on `LesionScans`, with lesions of real
shapes where the data of Lesjak et al. (Neuroinformatics 2017) lie in ../shared/data/open_ms, else
of the phantoms' own. They share starts, scans, patches, steps and optimiser; the loss differs:

- DiceCE: `SoftDiceCELoss`;
- lesion-wise: `LesionwiseSoftLoss` as it is, Dice and cross-entropy in the cell of each lesion,
  beside the same of the whole patch.

Patients are split: training, validation, test. Lesions are cut at a probability of 0.3, whatever
the loss. What counts is the share of lesions below 30 mm³ that are found with 1 false positive a
scan (box IoU of at least 0.1), beside the mean soft Dice of the test scans: the losses' difference
from each seed, with the 95 % interval of its mean (Student's t). Lesions are ranked by the
calibrated score, since the highest probability ties at 1, and by the highest probability too.

The scores of lesions are compared on the U-Nets of the first loss: highest probability, mean, mass
above the background, Dice with the halo, and the calibrated score of the first three, as
`softoverlap calibrate` makes it of the validation scans. CPM from each seed; calibration error (ten
bins of equal mass) and Brier score of all test candidates together.

Run: python benchmarks/lesion_segmentation.py [--fast] [--workers 2]
About a quarter of an hour on two idle cores. A run that was stopped goes on: what is done lies in
runs/lesion_segmentation/, to be removed when the package changes.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from _measure import store, write_block
from monai.networks.nets import UNet
from monai.transforms import Compose, RandCropByPosNegLabeld, RandFlipd
from monai.utils import set_determinism
from scipy import stats
from torch import Tensor, nn

from softoverlap import (
    HaloDice,
    Lesion,
    LesionCalibration,
    LesionScans,
    LesionwiseSoftLoss,
    MassAboveBackground,
    MaxProbability,
    MeanProbability,
    SoftDiceCELoss,
    compute_soft_dice,
    lesion_candidates,
    lesion_target,
    lesions_from_mask,
    load_nifti,
    match_scan,
)
from softoverlap.images import read_json, write_json
from softoverlap.measures import BoxFROC
from softoverlap.phantoms import Phantom

SHAPES = Path(__file__).parents[2] / "shared/data/open_ms"
RUNS = Path("runs") / "lesion_segmentation"
PAGE = Path(__file__).parents[1] / "docs/lesion_losses.md"
MARKS = "<!-- study -->\n", "<!-- end of study -->"
PLAIN, LESIONWISE = "DiceCE", "lesion-wise"
LOSSES: dict[str, Callable[[], nn.Module]] = {
    PLAIN: lambda: SoftDiceCELoss(sigmoid=True),
    LESIONWISE: lambda: LesionwiseSoftLoss(SoftDiceCELoss(sigmoid=True)),
}
SCORES = {
    "maximum": MaxProbability(),
    "mean": MeanProbability(),
    "mass": MassAboveBackground(),
    "halo Dice": HaloDice(),
}
CALIBRATED, BINS = "calibrated", 10
RANKED = CALIBRATED, "maximum"
SMALL_FOUND = f"found, small, by {CALIBRATED}"
OF_THEM = "maximum", "mean", "mass"  # what `softoverlap calibrate` takes
SMALL, FALSE_POSITIVES = 30.0, 1.0  # mm³, a scan
SMALL_ONES = f"<{SMALL:g} mm³"
LARGEST, MOST_VOXELS = 32, 4000  # of a shape: voxels along an axis, and all of it


@dataclass(frozen=True)
class Settings:
    """All that the figures depend on; intensities in units of (image - 100) / 20.

    Steps, patches and learning rate were chosen on seed 100, the scores that the calibrated one
    takes on seeds 100 to 104, which are not reported.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    scans: tuple[int, ...] = (48, 24, 32)  # to train on, to validate, to test
    patients: tuple[int, ...] = (10, 4, 6)
    shape: tuple[int, ...] = (80, 80, 64)
    patch: int = 32
    channels: tuple[int, ...] = (8, 16, 32)
    batch: int = 4
    steps: int = 3000
    learning_rate: float = 0.01
    threshold: float = 0.3


FAST = Settings(
    seeds=(0, 1), scans=(12, 12, 4), shape=(48, 48, 32), patch=24, channels=(8, 16), steps=150,
    threshold=0.2,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="few steps: does the script run?")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    options = parser.parse_args()
    study = Study(RUNS / ("fast" if options.fast else "full"), FAST if options.fast else Settings())
    parts = [(loss, seed) for seed in study.settings.seeds for loss in LOSSES]
    afresh = multiprocessing.get_context("spawn")  # a fork may inherit a lock that nobody frees
    with ProcessPoolExecutor(options.workers, mp_context=afresh) as pool:
        runs = list(pool.map(study.run, *zip(*parts, strict=True)))
    figures = {
        "settings": asdict(study.settings),
        "shapes": "real" if SHAPES.exists() else "the phantoms' own",
        "losses": losses_beside(runs),
        "scores": scores_beside(runs),
        "runs": [{k: v for k, v in run.items() if k != "candidates"} for run in runs],
    }
    print(block(figures))
    if not options.fast:
        store("lesion_segmentation", "cpu", figures)
        write_block(PAGE, MARKS, block(figures))


@dataclass(frozen=True)
class Study:
    """The trainings, each made once and kept in a folder."""

    folder: Path
    settings: Settings

    def run(self, loss: str, seed: int) -> dict[str, Any]:
        """Train and judge one network, unless that is done."""
        path = self.folder / f"{loss}-{seed}.json"
        if not path.exists():
            torch.set_num_threads(1)
            training, *others = scans(self.settings, seed)
            weights = path.with_suffix(".pt")
            if not weights.exists():
                network = trained(LOSSES[loss](), training, self.settings, seed, path.stem)
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save(network.state_dict(), weights)
            network = network_of(self.settings)
            network.load_state_dict(torch.load(weights, weights_only=True))
            write_json(path, judged(network.eval(), *others, self.settings, loss, seed))
        return read_json(path)


def scans(settings: Settings, seed: int) -> list[list[tuple[str, Phantom]]]:
    """Scans to train on, to validate and to test, each with its patient; no patient is in two."""
    groups, start = [], 0
    shapes = list(real_shapes().items()) if SHAPES.exists() else None
    order = np.random.default_rng(seed).permutation(sum(settings.patients))
    for part, (count, patients) in enumerate(zip(settings.scans, settings.patients, strict=True)):
        chosen = order[start : start + patients]
        start += patients
        lesions = None if shapes is None else dict(shapes[number] for number in chosen)
        made = LesionScans(
            100 * seed + part, lesions, count=count, shape=settings.shape, spacing=(1.0, 1.0, 1.0)
        )
        groups.append([(made.patient(index), made[index]) for index in range(count)])
    return groups


def real_shapes() -> dict[str, list[Lesion]]:
    """Lesions of each patient, those left out that would fill much of a scan."""
    return {
        path.name.partition("_")[0]: [
            lesion
            for lesion in lesions_from_mask(load_nifti(path).data.float(), spacing=(1.0, 1.0, 1.0))
            if max(lesion.crop.shape) <= LARGEST and float(lesion.crop.sum()) <= MOST_VOXELS
        ]
        for path in sorted(SHAPES.glob("*_native1mm_consensus_gt.nii.gz"))
    }


def network_of(settings: Settings) -> UNet:
    """A network before its first step."""
    return UNet(3, 1, 1, settings.channels, (2,) * (len(settings.channels) - 1))


def trained(
    loss: nn.Module, scans: Sequence[tuple[str, Phantom]], settings: Settings, seed: int, what: str
) -> UNet:
    """A network after its steps; of one seed all begin alike and see the same patches."""
    set_determinism(seed)
    network = network_of(settings)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1
    )
    for step, (image, mask) in enumerate(patches(scans, settings, seed), 1):
        optimizer.zero_grad()
        value = loss(network(image), mask)
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{what}: {step}/{settings.steps}, loss {value.item():.3f}", flush=True)
    return network


def patches(
    scans: Sequence[tuple[str, Phantom]], settings: Settings, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of patches, two of three around a voxel of a lesion, in any flip."""
    keys = ["image", "mask"]
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)]
    crop = RandCropByPosNegLabeld(keys, "mask", (settings.patch,) * 3, pos=2, neg=1)
    transform = Compose([crop, *flips]).set_random_state(seed)
    order = np.random.default_rng(seed)
    for _ in range(settings.steps):
        items = [
            transform({"image": network_input(scan), "mask": scan.mask[None]})[0]
            for _, scan in (
                scans[number] for number in order.integers(len(scans), size=settings.batch)
            )
        ]
        yield tuple(torch.stack([item[key].as_tensor() for item in items]) for key in keys)


def network_input(scan: Phantom) -> Tensor:
    """The image with a channel, tissue at 0."""
    return (scan.image[None] - 100) / 20


def judged(
    network: nn.Module,
    validation: Sequence[tuple[str, Phantom]],
    test: Sequence[tuple[str, Phantom]],
    settings: Settings,
    loss: str,
    seed: int,
) -> dict[str, Any]:
    """How a network's lesions and probabilities are on the test scans."""
    seen, unseen = (Found.of(network, scans, settings) for scans in (validation, test))
    kept = [list(SCORES).index(name) for name in OF_THEM]
    calibration = LesionCalibration.fit(
        seen.features[:, kept], seen.hits, seen.patients,
        scores=[SCORES[name] for name in OF_THEM], threshold=settings.threshold,
    )  # fmt: skip
    scored = dict(zip(SCORES, unseen.features.unbind(1), strict=True))
    scored[CALIBRATED] = calibration.probabilities(unseen.features[:, kept])
    small = BoxFROC(fp_rates=(FALSE_POSITIVES,), size_edges=(SMALL,), size_of="mask", spacing=1.0)
    curves = {name: small.details(unseen.statistics(small, scored[name])) for name in RANKED}
    return {
        "loss": loss,
        "seed": seed,
        "soft_dice": unseen.soft_dice,
        "found": {
            name: {"all": one.sensitivity[0], "small": one.per_size[SMALL_ONES].sensitivity[0]}
            for name, one in curves.items()
        },
        "cpm": {
            name: BoxFROC().value(unseen.statistics(BoxFROC(), scores))
            for name, scores in scored.items()
        },
        "candidates": {
            "probability": scored[CALIBRATED].tolist(),
            "hit": unseen.hits.tolist(),
        },
    }


@dataclass(frozen=True)
class Found:
    """Candidates, what each hits, and the mean soft Dice of the scans that have lesions."""

    patients: list[str]
    features: Tensor
    hits: Tensor
    boxes: list[Tensor]
    targets: list[Mapping[str, Any]]
    soft_dice: float

    @classmethod
    def of(
        cls, network: nn.Module, scans: Sequence[tuple[str, Phantom]], settings: Settings
    ) -> Found:
        """Of these scans, one after the other."""
        patients, rows, hits, boxes, targets, dice = [], [], [], [], [], []
        for patient, scan in scans:
            with torch.no_grad():
                probabilities = network(network_input(scan)[None]).sigmoid()[0, 0]
            candidates = lesion_candidates(
                probabilities, spacing=scan.spacing, threshold=settings.threshold
            )
            patients += [patient] * len(candidates)
            rows += [[score(one) for score in SCORES.values()] for one in candidates]
            boxes.append(
                torch.stack([one.lesion.box for one in candidates])
                if candidates
                else torch.zeros(0, 6)
            )
            targets.append(lesion_target(scan.lesions))
            outcome = match_scan(prediction(boxes[-1], torch.ones(len(candidates))), targets[-1])
            hits += (outcome.outcome[:, 0, 0] >= 0).tolist()  # a second box on a lesion hits, too
            score = compute_soft_dice(probabilities[None, None], scan.mask[None, None])
            dice.append(float(score))
        return cls(
            patients,
            torch.tensor(rows, dtype=torch.float64).reshape(-1, len(SCORES)),
            torch.tensor(hits, dtype=torch.bool),
            boxes,
            targets,
            statistics.fmean(score for score in dice if not math.isnan(score)),
        )

    def statistics(self, measure: BoxFROC, scores: Tensor) -> Any:
        """The candidates with one of their scores, against the lesions."""
        each = scores.split([len(boxes) for boxes in self.boxes])
        return measure.statistics(list(map(prediction, self.boxes, each)), self.targets)


def prediction(boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
    """A scan's boxes under MONAI's keys."""
    label = torch.zeros(len(boxes), dtype=torch.int64)
    return {"box": boxes, "label": label, "label_scores": scores}


def losses_beside(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The lead of the lesion-wise loss from each seed, and the interval of its mean."""
    sides: dict[str, Callable[[Mapping[str, Any]], float]] = {
        "soft Dice": lambda run: run["soft_dice"]
    }
    for name in RANKED:
        sides |= {
            f"found, small, by {name}": lambda run, name=name: run["found"][name]["small"],
            f"found, all, by {name}": lambda run, name=name: run["found"][name]["all"],
            f"CPM by {name}": lambda run, name=name: run["cpm"][name],
        }
    made = {}
    for what, read in sides.items():
        plain, ours = ([read(run) for run in runs if run["loss"] == loss] for loss in LOSSES)
        leads = [a - b for a, b in zip(ours, plain, strict=True)]
        made[what] = {PLAIN: plain, LESIONWISE: ours, "lead": leads, "interval": interval(leads)}
    return made


def interval(values: Sequence[float]) -> list[float]:
    """95 % interval of the mean, by Student's t."""
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
    return [mean - reach, mean + reach]


def scores_beside(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """CPM of each score from each seed, and how well the calibrated one tells the share of hits."""
    plain = [run for run in runs if run["loss"] == PLAIN]
    probability, hit = (
        np.concatenate([run["candidates"][what] for run in plain])
        for what in ("probability", "hit")
    )
    bins = np.array_split(np.argsort(probability, kind="stable"), BINS)
    gaps = [len(rows) * abs(probability[rows].mean() - hit[rows].mean()) for rows in bins]
    return {
        "cpm": {name: [run["cpm"][name] for run in plain] for name in plain[0]["cpm"]},
        "candidates": len(hit),
        "calibration_error": float(sum(gaps) / len(hit)),
        "brier": float(np.square(probability - hit).mean()),
        "brier_of_a_constant": float(hit.mean() * (1 - hit.mean())),
    }


def block(figures: Mapping[str, Any]) -> str:
    """What stands between the marks of the page."""
    losses, scores = figures["losses"], figures["scores"]
    rows = [f"| what | {PLAIN} | {LESIONWISE} | lead, 95 % interval |", "| --- " * 4 + "|"]
    for what, one in losses.items():
        low, high = one["interval"]
        lead = f"{statistics.fmean(one['lead']):+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append(f"| {what} | {spread(one[PLAIN])} | {spread(one[LESIONWISE])} | {lead} |")
    rows += ["", "| score of a lesion | CPM |", "| --- " * 2 + "|"]
    rows += [f"| {name} | {spread(cpm)} |" for name, cpm in scores["cpm"].items()]
    return "\n".join(rows) + f"\n\n{textwrap.fill(words(figures), 110)}\n"


def words(figures: Mapping[str, Any]) -> str:
    """What the run says."""
    scores, seeds = figures["scores"], len(figures["settings"]["seeds"])
    cpm = scores["cpm"]
    above = {
        name: sum(a > b for a, b in zip(cpm[CALIBRATED], cpm[name], strict=True))
        for name in ("maximum", "mean")
    }
    small, dice = (told(figures["losses"][what]["interval"]) for what in (SMALL_FOUND, "soft Dice"))
    return (
        f"Means over {seeds} seeds, with the lowest and the highest; found is the share with "
        f"{FALSE_POSITIVES:g} false positive a scan, small ones have less than {SMALL:g} mm³. The "
        f"lead of the lesion-wise loss on small lesions {small}, that in soft Dice {dice}. "
        f"The CPM of the calibrated score was above that of the maximum from "
        f"{above['maximum']} of {seeds} seeds, and above that of the mean from {above['mean']}; "
        f"its calibration error was {scores['calibration_error']:.3f}, its Brier score "
        f"{scores['brier']:.3f}, where the share of hits for all alike has "
        f"{scores['brier_of_a_constant']:.3f} ({scores['candidates']} candidates)."
    )


def told(interval: Sequence[float]) -> str:
    """On which side of 0 an interval lies."""
    low, high = interval
    return "is above 0" if low > 0 else "is below 0" if high < 0 else "cannot be told from 0"


def spread(values: Sequence[float]) -> str:
    """The mean, with the lowest and the highest."""
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
