"""What a plan says of a training, and that its anchors stand where it chose them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from softoverlap._checks import refusal
from softoverlap.app.train.reading import CheckedScans
from softoverlap.images import read_plan

_OF_PLAN = ("expected_quality",)
_FAR = 1.5  # so many times finer or coarser is another kind of scan


def planned_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a plan says of a training, checked."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"plan {path} must be a file of `softoverlap plan`, found none")
    plan = read_plan(path)
    if plan.ndim != 3:
        raise refusal("plan", f"must be one in 3D, as the bundle trains, got 2D in {path}")
    values = json.loads(plan.to_json())
    return {name: v for name, v in values.items() if v is not None and name not in _OF_PLAN}


def check_plan(config: Mapping[str, Any], planned: Mapping[str, Any]) -> None:
    """The plan's anchors, which are in voxels, stand at its spacing and along its axes."""
    if any(config[name] != planned.get(name) for name in ("strides", "sizes")):
        return  # no plan, or anchors of the user's own
    for name in ("spacing", "axes"):
        value = ConfigParser(dict(config)).get_parsed_content(name)
        if name in planned and not _alike(value, planned[name]):
            complaint = f"must stay {planned[name]}, for which the plan chose its anchors, got"
            raise refusal(name, f"{complaint} {value}: train without the plan, or plan for it")


def doubts_about_plan(
    config: Mapping[str, Any], planned: Mapping[str, Any], scans: CheckedScans
) -> tuple[str, ...]:
    """What tells that a plan was made of other scans than those to train on."""
    found = [each(config, planned, scans) for each in (_doubt_about_spacing, _doubt_about_patch)]
    return tuple(f"{doubt}: was it made of these scans?" for doubt in found if doubt)


def _doubt_about_spacing(
    config: Mapping[str, Any], planned: Mapping[str, Any], scans: CheckedScans
) -> str | None:
    """A spacing that is far from that of the scans on some axis."""
    spacing = planned.get("spacing")
    if spacing is None or config["spacing"] != spacing:
        return None
    ratio = np.asarray(spacing, dtype=float) / np.asarray(scans.spacing)
    if np.maximum(ratio, 1 / ratio).max() <= _FAR:
        return None
    return f"the plan has a spacing of {_by(spacing)} mm, the scans one of {_by(scans.spacing)} mm"


def _doubt_about_patch(
    config: Mapping[str, Any], planned: Mapping[str, Any], scans: CheckedScans
) -> str | None:
    """A patch that would hold every scan though it were smaller by a step of the network."""
    patch, spacing = planned.get("patch_size"), config["spacing"]
    if patch is None or config["patch_size"] != patch or not isinstance(spacing, list):
        return None
    voxels = np.round(np.asarray(scans.extent) / np.asarray(spacing, dtype=float))
    if (np.asarray(patch) - planned["strides"][-1] < voxels).all():
        return None
    return (
        f"the plan has patches of {_by(patch)} voxels, larger than every scan, which has at most "
        f"{_by(voxels)} at its spacing"
    )


def _by(numbers: Any) -> str:
    """`2 x 2 x 1`."""
    return " x ".join(f"{number:.4g}" for number in numbers)


def _alike(value: Any, planned: Any) -> bool:
    """Equal, numbers but for a thousandth."""
    if isinstance(planned, str):
        return value == planned
    try:
        return bool(np.allclose(value, planned, rtol=1e-3))
    except (TypeError, ValueError):
        return False
