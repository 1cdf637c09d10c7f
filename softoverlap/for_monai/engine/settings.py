"""What a network was trained with, kept in its checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from softoverlap._checks import refusal

_EARLIER = "softoverlap detector"
"""The format of checkpoints from before training was a bundle."""

_NEEDED = (
    "axes", "spacing", "in_channels", "num_classes", "channels", "feature_channels", "strides",
    "sizes", "num_levels", "anchor_sizes", "iou_branch", "intensity", "patch_size", "lowest_score",
    "nms_threshold", "window_overlap", "class_names", "channel_names",
)  # fmt: skip
"""What a detection asks of a checkpoint."""

_LATER: Mapping[str, Any] = {
    "nonzero": False, "score": None, "class_values": None, "head": "anchors",
}  # fmt: skip
"""Settings that earlier checkpoints lack, and what they were then."""


class RunSettings:
    """Settings that a checkpoint keeps, and that whoever loads it must have too.

    With other anchors, another spacing or other axes the weights would load and give wrong boxes.
    Saved with them (`save_dict={"settings": settings, "network": network}`) and loaded before
    them, the settings make that an error.

    Args:
        free: Names of settings that are kept as well, but may differ on loading.
        settings: Numbers, texts, None, and lists of these, by name.

    Raises:
        ValueError: If `free` names what is no setting.

    Examples:
        >>> settings = RunSettings(spacing=[1.0, 1.0, 2.0], batch_size=4, free=["batch_size"])
        >>> settings.load_state_dict({"spacing": [1, 1, 2], "batch_size": 2})
        >>> settings.load_state_dict({"spacing": None, "batch_size": 4})
        Traceback (most recent call last):
        ValueError: spacing must be None, as in the training of the checkpoint, got [1.0, 1.0, 2.0]
    """

    def __init__(self, *, free: Sequence[str] = (), **settings: Any) -> None:
        self.settings = {name: _plain(value) for name, value in settings.items()}
        unknown = [name for name in free if name not in settings]
        if unknown:
            raise refusal("free", f"must name settings among {list(settings)}, got {unknown}")
        self.free = tuple(free)

    def state_dict(self) -> dict[str, Any]:
        """The settings, as a checkpoint keeps them."""
        return dict(self.settings)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with the settings of a checkpoint; nothing is taken over.

        Args:
            state: What `state_dict` gave in the training.

        Raises:
            ValueError: If a setting that is not free differs; the message names all that do.
        """
        state = {**_LATER, **state}
        told = [
            f"{name} must be {_plain(state.get(name))!r}, as in the training of the checkpoint, "
            f"got {value!r}"
            for name, value in self.settings.items()
            if name not in self.free and value != _plain(state.get(name))
        ]
        if told:
            raise ValueError("; ".join(told))


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that a checkpoint keeps, and its score threshold; nothing in it is executed.

    Args:
        path: A checkpoint of the bundle or of `softoverlap train`.

    Returns:
        What `RunSettings.state_dict` gave in the training, by name; `score_threshold`, from which
        on a box is a finding, and `threshold_rule`, how it was chosen, both None where none was.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint; the message names it.

    Examples:
        >>> read_settings("nothing.pt")
        Traceback (most recent call last):
        FileNotFoundError: checkpoint nothing.pt must be a file, found none
    """
    values = read_checkpoint(path)
    return {**values["settings"], **values["finding"]}


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that a checkpoint holds, on the CPU; nothing in it is executed.

    Args:
        path: A checkpoint of the bundle or of `softoverlap train`.

    Returns:
        `settings`, as `RunSettings` keeps them; `network`, the weights by name; `finding`, with
        `score_threshold` and `threshold_rule`, both None where none was chosen; and what else the
        file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such checkpoint; the message names it.

    Examples:
        >>> read_checkpoint("nothing.pt")
        Traceback (most recent call last):
        FileNotFoundError: checkpoint nothing.pt must be a file, found none
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} must be a file, found none")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign or damaged pickle may raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"checkpoint {path} must be a readable checkpoint, got: {reason}"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(
            f"checkpoint {path} must be written by softoverlap, got a {type(values).__name__}"
        )
    _check_content(values, path)
    settings = {**_LATER, **values["settings"]}
    return {**values, "settings": settings, "finding": _finding(values.get("finding"), path)}


def _check_content(values: Mapping[Any, Any], path: Path) -> None:
    if values.get("format") == _EARLIER:
        raise ValueError(
            f"checkpoint {path} must be trained again: it was written by an earlier version of "
            "softoverlap, whose networks this one does not read"
        )
    for key in ("settings", "network"):
        if not isinstance(values.get(key), Mapping):
            raise ValueError(
                f"checkpoint {path} must be written by softoverlap and hold its {key}, got "
                f"{sorted(map(str, values))}"
            )
    missing = [name for name in _NEEDED if name not in values["settings"]]
    if missing:
        raise ValueError(
            f"checkpoint {path} must keep all settings of its training, but lacks "
            f"{', '.join(missing)}: train again"
        )


def _finding(finding: Any, path: Path) -> dict[str, Any]:
    """The score threshold and how it was chosen, both None where none was."""
    known = finding if isinstance(finding, Mapping) else {}
    threshold, rule = known.get("score_threshold"), known.get("threshold_rule")
    is_number = isinstance(threshold, (int, float)) and math.isfinite(threshold)
    if not (is_number or threshold is None) or not isinstance(rule, str | None):
        raise ValueError(
            f"checkpoint {path} must hold a finite score_threshold with its rule in words, got "
            f"{threshold!r} and {rule!r}"
        )
    return {
        "score_threshold": None if threshold is None else float(threshold),
        "threshold_rule": None if threshold is None else rule,
    }


def _plain(value: Any) -> Any:
    """Lists in place of tuples, all the way down."""
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
