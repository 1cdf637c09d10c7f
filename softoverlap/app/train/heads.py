"""Which head a training has, and what it takes of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from softoverlap._checks import refusal
from softoverlap.for_monai import detector_head

_CENTRE = "centre"
_OF_ANCHORS = ("overlap", "matcher", "weighting", "iou_branch")


def has_centre_head(said: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last of a user's settings that names a head names the centre head.

    Examples:
        >>> has_centre_head([{"head": "centre"}, {"seed": 1}])
        True
    """
    heads = [values["head"] for values in said if "head" in values]
    return heads[-1:] == [_CENTRE]


def check_head(config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """The head exists, and a centre head has strides, and no anchors to match.

    Args:
        config: A whole configuration.
        own: `train.yaml` as it stands.

    Raises:
        ValueError: If there is no such head, or a centre head has no plan or would ignore what
            was set of anchors.

    Examples:
        >>> own = {"head": "anchors", "sizes": None}
        >>> check_head(own, own)
        >>> check_head({**own, "head": "centre"}, own)
        Traceback (most recent call last):
        ValueError: head must be anchors where there is no plan, whose strides a centre head ...
    """
    detector_head(config["head"])
    if config["head"] != _CENTRE:
        return
    if config["sizes"] is None:
        complaint = "must be anchors where there is no plan, whose strides a centre head takes"
        raise refusal("head", f"{complaint}, got {_CENTRE}")
    for name in _OF_ANCHORS:
        if config[name] != own[name]:
            complaint = f"must stay {own[name]} with head {_CENTRE}, which has no anchors"
            raise refusal(name, f"{complaint}, got {config[name]}")
