"""What was read from a file together with what its reader should know about it."""

from __future__ import annotations

import warnings
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")


class Noted(NamedTuple, Generic[Value]):
    """A value, and notes for whoever uses it.

    Args:
        value: The result itself.
        notes: Sentences that a user should read, in the order in which they came up.

    Examples:
        >>> noted = Noted(3, ("a.nii has two affines",))
        >>> noted.value, len(noted.notes)
        (3, 1)
    """

    value: Value
    notes: tuple[str, ...] = ()

    def warned(self) -> Value:
        """The value alone; each note becomes a warning of the function that called the caller."""
        warn_of(self.notes, stacklevel=4)
        return self.value


def warn_of(notes: tuple[str, ...], *, stacklevel: int = 3) -> None:
    """Emit each note as a warning, for a caller who gets no place to find it."""
    for note in notes:
        warnings.warn(note, stacklevel=stacklevel)
