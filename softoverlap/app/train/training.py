"""Training: patches, gradient steps, and a checkpoint from which a run can continue."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.app.train._old import (
    LesionDetector,
    build_detector,
    read_checkpoint,
    restored,
    save_checkpoint,
)
from softoverlap.app.train.config import TrainingConfig, pick_device
from softoverlap.app.train.patches import PatchSampler
from softoverlap.app.train.scans import (
    TrainingScan,
    common_axes,
    fit_intensity,
    median_spacing,
    zoom,
    zoom_factor,
    zoom_lesion,
    zoom_size,
)
from softoverlap.app.train.schedule import Progress, learning_rate

_MAY_CHANGE = ("steps", "max_minutes", "save_seconds")


def train(
    scans: Sequence[TrainingScan],
    config: TrainingConfig | None = None,
    *,
    device: str | torch.device = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> LesionDetector:
    """Train a lesion detector on scans with soft lesions.

    All scans stay in memory, resampled to one spacing. Batches depend on seed and step alone, so
    a resumed run on the CPU ends with the weights of an uninterrupted one, as long as the time
    limit cuts neither short.

    Args:
        scans: Scans with their lesions; scans without lesions count.
        config: Settings; by default `TrainingConfig()`.
        device: Where to train; see `pick_device`.
        checkpoint: File to write every `config.save_seconds` and at the end.
        resume: Go on from `checkpoint`, with the same scans and settings; only `steps`,
            `max_minutes` and `save_seconds` may differ. Without such a file the run starts anew.
        overwrite: Start anew where there is such a file; it stays until the first new one is whole.
        progress: Called after every step. If it raises `KeyboardInterrupt`, the checkpoint is
            written first; within a step, where nothing is whole, the last one stays.

    Returns:
        The trained detector, in evaluation mode.

    Raises:
        FileExistsError: If there is a checkpoint, and `resume` and `overwrite` are False.
        ValueError: If there is no scan, the resumed run does not fit, or the training diverges.
        KeyboardInterrupt: If `progress` raised it, with the checkpoint that is kept.

    References:
        Loshchilov and Hutter, Decoupled weight decay regularization,
        https://arxiv.org/abs/1711.05101
        Loshchilov and Hutter, SGDR, https://arxiv.org/abs/1608.03983 (cosine)

    Examples:
        >>> from softoverlap.phantoms import LesionPhantoms
        >>> from softoverlap.images import Volume
        >>> phantom = LesionPhantoms(0, count=1)[0]
        >>> scan = TrainingScan("one", Volume(phantom.image, phantom.affine), phantom.lesions)
        >>> config = TrainingConfig(patch_size=16, steps=1)
        >>> train([scan], config, device="cpu").spacing
        (1.0, 1.0, 1.5)
    """
    config = config or TrainingConfig()
    earlier = None if overwrite else checkpoint
    run = _start(scans, config, pick_device(device), earlier, resume)
    sampler = _sampler(scans, run.model)
    stopped = False
    while run.done < 1 and not stopped:
        state = run.advance(*sampler.batch(run.step))
        stopped = progress is not None and _is_stopped(progress, state)
        if checkpoint is not None and run.unsaved_seconds >= config.save_seconds:
            run.save(checkpoint)
    if checkpoint is not None:
        run.save(checkpoint)
    run.model.detector.eval()
    if stopped:
        kept = checkpoint and f"{checkpoint} is kept, and `resume=True` continues from it"
        raise KeyboardInterrupt(kept or "there is no checkpoint")
    return run.model


def _is_stopped(progress: Callable[[Progress], None], state: Progress) -> bool:
    """Report a step; whether Ctrl-C ends the run now that the step is whole."""
    try:
        progress(state)
    except KeyboardInterrupt:
        return True
    return False


class _Run:
    """The detector in training, its optimizer, and how far they are."""

    def __init__(self, model: LesionDetector, device: torch.device, names: list[str]) -> None:
        self.model, self.device, self.names = model, device, names
        model.detector.to(device).train()
        self.parameters = list(model.detector.network.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, weight_decay=model.config.weight_decay)
        self.step, self.seconds = 0, 0.0
        self.clock = self.saved = time.monotonic()

    @property
    def done(self) -> float:
        """Share of the steps or of the time that is over, whichever is more."""
        config = self.model.config
        of_time = 0.0 if config.max_minutes is None else self.seconds / (60 * config.max_minutes)
        return min(1.0, max(self.step / config.steps, of_time))

    @property
    def unsaved_seconds(self) -> float:
        return time.monotonic() - self.saved

    def advance(self, images: Tensor, targets: list[dict[str, Any]]) -> Progress:
        """One step of the optimizer."""
        config, rate = self.model.config, learning_rate(self.model.config, self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self._losses(images, targets)
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values(), torch.zeros((), device=self.device)).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, config.clip_norm)
        self.optimizer.step()
        self.step += 1
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        left = self.seconds / self.done * (1 - self.done)
        terms = {key: float(loss.detach()) for key, loss in losses.items()}
        return Progress(self.step, config.steps, self.done, self.seconds, left, rate, **terms)

    def _losses(self, images: Tensor, targets: list[dict[str, Any]]) -> dict[str, Tensor]:
        amp = self.model.config.amp and self.device.type == "cuda"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=amp):
                losses: Any = self.model.detector(images.to(self.device), targets)
        except ValueError as error:
            if "NaN" not in str(error):
                raise
            raise self._diverged("values") from error
        if not all(bool(torch.isfinite(loss)) for loss in losses.values()):
            raise self._diverged("losses")
        return losses

    def _diverged(self, what: str) -> ValueError:
        rate = self.model.config.learning_rate
        return ValueError(
            f"training must give finite {what}, got NaN or infinity at step {self.step}: lower "
            f"learning_rate ({rate:g}) or clip_norm ({self.model.config.clip_norm:g})"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Everything that `resume` needs."""
        save_checkpoint(
            path,
            self.model,
            optimizer=self.optimizer.state_dict(),
            step=self.step,
            seconds=self.seconds,
            scans=self.names,
        )
        self.saved = time.monotonic()


def _start(
    scans: Sequence[TrainingScan],
    config: TrainingConfig,
    device: torch.device,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
) -> _Run:
    if not scans:
        raise ValueError("scans must hold at least one scan to train on, got none")
    names, axes = [scan.name for scan in scans], common_axes(scans)
    if checkpoint is not None and Path(checkpoint).exists():
        if not resume:
            raise FileExistsError(
                f"checkpoint {checkpoint} must not exist yet: pass `resume=True` or remove it"
            )
        return _resumed(Path(checkpoint), config, device, names)
    spacing = config.spacing or median_spacing(scans)
    model = build_detector(config, spacing, fit_intensity(scans, config.intensity), axes=axes)
    return _Run(model, device, names)


def _resumed(path: Path, config: TrainingConfig, device: torch.device, names: list[str]) -> _Run:
    values = resumable(path, config, names)
    run = _Run(replace(restored(values, path), config=config), device, names)
    try:
        run.optimizer.load_state_dict(values["optimizer"])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"checkpoint {path} must hold the optimizer of its training, got: {error}"
        ) from error
    run.step, run.seconds = values["step"], values["seconds"]
    if run.done < 1:  # other weights, another threshold
        run.model = replace(run.model, score_threshold=None, threshold_rule=None)
    return run


def resumable(path: Path, config: TrainingConfig, names: list[str]) -> dict[str, Any]:
    """The content of the checkpoint, if these settings and scans can continue from it."""
    values = read_checkpoint(path)
    missing = [key for key in ("optimizer", "step", "seconds", "scans") if key not in values]
    if missing:
        raise ValueError(f"checkpoint {path} must be that of a training, but lacks {missing}")
    if values["scans"] != names:
        raise ValueError(
            f"checkpoint {path} must be resumed with the scans it was started with, "
            f"{len(values['scans'])} scans, got {len(names)} or other names"
        )
    stored_settings = restored(values, path).config.to_dict()
    settings = config.to_dict()
    for name, value in settings.items():
        if name not in _MAY_CHANGE and stored_settings[name] != value:
            raise refusal(name, f"must stay {stored_settings[name]} to resume {path}, got {value}")
    try:
        values["step"], values["seconds"] = int(values["step"]), float(values["seconds"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint {path} must hold the steps of its training, got: {error}"
        ) from error
    return values


def _sampler(scans: Sequence[TrainingScan], model: LesionDetector) -> PatchSampler:
    """Patches of the scans in the spacing and intensities of the detector."""
    images, lesions = [], []
    for scan in scans:
        factor = zoom_factor(scan.image.spacing, model.spacing)
        data = model.intensity(scan.image.data).cpu()
        images.append(zoom(data, factor, zoom_size(data.shape, factor)))
        lesions.append([zoom_lesion(lesion, factor) for lesion in scan.lesions])
    return PatchSampler(images, lesions, model.config)
