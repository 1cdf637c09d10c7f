"""A result together with notes on how it was read."""

from __future__ import annotations

import warnings
from typing import TypeVar

Value = TypeVar("Value")

Noted = tuple[Value, tuple[str, ...]]
"""A value, and notes: sentences that its user should read, in the order in which they arose."""


def warned(noted: Noted[Value]) -> Value:
    """The value; each note becomes a warning at the caller of the calling function."""
    value, notes = noted
    warn_of(notes, stacklevel=4)
    return value


def warn_of(notes: tuple[str, ...], *, stacklevel: int = 3) -> None:
    """Emit each note as a warning, for functions that return a bare value."""
    for note in notes:
        warnings.warn(note, stacklevel=stacklevel)
