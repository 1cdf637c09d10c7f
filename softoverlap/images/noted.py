"""A result together with notes on how it was read."""

from __future__ import annotations

import warnings
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")


class Noted(NamedTuple, Generic[Value]):
    """A value, and notes for its user.

    Args:
        value: The result itself.
        notes: Sentences that a user should read, in the order in which they arose.

    Examples:
        >>> noted = Noted(3, ("a.nii has two affines",))
        >>> noted.value, len(noted.notes)
        (3, 1)
    """

    value: Value
    notes: tuple[str, ...] = ()

    def warned(self) -> Value:
        """The value; each note becomes a warning at the caller of the calling function."""
        warn_of(self.notes, stacklevel=4)
        return self.value


def warn_of(notes: tuple[str, ...], *, stacklevel: int = 3) -> None:
    """Emit each note as a warning, for functions that return a bare value."""
    for note in notes:
        warnings.warn(note, stacklevel=stacklevel)
