"""How the members of a family show themselves: docstrings, and the name in an error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import cleandoc, signature
from types import FunctionType
from typing import Any

_ORDER = ("Args", "Returns", "Raises", "References", "Examples")


class Family:
    """Classes that describe what is their own; their base describes the rest, once.

    A docstring is joined with the base's: arguments in the order of the signature, what is raised,
    and references where there are no own ones.
    """

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        own_init(cls)
        base = cls.__mro__[1]
        if base is not Family and cls.__doc__ and base.__doc__:
            cls.__doc__ = joined(cls.__doc__, base.__doc__, signature(cls).parameters)


def own_init(cls: type) -> None:
    """Let a class own the `__init__` that it inherits, so that a misspelt argument names the class.

    Python's message is that of the function: `SoftDiceLoss.__init__() got an unexpected keyword
    argument`, though `SoftIoULoss` was called.
    """
    theirs: Any = cls.__init__
    if "__init__" in vars(cls) or not isinstance(theirs, FunctionType):
        return
    parts = (theirs.__code__, theirs.__globals__, "__init__", theirs.__defaults__)
    mine: Any = FunctionType(*parts, theirs.__closure__)
    mine.__kwdefaults__, mine.__annotations__ = theirs.__kwdefaults__, theirs.__annotations__
    mine.__doc__, mine.__module__ = theirs.__doc__, cls.__module__
    mine.__qualname__ = f"{cls.__qualname__}.__init__"
    vars(mine).update(vars(theirs))
    cls.__init__ = mine


def joined(own: str, shared: str, arguments: Iterable[str]) -> str:
    """The docstring of a member.

    Args:
        own: Its summary, its description, and sections of its own in Google's form.
        shared: The family's docstring, of which the sections count, but for the examples.
        arguments: Names in order; each is described by the member, else by the family.

    Returns:
        The docstring.
    """
    mine, common = _sections(own), _sections(shared)
    described = _entries(common.pop("Args", "")) | _entries(mine.pop("Args", ""))
    parts = {name: mine.get(name, common.get(name, "")) for name in _ORDER}
    parts["Args"] = "".join(described.get(name, "") for name in arguments)
    parts["Examples"] = mine.get("Examples", "")
    return "\n".join([mine[""], *(f"{name}:\n{text}" for name, text in parts.items() if text)])


def _sections(text: str) -> dict[str, str]:
    """What stands below each heading, and by the empty name what stands above the first."""
    head, *rest = re.split(rf"(?m)^({'|'.join(_ORDER)}):\n", cleandoc(text) + "\n")
    below = zip(rest[::2], rest[1::2], strict=True)
    return {"": head.rstrip() + "\n"} | {name: lines.rstrip() + "\n" for name, lines in below}


def _entries(arguments: str) -> dict[str, str]:
    """The lines of each argument by its name."""
    _, *rest = re.split(r"(?m)^(    \w+: )", arguments)
    both = zip(rest[::2], rest[1::2], strict=True)
    return {name.strip(" :"): name + lines for name, lines in both}
