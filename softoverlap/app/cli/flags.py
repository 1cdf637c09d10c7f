"""Names of arguments in messages: the library names its own, a user reads those of the command."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import get_type_hints

import typer

_SPELLINGS = {
    "axis_order": ("axis_order", "`softoverlap convert --axis-order`"),
    "batch_size": ("batch",),
    "folder": ("data",),
    "format": ("from_format", "`softoverlap convert --from`"),
    "fraction": ("validation",),
    "frame": ("frame", "`softoverlap convert --frame`"),
    "labels": ("labels", "label"),
    "image": ("image", "`softoverlap convert --image`"),
    "at": ("at_score",),
    "patch_size": ("patch",),
    "memory_gb": ("step_memory",),
    "model": ("checkpoint",),
    "path": ("output",),
    "pred": ("masks",),
    "score_table": ("scores",),
    "settings": ("chosen",),
    "sources": ("images",),
}
"""What commands call an argument of the library, where it is not its own name: parameters of the
running command, or, where that has none, the option of another command."""

_ARGUMENT = re.compile(r"(?<![^\s(])`([a-z_]\w*)=([^`\s]*)`(?![^\s,;:.)]|\.\S)")
"""An argument as messages of the library write it, `` `name=` `` or `` `name=value` ``, apart."""

_running: Callable[..., None] | None = None


@contextlib.contextmanager
def running(command: Callable[..., None] | None) -> Iterator[None]:
    """While this command runs, messages have its flags."""
    global _running
    before, _running = _running, command
    try:
        yield
    finally:
        _running = before


def in_flags(text: str) -> str:
    """The text with the flags of the running command in place of the library's arguments."""

    def flag(match: re.Match[str]) -> str:
        name, value = flag_of(match[1]), match[2].strip("'")
        return match[0] if name is None else name if value in ("", "True") else f"{name} {value}"

    return _ARGUMENT.sub(flag, text)


def flag_of(argument: str) -> str | None:
    """What the running command calls an argument of the library, None if it has none."""
    flags = {} if _running is None else _flags_of(_running)
    for spelling in (argument, *_SPELLINGS.get(argument, ())):
        if spelling in flags:
            return flags[spelling]
        if spelling.startswith("`"):
            return spelling
    return None


@functools.cache
def _flags_of(command: Callable[..., None]) -> dict[str, str]:
    """Options and arguments of a command, by the name of their parameter."""
    flags: dict[str, str] = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        for info in getattr(hint, "__metadata__", ()):
            if isinstance(info, typer.models.ArgumentInfo):
                flags[name] = info.metavar or name.upper()
            else:  # typer takes the first declaration for the default, here never a real one
                option = info.default if isinstance(info.default, str) else None
                flags[name] = option or f"--{name.replace('_', '-')}"
    return flags
