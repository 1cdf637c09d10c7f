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
from softoverlap.images import read_plan

_OF_PLAN = ("expected_quality",)


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


def _alike(value: Any, planned: Any) -> bool:
    """Equal, numbers but for a thousandth."""
    if isinstance(planned, str):
        return value == planned
    try:
        return bool(np.allclose(value, planned, rtol=1e-3))
    except (TypeError, ValueError):
        return False
