"""Docstrings of a family: what is said of each member, within what is said of all of them."""

from __future__ import annotations

import re
from inspect import cleandoc

_ORDER = ("Args", "Returns", "Raises", "References", "Examples")


def joined(own: str, shared: str) -> str:
    """The docstring of one member.

    Args:
        own: Summary, description, and sections of its own.
        shared: Sections of the family. The member's arguments take the place of one that is called
            `parameters`, or come first.

    Returns:
        The docstring, in Google's form.
    """
    mine, parts = _sections(own), _sections(shared)
    arguments, own_arguments = parts.get("Args", ""), mine.pop("Args", "")
    both, places = re.subn(r"(?m)^    parameters: .*\n", lambda _: own_arguments, arguments)
    parts |= mine | {"Args": both if places else own_arguments + arguments}
    return "\n".join([mine[""], *(f"{name}:\n{parts[name]}" for name in _ORDER if name in parts)])


def _sections(text: str) -> dict[str, str]:
    """What stands below each heading, and by the empty name what stands above the first."""
    head, *rest = re.split(rf"(?m)^({'|'.join(_ORDER)}):\n", cleandoc(text) + "\n")
    below = zip(rest[::2], rest[1::2], strict=True)
    return {"": head.rstrip() + "\n"} | {name: lines.rstrip() + "\n" for name, lines in below}
