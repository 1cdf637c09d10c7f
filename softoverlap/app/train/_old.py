"""The checkpoints of the training loop that the bundle replaces: to be deleted with it."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from softoverlap.anchors import AnchorWeighting
from softoverlap.app.train import checkpoint
from softoverlap.app.train.config import TrainingConfig, pick_device
from softoverlap.app.train.scans import Intensity
from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
from softoverlap.images import whole_file

_FORMAT = "softoverlap detector"
_VERSION = 1
_KEYS = ("config", "spacing", "intensity", "weights")
_BEFORE_NAMED = {"box_weight": "quality"}
"""Settings of checkpoints that were written before these had a name."""
_MISFITS = (TypeError, ValueError, KeyError, AttributeError, RuntimeError, OverflowError)


@dataclass(frozen=True, eq=False)
class LesionDetector:
    """A detector, and the spacing and intensities it works in.

    Args:
        detector: The network with its anchors and losses.
        config: Settings of its training.
        spacing: Voxel edges in mm, one an axis.
        intensity: Normalisation of intensities.
        axes: Where the voxel axes of the training's scans point, such as `"RAS"`, or None.
        score_threshold: Score from which on a box is a finding, or None; see `choose_threshold`.
        threshold_rule: How the threshold was chosen, such as `"f1 on 3 validation scans"`, or None.

    Examples:
        >>> model = build_detector(TrainingConfig(), (1.0, 1.0, 1.0), Intensity("scan"))
        >>> model.spacing
        (1.0, 1.0, 1.0)
    """

    detector: SoftRetinaNetDetector
    config: TrainingConfig
    spacing: tuple[float, ...]
    intensity: Intensity
    axes: str | None = None
    score_threshold: float | None = None
    threshold_rule: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.detector.network.parameters()).device


def build_detector(
    config: TrainingConfig,
    spacing: Sequence[float],
    intensity: Intensity,
    *,
    axes: str | None = None,
) -> LesionDetector:
    """A detector with fresh weights, the same for the same seed.

    Args:
        config: Settings of the training.
        spacing: Voxel edges in mm, one an axis.
        intensity: Normalisation of intensities.
        axes: Where the voxel axes of the training's scans point, such as `"RAS"`; see `axis_codes`.

    Returns:
        The detector on the CPU, in evaluation mode.

    Examples:
        >>> model = build_detector(TrainingConfig(), (1.0, 1.0, 1.0), Intensity("scan"))
        >>> model.detector.training
        False
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = lesion_retinanet(
            channels=config.channels,
            strides=(2,) * len(config.channels),
            feature_channels=config.feature_channels,
            anchor_sizes=config.anchor_sizes,
            iou_branch=config.iou_branch,
        )
    weighting = AnchorWeighting(target=config.score_target, box_weight=config.box_weight)
    detector = SoftRetinaNetDetector(network, weighting=weighting)
    detector.set_box_selector_parameters(
        score_thresh=config.score_threshold, nms_thresh=config.nms_threshold
    )
    detector.set_sliding_window_inferer(
        config.patch, sw_batch_size=4, overlap=config.window_overlap
    )
    return LesionDetector(detector.eval(), config, tuple(map(float, spacing)), intensity, axes)


def save_checkpoint(path: str | os.PathLike[str], model: LesionDetector, **more: Any) -> None:
    """Write a detector, whole or not at all.

    Args:
        path: The file; an existing one is replaced.
        model: The detector.
        more: What else shall be kept: tensors, numbers, strings, and lists and dicts of them.

    Raises:
        FileNotFoundError: If the folder does not exist.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
        >>> model = build_detector(TrainingConfig(seed=1), (1.0, 1.0, 2.0), Intensity("scan"))
        >>> save_checkpoint(path, model)
        >>> load_checkpoint(path, device="cpu").spacing
        (1.0, 1.0, 2.0)
    """
    values = {
        "format": _FORMAT,
        "version": _VERSION,
        "config": model.config.to_dict(),
        "spacing": list(model.spacing),
        "intensity": asdict(model.intensity),
        "axes": model.axes,
        "score_threshold": model.score_threshold,
        "threshold_rule": model.threshold_rule,
        "weights": model.detector.network.state_dict(),
        **more,
    }
    _save(path, values)


def _save(path: str | os.PathLike[str], values: dict[str, Any]) -> None:
    """Write the file, whole or not at all."""
    content = io.BytesIO()
    torch.save(values, content)  # into memory: on a full disk its own writer hides the cause
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.getbuffer())


def load_checkpoint(
    path: str | os.PathLike[str], *, device: str | torch.device = "auto"
) -> LesionDetector:
    """Read a detector; nothing in the file is executed.

    Args:
        path: A file of `save_checkpoint` or of a training.
        device: Where the detector shall work; see `pick_device`.

    Returns:
        The detector, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of this package, or its weights do not fit.

    Examples:
        >>> load_checkpoint("nothing.pt")
        Traceback (most recent call last):
        FileNotFoundError: checkpoint nothing.pt must be a file, found none
    """
    target = pick_device(device)
    model = restored(read_checkpoint(path), path)
    model.detector.to(target)
    return model


def restored(values: dict[str, Any], path: str | os.PathLike[str]) -> LesionDetector:
    """The detector of what `read_checkpoint` read, on the CPU."""
    try:
        model = _built(values)
    except _MISFITS as error:
        raise ValueError(
            f"checkpoint {path} must hold settings that fit this package, got: {_reason(error)}"
        ) from error
    try:
        model.detector.network.load_state_dict(values["weights"])
    except _MISFITS as error:
        raise ValueError(
            f"checkpoint {path} must hold weights that fit its config: {error}"
        ) from error
    return model


def _built(values: dict[str, Any]) -> LesionDetector:
    config = TrainingConfig.from_dict({**_BEFORE_NAMED, **values["config"]})
    spacing, axes = [float(edge) for edge in values["spacing"]], values.get("axes")
    if len(spacing) != 3 or not all(0 < edge < float("inf") for edge in spacing):
        raise ValueError(f"spacing must hold three lengths in mm, got {values['spacing']}")
    if axes is not None and not isinstance(axes, str):
        raise TypeError(f"axes must be a word such as RAS, got {axes!r}")
    model = build_detector(config, spacing, Intensity(**values["intensity"]), axes=axes)
    threshold, rule = values.get("score_threshold"), values.get("threshold_rule")  # older: neither
    if threshold is not None and not math.isfinite(threshold):
        raise ValueError(f"score_threshold must be a finite number or None, got {threshold!r}")
    if rule is not None and not isinstance(rule, str):
        raise TypeError(f"threshold_rule must be words or None, got {rule!r}")
    threshold = None if threshold is None else float(threshold)
    return replace(model, score_threshold=threshold, threshold_rule=rule)


def keep_threshold(path: str | os.PathLike[str], model: LesionDetector) -> None:
    """Write the detector's score threshold into the checkpoint of its training.

    Args:
        path: The checkpoint; all else in it stays.
        model: The detector, as `choose_threshold` gives it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of this package.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
        >>> model = build_detector(TrainingConfig(), (1.0, 1.0, 2.0), Intensity("scan"))
        >>> save_checkpoint(path, model)
        >>> keep_threshold(path, replace(model, score_threshold=0.4, threshold_rule="given"))
        >>> load_checkpoint(path, device="cpu").score_threshold
        0.4
    """
    values = read_checkpoint(path)
    chosen = {"score_threshold": model.score_threshold, "threshold_rule": model.threshold_rule}
    _save(path, {**values, **chosen})


def adapted(model: LesionDetector) -> checkpoint.LesionDetector:
    """The same detector, as `detect` takes it."""
    config, intensity = model.config, model.intensity
    kept = {
        "axes": None,
        "spacing": model.spacing,
        "patch_size": config.patch,
        "channels": config.channels,
        "strides": (2,) * len(config.channels),
        "feature_channels": config.feature_channels,
        "anchor_sizes": config.anchor_sizes,
        "lowest_score": config.score_threshold,
        "nms_threshold": config.nms_threshold,
        "window_overlap": config.window_overlap,
        "intensity": None if intensity.method == "scan" else (intensity.mean, intensity.spread),
    }
    return replace(
        checkpoint.fresh_detector(kept),
        detector=model.detector,
        score_threshold=model.score_threshold,
        threshold_rule=model.threshold_rule,
    )


def _reason(error: Exception) -> str:
    """The first line of the message, or the kind of error if there is none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that the file holds, on the CPU."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} must be a file, found none")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign or damaged pickle may raise anything
        raise ValueError(
            f"checkpoint {path} must be a readable checkpoint, got: {_reason(error)}"
        ) from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise ValueError(f"checkpoint {path} must be written by softoverlap, got another format")
    if values.get("version") != _VERSION or any(key not in values for key in _KEYS):
        raise ValueError(
            f"checkpoint {path} must have version {_VERSION} and the keys {list(_KEYS)}, "
            f"got version {values.get('version')} and {sorted(map(str, values))}"
        )
    return values
