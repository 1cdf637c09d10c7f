"""Does a calibrated score rank the lesions of a segmentation better than its maximum or its mean?

A 3D U-Net (MONAI's) is trained on patches of phantoms to segment the raters' mean, from several
seeds. Its maps of validation and test scans are cut at one low threshold; each lesion of a map is a
candidate, scored in four ways. A `LesionCalibration` of all four is fitted to the candidates of the
validation scans. On the test scans, which neither network nor calibration has seen, every score has
its CPM, and the calibrated one its Brier score and its calibration error in ten bins of as many
candidates each. All by the one rule of hits, box IoU >= 0.1.

Run: python benchmarks/lesion_scores.py [--fast]
A run that was stopped goes on: finished seeds lie in runs/lesion_scores/, to be removed when the
package changes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _measure import store
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets import UNet
from monai.utils import set_determinism
from torch import Tensor

from softoverlap import (
    HaloDice,
    LesionCalibration,
    LesionCandidate,
    LesionPhantoms,
    MassAboveBackground,
    MaxProbability,
    MeanProbability,
    SoftDiceCELoss,
    compute_froc,
    lesion_candidates,
    match_scan,
)
from softoverlap.phantoms import Phantom

FOLDER = Path("runs/lesion_scores")
SCORES = {
    "maximum": MaxProbability(),
    "mean": MeanProbability(),
    "mass": MassAboveBackground(),
    "dice": HaloDice(),
}


@dataclass(frozen=True)
class Settings:
    """All that the figures depend on; intensities in units of (image - 100) / 20.

    Scans of seed s are those of phantom seed s to train on, 1000 + s to calibrate and 2000 + s to
    test.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    training_scans: int = 60
    validation_scans: int = 60
    test_scans: int = 120
    shape: tuple[int, ...] = (96, 96, 64)
    patch: int = 40
    channels: tuple[int, ...] = (16, 32, 64)
    batch: int = 4
    steps: int = 1500
    learning_rate: float = 0.003
    threshold: float = 0.2


FAST = Settings(
    seeds=(0,), training_scans=3, validation_scans=6, test_scans=3, shape=(48, 48, 32), patch=24,
    channels=(4, 8), batch=2, steps=40,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """The candidates of a scan with their scores, and the boxes of its true lesions."""

    candidates: list[LesionCandidate]
    features: Tensor
    truth: dict[str, Tensor]

    def prediction(self, scores: Tensor) -> dict[str, Tensor]:
        """The boxes with these scores, as FROC takes them."""
        boxes = [one.lesion.box for one in self.candidates]
        box = torch.stack(boxes) if boxes else torch.zeros(0, 6)
        return {"box": box, "label": torch.zeros(len(box)), "label_scores": scores}

    @property
    def hits(self) -> Tensor:
        """Which candidates hit a lesion."""
        outcomes = match_scan(self.prediction(torch.zeros(len(self.candidates))), self.truth)
        return ~outcomes.false_positive


def scans(seed: int, count: int, settings: Settings) -> Iterator[Phantom]:
    """Simulated scans."""
    phantoms = LesionPhantoms(seed, count=count, shape=settings.shape)
    return (phantoms[index] for index in range(count))


def trained(seed: int, settings: Settings) -> UNet:
    """The network after its steps, on patches of which half lie around a lesion."""
    set_determinism(seed)
    net = UNet(
        spatial_dims=3, in_channels=1, out_channels=1, channels=settings.channels,
        strides=(2,) * (len(settings.channels) - 1), num_res_units=1, norm="batch",
    )  # fmt: skip
    data = list(scans(seed, settings.training_scans, settings))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps
    )
    loss_function = SoftDiceCELoss(sigmoid=True, batch=True)
    for _ in range(settings.steps):
        parts = [
            patch(data, number % 2 == 0, settings, generator) for number in range(settings.batch)
        ]
        images, masks = (torch.stack(each)[:, None] for each in zip(*parts, strict=True))
        optimizer.zero_grad()
        loss_function(net(images), masks).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def patch(
    data: Sequence[Phantom], on_lesion: bool, settings: Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Image and mask of a patch at a random place, or one around a lesion."""
    scan = data[_below(len(data), generator)]
    places = [_below(edge - settings.patch + 1, generator) for edge in settings.shape]
    if on_lesion and scan.lesions:
        centre = scan.lesions[_below(len(scan.lesions), generator)].centre
        shift = torch.randint(
            -settings.patch // 4, settings.patch // 4 + 1, (3,), generator=generator
        )
        wanted = (centre - settings.patch / 2).round().long() + shift
        most = torch.tensor(settings.shape) - settings.patch
        places = wanted.clamp(min=0).minimum(most).tolist()
    window = tuple(slice(start, start + settings.patch) for start in places)
    return normalised(scan.image[window]), scan.mask[window]


def normalised(image: Tensor) -> Tensor:
    """Intensities around 0."""
    return (image - 100) / 20


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


@torch.no_grad()
def found_in(scan: Phantom, net: UNet, settings: Settings) -> Found:
    """The candidates of the network's map."""
    logits = sliding_window_inference(
        normalised(scan.image)[None, None], (settings.patch,) * 3, 4, net, overlap=0.5,
        mode="gaussian",
    )  # fmt: skip
    assert isinstance(logits, Tensor)
    candidates = lesion_candidates(
        logits.sigmoid()[0, 0], spacing=scan.spacing, threshold=settings.threshold
    )
    rows = [[score(one) for score in SCORES.values()] for one in candidates]
    boxes = [lesion.box for lesion in scan.lesions]
    box = torch.stack(boxes) if boxes else torch.zeros(0, 6)
    truth = {"box": box, "label": torch.zeros(len(box))}
    features = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(SCORES))
    return Found(candidates, features, truth)


def run(seed: int, settings: Settings) -> dict[str, Any]:
    """Figures of one network."""
    net = trained(seed, settings)
    validation, tests = (
        [found_in(scan, net, settings) for scan in scans(start + seed, count, settings)]
        for start, count in ((1000, settings.validation_scans), (2000, settings.test_scans))
    )
    patients = [number for number, scan in enumerate(validation) for _ in scan.candidates]
    calibration = LesionCalibration.fit(
        torch.cat([scan.features for scan in validation]),
        torch.cat([scan.hits for scan in validation]),
        patients, scores=tuple(SCORES.values()), threshold=settings.threshold,
    )  # fmt: skip
    columns = {
        **{name: [scan.features[:, k] for scan in tests] for k, name in enumerate(SCORES)},
        "calibrated": [calibration.probabilities(scan.features) for scan in tests],
    }
    targets = [scan.truth for scan in tests]
    cpm = {
        name: compute_froc(
            [scan.prediction(own) for scan, own in zip(tests, scores, strict=True)], targets
        ).cpm
        for name, scores in columns.items()
    }
    unseen = replace(  # the same figures, of the test scans in place of those out of fold
        calibration,
        out_of_fold=tuple(torch.cat(columns["calibrated"]).tolist()),
        hits=tuple(torch.cat([scan.hits for scan in tests]).tolist()),
    )
    return {
        "cpm": cpm,
        "candidates": len(unseen.hits),
        "hits": sum(unseen.hits),
        "brier": unseen.brier,
        "calibration_error": unseen.calibration_error,
        "out_of_fold": {"brier": calibration.brier, "error": calibration.calibration_error},
        "weights": dict(zip(SCORES, calibration.weights, strict=True)),
    }


def study(settings: Settings, folder: Path | None) -> dict[str, Any]:
    """Every seed, those that are in the folder read from there; prints as it goes."""
    runs = {}
    for seed in settings.seeds:
        place = None if folder is None else folder / f"seed_{seed}.json"
        if place is not None and place.exists():
            runs[seed] = json.loads(place.read_text())
        else:
            runs[seed] = run(seed, settings)
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(json.dumps(runs[seed], indent=2))
        cpm = ", ".join(f"{name} {value:.3f}" for name, value in runs[seed]["cpm"].items())
        print(f"seed {seed}: CPM {cpm}; calibration error {runs[seed]['calibration_error']:.3f}")
    best = {name: [one["cpm"][name] for one in runs.values()] for name in (*SCORES, "calibrated")}
    plain = zip(best["calibrated"], best["maximum"], best["mean"], strict=True)
    return {
        "settings": asdict(settings),
        "mean_cpm": {name: statistics.mean(values) for name, values in best.items()},
        "seeds_above_maximum_and_mean": sum(own > max(others) for own, *others in plain),
        "runs": runs,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a few steps, nothing is stored")
    fast = parser.parse_args().fast
    torch.set_num_threads(1)
    figures = study(FAST if fast else Settings(), None if fast else FOLDER)
    if not fast:
        store("lesion_scores", "cpu", figures)
