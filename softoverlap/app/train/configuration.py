"""The bundle's training with a plan and a user's settings filled in."""

from __future__ import annotations

import copy
import difflib
import functools
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from softoverlap._checks import own_error, refusal
from softoverlap.app.train.heads import check_head, has_centre_head
from softoverlap.app.train.planned import check_plan, planned_settings
from softoverlap.app.train.targets import check_box_codes, check_targets
from softoverlap.bundles import LESION_DETECTION

STEPS = 1500
"""Steps of a run whose length nobody names."""

_LENGTHS = ("steps", "max_epochs", "train#trainer#max_epochs")
_DETECTS = (
    "network_def", "network", "detector", "detector_ops", "train#fixed_transforms",
    "validate#preprocessing",
)  # fmt: skip
_PARTS = ("network_def", "network", "detector")
_ONLY_MATCHES = tuple(
    f"detector#{name}" for name in ("overlap", "normalize", "matcher", "weighting")
)
_OF_DATA = (
    "layout", "images", "frame", "validation", "split_seed", "folds", "fold", "threshold", "axes",
)  # fmt: skip
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("batch_size", "epoch_steps", "steps", "max_epochs", "val_interval", "patience"),
        lambda value: isinstance(value, int) and value > 0,
        "be a whole number above 0",
    ),
    (("learning_rate", "clip_norm", "minutes"), lambda value: 0 < value < inf, "be above 0"),
    (("weight_decay", "seed"), lambda value: 0 <= value < inf, "be at least 0"),
    (
        ("warmup", "foreground", "lowest_score", "nms_threshold", "cache_rate"),
        lambda value: 0 <= value <= 1,
        "lie in [0, 1]",
    ),
    (("window_overlap", "validation"), lambda value: 0 <= value < 1, "lie in [0, 1)"),
    (("threshold",), lambda value: 0 < value <= 1, "lie in (0, 1]"),
)


def training_config(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    plan: str | os.PathLike[str] | None = None,
    config: Sequence[str | os.PathLike[str]] = (),
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The configuration `train.yaml` of the bundle, with everything filled in that was said.

    What comes later wins: the plan, then with `head: centre` the bundle's `centre.yaml`, then the
    files, then the settings. A warning names changed parts that a detection has too, and that no
    checkpoint keeps.

    Args:
        data: The folder to train on.
        output: The folder for the results.
        plan: A file of `softoverlap plan`.
        config: Files of settings, YAML or JSON, as MONAI reads them.
        settings: Values by their names in `train.yaml`, such as `max_epochs` or
            `matcher#num_candidates`. An ending that no other name has is enough:
            `trainer#max_epochs`. Without a number of steps or epochs, a run has 1500 steps.

    Returns:
        The configuration, as MONAI's `ConfigParser` takes it.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file cannot be read, the plan is one in 2D, a name is unknown, a
            `_target_` does not exist, a number at the top of `train.yaml` is out of range,
            `box_codes` is not what the box loss takes, or the anchors of a plan would stand at
            another spacing or along other axes than it was made for, or a centre head has no
            plan or is given what matches anchors.

    Examples:
        >>> made = training_config("scans", "runs/mine", settings={"trainer#amp": False})
        >>> made["train"]["trainer"]["amp"], made["steps"]
        (False, 1500)
        >>> training_config("scans", "runs/mine", settings={"max_epoch": 3})
        Traceback (most recent call last):
        ValueError: settings must name settings of train.yaml, got max_epoch: did you mean ...
    """
    parser = ConfigParser(bundled("train.yaml"))
    known = list(_names(parser.config))
    planned = {} if plan is None else planned_settings(plan)
    parser.update(planned)
    read = [_read(path) for path in config]
    chosen = {_full_name(name, known): value for name, value in (settings or {}).items()}
    if has_centre_head([*read, chosen]):
        merge(parser, bundled("centre.yaml"))
    for path, values in zip(config, read, strict=True):
        _check_used(path, values, known, read)
        merge(parser, values)
    parser.update(chosen)
    if not any(name.endswith("imports") for values in read for name in values):  # as they add paths
        for path, values in zip(config, read, strict=True):
            check_targets(values, "config", f" in {path}")
        check_targets(chosen, "settings")
    said = {*chosen, *(name for values in read for name in values)}
    if not said & set(_LENGTHS):
        parser["steps"] = STEPS
    parser.update({"data_dir": str(data), "output_dir": str(output)})
    made: dict[str, Any] = parser.get()
    _check_ranges(made)
    check_head(made, bundled("train.yaml"))
    made["patch_size"] = _three(made["patch_size"])
    _check_patch(made)
    check_plan(made, planned)
    check_box_codes(made)
    _warn_of_detection(made)
    return made


def follow(config: Mapping[str, Any], file: str, settings: Mapping[str, Any]) -> ConfigParser:
    """The configuration with a file of the bundle after it, as `evaluate.yaml`, and settings."""
    parser = ConfigParser(copy.deepcopy(dict(config)))
    merge(parser, bundled(file))
    parser.update(dict(settings))
    return parser


def parts_of_detection(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Network and detector of a training, if changed, as they follow `inference.yaml`."""
    changed = {name.partition("#")[0] for name in _changed_of_detection(config)}
    parts = {name: config[name] for name in _PARTS if name in changed}
    if not parts:
        return []
    if "detector" in parts:
        parts["detector"] = {
            name: value for name, value in parts["detector"].items()
            if f"detector#{name}" not in _ONLY_MATCHES
        }  # fmt: skip
    own = bundled("train.yaml")
    mine = {name: value for name, value in config.items() if name not in own}  # which they may name
    return [copy.deepcopy({**mine, **parts})]


def _changed_of_detection(config: Mapping[str, Any]) -> list[str]:
    """Names of changed settings of parts that a detection has too."""
    parsers = [ConfigParser(values) for values in (bundled("train.yaml"), dict(config))]
    parts = [{name: one.get(name) for name in _DETECTS} for one in parsers]
    return [name for name in different(*parts) if not name.startswith(_ONLY_MATCHES)]


def data_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says of the data set, before any of its parts is made.

    Args:
        config: A configuration of `training_config`.

    Returns:
        Values by name: how the scans are read, which of them train, and what a lesion is.

    Examples:
        >>> made = data_settings(training_config("scans", "out", settings={"threshold": 0.3}))
        >>> made["threshold"], made["folds"]
        (0.3, None)
    """
    parser = ConfigParser(dict(config))
    return {name: parser.get_parsed_content(name) for name in _OF_DATA}


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings, all the way down, in which two configurations differ."""
    values = [dict(_leaves(config)) for config in (one, other)]
    names = dict.fromkeys([*values[0], *values[1]])
    return [name for name in names if values[0].get(name) != values[1].get(name)]


def bundled(file: str) -> dict[str, Any]:
    """A file of the bundle, which may be changed: it takes longer to parse than to copy."""
    return copy.deepcopy(_parsed_once(file))


@functools.cache
def _parsed_once(file: str) -> dict[str, Any]:
    return ConfigParser.load_config_file(str(LESION_DETECTION / "configs" / file))


def _check_ranges(config: Mapping[str, Any]) -> None:
    """Numbers at the top in their range; expressions are left to what they are for."""
    for names, fits, expected in _RANGES:
        for name in names:
            value = config[name]
            if value is None or (isinstance(value, str) and value[:1] in ("$", "@")):
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not fits(value):
                raise refusal(name, f"must {expected}, got {value}")


def _three(patch: Any) -> Any:
    """The edges of a patch: one number stands for all of them, and expressions for themselves."""
    if isinstance(patch, int):
        return [patch] * 3
    if isinstance(patch, list | tuple) and len(patch) != 3:
        raise refusal("patch_size", f"must be one whole number or three, got {patch}")
    return patch


def _check_patch(config: Mapping[str, Any]) -> None:
    """The patch can be halved as often as the network does it."""
    patch, strides = config["patch_size"], config["strides"]
    try:
        edges = np.broadcast_to(np.asarray(patch, dtype=int), 3)
        steps = [np.broadcast_to(np.asarray(step, dtype=int), 3) for step in strides]
    except (TypeError, ValueError):  # an expression, or what the network will refuse
        return
    total = np.prod(steps, axis=0) if config["sizes"] is None else steps[-1]
    if (edges < total).any() or (edges % total).any():
        every = set(total.tolist())
        words = f"{total[0]}" if len(every) == 1 else " x ".join(map(str, total))
        complaint = (
            f"must be a multiple of {words}, the network's stride, on each axis, got {patch}"
        )
        raise refusal("patch_size", complaint)


def _warn_of_detection(config: Mapping[str, Any]) -> None:
    """Checkpoints keep settings, not parts: of changed ones a detection does not know."""
    changed = _changed_of_detection(config)
    if changed:
        warnings.warn(
            f"{', '.join(changed)} will not be in the checkpoint: where they bear on more than the "
            "training, `softoverlap detect` needs them once more, in a file that follows "
            "inference.yaml (`--config`)",
            stacklevel=3,
        )


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise what went wrong, not the errors of the parser around it, which name the part.

    MONAI's table of metrics warns of a scan without lesions, which has no CPM; nothing is amiss.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", module=r"monai\.handlers\.")
            yield
    except RuntimeError as error:
        own = own_error(error)
        if "inline_container" in str(own):  # how PyTorch's writer of files says it
            own = OSError("a checkpoint could not be written: is the disk full?")
        raise own from (None if own is error else error)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A file of settings."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"config {path} must be a file of settings, found none")
    if Path(path).suffix.lower() not in (".yaml", ".yml", ".json"):
        raise refusal("config", f"must be a .yaml, .yml or .json file, got {path}")
    try:
        values = ConfigParser.load_config_file(str(path))
    except Exception as error:  # what PyYAML and MONAI raise has no common ancestor
        words = " ".join(str(error).split())
        raise refusal("config", f"must be readable YAML or JSON, got {path}: {words}") from error
    if not isinstance(values, dict):
        raise refusal("config", f"must hold settings by name, got {path} with {type(values)}")
    return values


def merge(parser: ConfigParser, values: Mapping[str, Any]) -> None:
    """Later values win; `+name` adds to what is there, as in MONAI's own files."""
    for name, value in values.items():
        merge_kv(parser, name, value)


def _check_used(
    path: str | os.PathLike[str],
    values: Mapping[str, Any],
    known: Sequence[str],
    read: Sequence[Mapping[str, Any]],
) -> None:
    """A name that is new must be used somewhere; else it is a slip."""
    text = json.dumps([dict(one) for one in read], default=str)
    for name in values:
        plain = name.removeprefix("+")
        if plain not in known and f"@{plain}" not in text and not _is_new_part(plain, known):
            complaint = f"must name settings of train.yaml, got {_hint(plain, known)}, in {path}"
            raise refusal("config", complaint)


def _is_new_part(name: str, known: Sequence[str]) -> bool:
    """A further argument of a part, `train#trainer#epoch_length`: its part knows what it takes."""
    parent, _, last = name.rpartition("#")
    return bool(last) and f"{parent}#_target_" in known


def _full_name(name: str, known: Sequence[str]) -> str:
    """The name as it stands in `train.yaml`."""
    if name in known:
        return name
    ends = [one for one in known if one.endswith(f"#{name}")]
    if len(ends) == 1:
        return ends[0]
    if len(ends) > 1:
        shown = ", ".join(ends[:4])
        raise refusal("settings", f"must name one setting of train.yaml, got {name}: {shown}")
    if _is_new_part(name, known):
        return name
    raise refusal("settings", f"must name settings of train.yaml, got {_hint(name, known)}")


def _hint(name: str, known: Sequence[str]) -> str:
    """The name, and those that look like it."""
    near = difflib.get_close_matches(name, known, n=3)
    return f"{name}: did you mean {' or '.join(near)}?" if near else name


def _names(config: Any, above: str = "") -> Iterator[str]:
    """Names of all settings, parts and their parts, `part#setting`."""
    if not isinstance(config, (dict, list)):
        return
    entries = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in entries:
        name = f"{above}#{key}" if above else str(key)
        yield name
        yield from _names(value, name)


def _leaves(config: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that are no parts, by name."""
    if isinstance(config, dict) and config:
        for key, value in config.items():
            yield from _leaves(value, f"{above}#{key}" if above else str(key))
    else:
        yield above, json.loads(json.dumps(config, default=str))
