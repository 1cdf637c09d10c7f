"""A trained detector with all that it needs to read a scan, and the file that holds it."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data.meta_tensor import MetaTensor

from softoverlap._checks import check_axes, check_within, refusal
from softoverlap.app.train.configuration import bundled, merge
from softoverlap.app.train.device import pick_device
from softoverlap.for_monai import SoftRetinaNetDetector, read_checkpoint
from softoverlap.images import BoxFile, whole_file

_OF_ONE = {
    "in_channels": 1, "num_classes": 1, "class_names": None, "class_values": None,
    "channel_names": None,
}  # fmt: skip
"""What a training takes from its data set."""


@dataclass(frozen=True, eq=False)
class LesionDetector:
    """A detector, and how a scan is brought to what its network sees.

    Args:
        detector: The network with its anchors.
        settings: What its training keeps of itself, by the names of `train.yaml`: `spacing`,
            `axes`, `in_channels`, `class_names` and others.
        prepare: From a dict with the scan under `"image"`, a `MetaTensor` of shape (C, D, H, W), to
            one with what the network sees.
        score_threshold: Score from which on a box is a finding, or None.
        threshold_rule: How the threshold was chosen, such as `"f1 on 3 validation scans"`, or None.
        amp: On a GPU, compute in bfloat16 where it is safe.

    Examples:
        >>> model = fresh_detector()
        >>> model.settings["axes"], model.device
        ('RAS', device(type='cpu'))
    """

    detector: SoftRetinaNetDetector
    settings: Mapping[str, Any]
    prepare: Callable[[dict[Any, Any]], Any]
    score_threshold: float | int | None = None
    threshold_rule: str | None = None
    amp: bool = True

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.detector.network.parameters()).device


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    config: Sequence[str | os.PathLike[str] | Mapping[str, Any]] = (),
) -> LesionDetector:
    """Read a detector; nothing in the checkpoint is executed.

    It is built as `inference.yaml` of the bundle says, with the settings of the checkpoint.

    Args:
        path: A checkpoint of `softoverlap train` or of the bundle.
        device: Where the detector shall work; see `pick_device`.
        config: Files that follow `inference.yaml`, or what they would hold, for a network or a
            preparation of one's own, and for what may differ from the training. They are trusted,
            as code is.

    Returns:
        The detector, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of this package, or its weights or the files of `config`
            do not fit its settings.

    Examples:
        >>> load_checkpoint("nothing.pt")
        Traceback (most recent call last):
        FileNotFoundError: checkpoint nothing.pt must be a file, found none
    """
    target = pick_device(device)
    values = read_checkpoint(path)
    kept = {**values["settings"], **values["finding"]}
    model = _built(kept, path, config)
    try:
        model.detector.network.load_state_dict(values["network"])
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"checkpoint {path} must hold weights that fit its settings, or the file of its "
            f"network must be given in `config=`, got: {' '.join(str(error).split()):.200}"
        ) from error
    model.detector.to(target)
    return model


def fresh_detector(
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> LesionDetector:
    """A detector with fresh weights, the same for the same seed.

    Args:
        settings: Settings by the names of `train.yaml`, such as `spacing` or `anchor_sizes`; the
            others are its defaults, for one channel and one class.
        seed: Seed of the weights.
        device: Where the detector shall work; see `pick_device`.

    Returns:
        The detector, in evaluation mode, without a score threshold.

    Raises:
        ValueError: If a name is unknown, or a value does not fit.

    Examples:
        >>> fresh_detector({"spacing": [1.0, 1.0, 2.0]}).settings["spacing"]
        [1.0, 1.0, 2.0]
    """
    target, known = pick_device(device), _defaults()
    unknown = [name for name in settings or {} if name not in known]
    if unknown:
        raise refusal("settings", f"must be among {', '.join(known)}, got {', '.join(unknown)}")
    kept = {**known, **(settings or {}), "score_threshold": None, "threshold_rule": None}
    model = _built(kept, seed=seed)
    model.detector.to(target)
    return model


def write_checkpoint(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str] | LesionDetector,
    *,
    score_threshold: float | int | None = None,
    threshold_rule: str | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write what `load_checkpoint` needs, whole or not at all.

    Args:
        path: The file; an existing one is replaced.
        source: The weights and settings: a detector, or a checkpoint of a training, such as its
            `best.pt`, of which nothing else is taken.
        score_threshold: Score from which on a box is a finding; by default that of the source.
        threshold_rule: How the threshold was chosen, in words.
        training: What shall be told of the training: numbers and texts by name.

    Raises:
        FileNotFoundError: If the source or the folder does not exist.
        ValueError: If the source is no checkpoint of this package.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.pt"
        >>> write_checkpoint(path, fresh_detector(), score_threshold=0.4)
        >>> load_checkpoint(path, device="cpu").score_threshold
        0.4
    """
    values = _values(source)
    if score_threshold is not None:
        rule = threshold_rule or "given"
        values["finding"] = {"score_threshold": float(score_threshold), "threshold_rule": rule}
    if values["finding"]["score_threshold"] is None:
        del values["finding"]
    if training is not None:
        values["training"] = dict(training)
    content = io.BytesIO()
    torch.save(values, content)  # into memory: on a full disk its own writer hides the cause
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.getbuffer())


def _values(source: str | os.PathLike[str] | LesionDetector) -> dict[str, Any]:
    """Settings, weights, finding, and what is told of the training."""
    if not isinstance(source, LesionDetector):
        values = read_checkpoint(source)
        kept = ("settings", "network", "finding", "training")
        return {key: values[key] for key in kept if key in values}
    weights = source.detector.network.state_dict()
    return {
        "settings": dict(source.settings),
        "network": {name: weight.cpu() for name, weight in weights.items()},
        "finding": {
            "score_threshold": source.score_threshold,
            "threshold_rule": source.threshold_rule,
        },
    }


@functools.cache
def _defaults() -> Mapping[str, Any]:
    """The settings of `train.yaml` as it stands."""
    parser = ConfigParser(bundled("train.yaml"))
    parser.update(_OF_ONE)
    return parser.get_parsed_content("settings").state_dict()


def _built(
    kept: Mapping[str, Any],
    path: str | os.PathLike[str] | None = None,
    config: Sequence[str | os.PathLike[str] | Mapping[str, Any]] = (),
    *,
    seed: int = 0,
) -> LesionDetector:
    """What `inference.yaml` and the files that follow it make of settings, with fresh weights."""
    for file in config:
        if not isinstance(file, Mapping) and not Path(file).is_file():
            raise FileNotFoundError(f"`config=` must name files, found none at {file}")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _parsed(kept, config)
    except Exception as error:  # whatever the parts that the files name may raise
        raise ValueError(_complaint(error, path, config)) from error


def _parsed(
    kept: Mapping[str, Any], config: Sequence[str | os.PathLike[str] | Mapping[str, Any]]
) -> LesionDetector:
    # as a variable, what a checkpoint holds is a value: written into the configuration, texts that
    # begin with $ would be run
    parser = ConfigParser(bundled("inference.yaml"), globals={"kept_in_checkpoint": dict(kept)})
    for file in config:
        is_read = isinstance(file, Mapping)
        merge(parser, file if is_read else ConfigParser.load_config_file(str(file)))
    parser.update({"known": "$kept_in_checkpoint", "device": "cpu"})
    part = parser.get_parsed_content
    part("settings").load_state_dict(kept)
    part("detector_ops")
    model = LesionDetector(
        part("detector").eval(), part("settings").state_dict(), part("preparation"),
        part("score_threshold"), part("threshold_rule"), bool(part("amp")),
    )  # fmt: skip
    shares = {name: model.settings[name] for name in ("lowest_score", "nms_threshold")}
    check_within(0, 1, **shares)
    if model.settings["axes"] is not None:
        check_axes(model.settings["axes"], 3)
    _try_class_values(model)
    if not config:  # a preparation of a user's own may ask more of a scan
        _try_preparation(model)
    return model


def _try_class_values(model: LesionDetector) -> None:
    """Each class has a value, if any has."""
    classes = torch.arange(model.settings["num_classes"])
    boxes = BoxFile(torch.zeros(len(classes), 6).double(), labels=classes)
    boxes.with_class_values(model.settings["class_values"])


def _try_preparation(model: LesionDetector) -> None:
    """What does not fit is told now, and not with the first scan."""
    settings = model.settings
    affine = torch.diag(torch.tensor([*(settings["spacing"] or [1.0] * 3), 1.0]).double())
    blank = torch.zeros(settings["in_channels"], 4, 4, 4)
    model.prepare({"image": MetaTensor(blank, affine=affine)})


def _complaint(
    error: BaseException,
    path: str | os.PathLike[str] | None,
    config: Sequence[str | os.PathLike[str] | Mapping[str, Any]],
) -> str:
    """Whose fault it is, and the first error, which the parser's own hide."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    if config:
        files = ", ".join(map(str, config))
        return f"`config=` {files} must fit checkpoint {path}, got: {reason}"
    if path is not None:
        return f"checkpoint {path} must hold settings that fit this package, got: {reason}"
    return f"settings must fit each other, got: {reason}"
