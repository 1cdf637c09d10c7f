"""How large the demo is, and the folder that it takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from softoverlap._checks import check_positive, refusal
from softoverlap.images import read_json, write_json

SETTINGS: Mapping[str, Any] = {"steps": 1500, "minutes": 4.0, "val_interval": 1000}
"""Settings of the training, by the names of `train.yaml`: validated once, when it ends."""

_MARKER, _STRIDE = "demo.json", 8


@dataclass(frozen=True)
class DemoOptions:
    """Size of the demo.

    Args:
        seed: Seed of phantoms, weights and patches, at least 0.
        train_scans: Phantoms to train on.
        test_scans: Unseen phantoms to judge by.
        validation_scans: Further unseen phantoms, to choose the score threshold on.
        overlays: Scans to draw.
        planned: Train with a plan of anchors, patches and sampling, as `softoverlap plan` makes it.
        settings: Settings of the training by the names of `train.yaml`, which follow the plan.

    Raises:
        ValueError: If a patch is no multiple of the stride of the network, or time is not above 0.

    Examples:
        >>> DemoOptions(seed=2).training["seed"]
        2
    """

    seed: int = 0
    train_scans: int = 64
    test_scans: int = 24
    validation_scans: int = 8
    overlays: int = 6
    planned: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(side < _STRIDE or side % _STRIDE for side in self.settings.get("patch_size", ())):
            patch = tuple(self.settings["patch_size"])
            raise refusal("patch_size", f"must be a multiple of {_STRIDE}, got {patch}")
        if (minutes := self.training["minutes"]) is not None:
            check_positive(minutes=minutes)

    @staticmethod
    def fast(seed: int = 0) -> DemoOptions:
        """A few scans and steps: enough to see every file, too little to find lesions."""
        settings = {"patch_size": [32, 32, 32], "batch_size": 2, "steps": 60, "epoch_steps": 30}
        return DemoOptions(
            seed, train_scans=6, test_scans=4, validation_scans=2, overlays=2, settings=settings
        )

    def with_training(self, **settings: Any) -> DemoOptions:
        """The same with other settings of the training; None leaves one as it is."""
        changes = {name: value for name, value in settings.items() if value is not None}
        return replace(self, settings={**self.settings, **changes})

    @property
    def training(self) -> dict[str, Any]:
        """All settings of the training that the demo gives."""
        return {**SETTINGS, **self.settings, "seed": self.seed}

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of a phantom: (96, 96, 64), and never less than a patch."""
        patch = self.settings.get("patch_size", (1, 1, 1))
        return tuple(max(a, b) for a, b in zip((96, 96, 64), patch, strict=True))


def claim(output: Path, options: DemoOptions, resume: bool) -> None:
    """Take the folder; clear what an earlier demo left, unless it shall be resumed."""
    marker = output / _MARKER
    if output.is_dir() and any(output.iterdir()) and not marker.exists():
        raise FileExistsError(f"output {output} must be empty or hold a demo, found other files")
    scans = [options.train_scans, options.validation_scans, options.test_scans]
    demo = {
        "seed": options.seed, "scans": scans, "shape": list(options.shape),
        "planned": options.planned,
    }  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    same_demo = marker.exists() and read_json(marker) == demo
    if resume and marker.exists() and not same_demo:
        raise ValueError(f"options must be those of the demo in {output} to resume it")
    if not resume:
        for name in ("checkpoint.pt", "metrics.json", "report.html"):
            (output / name).unlink(missing_ok=True)
        for name in ("detections", "overlays", "results"):
            shutil.rmtree(output / name, ignore_errors=True)
    if not same_demo:
        (output / "plan.json").unlink(missing_ok=True)
        shutil.rmtree(output / "phantoms", ignore_errors=True)
    write_json(marker, demo)
