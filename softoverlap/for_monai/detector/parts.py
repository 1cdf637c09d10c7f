"""The parts that a detector is made of, given or by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from torch import nn


def given_or_default(name: str, given: Any, default: Any) -> Any:
    """What was given, if it can be called; a class is not yet made, and a name is none."""
    if given is None:
        return default
    if isinstance(given, type) or not callable(given):
        raise TypeError(
            f"{name} must be an object such as {type(default).__name__}(), got {given!r}"
        )
    return given


def common_count(per_place: Sequence[int]) -> int:
    """The number of anchors at a place; 1 where levels differ, whose anchors are places then."""
    return per_place[0] if len(set(per_place)) == 1 else 1


def as_places(places: Sequence[int], per_place: Sequence[int]) -> list[int]:
    """Places of each level; times the common count they are the anchors of the level."""
    common = common_count(per_place)
    return [count * each // common for count, each in zip(places, per_place, strict=True)]


def anchors_of(network: nn.Module) -> AnchorGenerator:
    """The anchors that the network brings along."""
    generator = getattr(network, "anchor_generator", None)
    if not isinstance(generator, AnchorGenerator):
        raise ValueError(
            "anchor_generator must be given where the network has no `anchor_generator`, got None"
        )
    return generator
