"""The classes and functions that a user's settings name, looked up before any scan is read."""

from __future__ import annotations

import difflib
import pydoc
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ComponentLocator

from softoverlap._checks import refusal
from softoverlap.for_monai import taken_by

_TARGET = "_target_"
_EXPRESSIONS = ("$", "@", "%")


def check_targets(values: Mapping[str, Any], argument: str, place: str = "") -> None:
    """Each `_target_` must be there; MONAI looks when it makes the part, and names no file.

    Args:
        values: Settings by name.
        argument: The argument that they come from.
        place: Where they stand, in words that end the message.

    Raises:
        ValueError: If one names no class or function.

    Examples:
        >>> check_targets({"box_loss": {"_target_": "torch.nn.L1Loss"}}, "config")
        >>> check_targets({"box_loss#_target_": "torch.nn.L1Los"}, "settings")
        Traceback (most recent call last):
        ValueError: settings must name ... that exist, got torch.nn.L1Los for box_loss#_target_: ...
    """
    short = ComponentLocator()  # which looks through MONAI once, at the first name without a dot
    for name, target in _targets(values):
        if "." not in target and short.get_component_module_name(target):
            continue
        try:
            found = pydoc.locate(target) is not None
        except pydoc.ErrorDuringImport as error:
            complaint = f"must name parts that can be imported, got {target} for {name}{place}"
            raise refusal(argument, f"{complaint}: {error.value}") from error
        if not found:
            complaint = f"must name classes and functions that exist, got {target} for {name}"
            raise refusal(argument, f"{complaint}{place}{_hint(target)}")


def check_box_codes(config: Mapping[str, Any]) -> None:
    """`box_codes` is as the box loss takes it; the detector looks when it is made.

    Args:
        config: A whole configuration. What stands there as an expression is left to the detector.

    Raises:
        ValueError: If a loss of boxes or of masks would be given codes, or one of codes boxes.

    Examples:
        >>> check_box_codes({"box_loss": {"_target_": "torch.nn.L1Loss"}, "box_codes": True})
        >>> box_loss = {"_target_": "softoverlap.losses.BoxGIoULoss"}
        >>> check_box_codes({"box_loss": box_loss, "box_codes": True})
        Traceback (most recent call last):
        ValueError: box_codes must be false for BoxGIoULoss, which takes boxes, got true
    """
    codes, part = config["box_codes"], config["box_loss"]
    target = part.get(_TARGET) if isinstance(part, Mapping) else None
    if not isinstance(codes, bool) or not isinstance(target, str) or target[:1] in _EXPRESSIONS:
        return
    takes = _taken(target)
    if takes is not None and codes != (takes == "codes"):
        wanted, got = (str(one).lower() for one in (not codes, codes))
        name = target.rpartition(".")[2]
        raise refusal("box_codes", f"must be {wanted} for {name}, which takes {takes}, got {got}")


def _taken(target: str) -> str | None:
    """What a loss of this package takes; None for any other."""
    try:
        loss = pydoc.locate(target)
    except pydoc.ErrorDuringImport:  # which the bundle will say
        return None
    return taken_by(loss) if isinstance(loss, type) else None


def _targets(values: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Name and value of each target all the way down, but for expressions and disabled parts."""
    if not isinstance(values, (dict, list)) or "_disabled_" in values:
        return
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        name = f"{above}#{key}" if above else str(key)
        if name.endswith(_TARGET) and isinstance(value, str) and value[:1] not in _EXPRESSIONS:
            yield name, value
        yield from _targets(value, name)


def _hint(target: str) -> str:
    """Names like it in its module."""
    module, _, last = target.rpartition(".")
    there = dir(pydoc.locate(module)) if module else []
    near = difflib.get_close_matches(last, there, n=2)
    return f": did you mean {' or '.join(near)}?" if near else ""
